"""Documents as the v2 API brings them: rows, or columns; and ids.

Values stay as they came, base64 included: the engine knows the types. Only a whole column of vectors in one
text is taken apart here, because its cuts follow from the number of documents.
"""

from __future__ import annotations

from typing import Any

from elacsym.compute import give_way
from elacsym.engine.request import Document
from elacsym.engine.vector_values import decode_base64
from elacsym.errors import InvalidRequest, InvalidShape
from elacsym.shapes import expect, missing_field, wrong_type
from elacsym.types import ID, DocumentId

_UINT_MAX = 2**64 - 1
_DOCUMENTS_AT_ONCE = 64  # half a millisecond
_MISSING = object()


def rows(value: Any, path: str) -> list[Document]:
    """An array of flat objects with an `id` each. Raises InvalidShape."""
    documents: list[Document] = []
    # this loop runs once per document of a bulk load: plain look-ups, no calls into helpers while all is well
    for index, row in enumerate(expect(value, list, path)):
        if index % _DOCUMENTS_AT_ONCE == 0:
            give_way()
        if type(row) is not dict:
            raise wrong_type(row, dict, f"{path}[{index}]")
        id_ = row.pop(ID, _MISSING)
        if type(id_) is not str and (type(id_) is not int or not 0 <= id_ <= _UINT_MAX):
            if id_ is _MISSING:
                raise missing_field(ID, f"{path}[{index}]")
            raise no_id(f"{path}[{index}].{ID}")
        documents.append(Document(id_, row))
    return documents


def columns(value: Any, path: str) -> list[Document]:
    """An object of equally long arrays, `id` among them. Raises InvalidShape, InvalidRequest."""
    table = dict(expect(value, dict, path))
    if ID not in table:
        raise InvalidRequest(path, f"the column `{ID}` is missing")
    found = ids(table.pop(ID), f"{path}.{ID}")
    for name, column in table.items():
        if type(column) is str:
            table[name] = _cut(column, len(found), f"{path}.{name}")
        elif type(column) is not list:
            raise wrong_type(column, list, f"{path}.{name}")
        elif len(column) != len(found):
            raise InvalidRequest(
                f"{path}.{name}", f"{len(column)} values where the column `{ID}` has {len(found)}"
            )
    if not table:
        return [Document(id_, {}) for id_ in found]
    names, documents = tuple(table), []
    for index, values in enumerate(zip(*table.values(), strict=True)):
        if index % _DOCUMENTS_AT_ONCE == 0:
            give_way()
        documents.append(Document(found[index], dict(zip(names, values, strict=True))))
    return documents


def ids(value: Any, path: str) -> list[DocumentId]:
    """An array of document ids. Raises InvalidShape."""
    found = expect(value, list, path)
    for index, id_ in enumerate(found):
        if type(id_) is not str and (type(id_) is not int or not 0 <= id_ <= _UINT_MAX):
            raise no_id(f"{path}[{index}]")
    return found


def no_id(path: str) -> InvalidShape:
    """The refusal of what is no document id at all."""
    return InvalidShape(
        path,
        "an unsigned 64-bit integer or a string is expected",
        typed=f"{path}: data did not match any variant of untagged enum Id",
    )


def _cut(text: str, count: int, path: str) -> list[bytes]:
    """The vectors of a whole column, as many as there are documents."""
    data = decode_base64(text, path)
    size, rest = divmod(len(data), count or 1)
    if rest or not size or not count:
        raise InvalidRequest(
            path, f"base64 of {len(data)} bytes where it holds the vectors of {count} documents"
        )
    return [data[start : start + size] for start in range(0, len(data), size)]
