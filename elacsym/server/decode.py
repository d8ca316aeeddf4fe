"""The bodies of v1 writes to what the engine takes. Strict: unknown fields are refused by their path."""

from __future__ import annotations

from typing import Any

from elacsym.compute import give_way
from elacsym.engine.request import ByFilter, Document, WriteRequest
from elacsym.engine.vector_values import decode_base64
from elacsym.errors import InvalidRequest, InvalidShape
from elacsym.server.decode_query import decode_filter
from elacsym.shapes import Fields, expect, kind
from elacsym.types import VECTOR, DocumentId

_DOCUMENT_FIELDS = frozenset({"id", VECTOR, "attributes"})
_MISSING = object()
_DOCUMENTS_AT_ONCE = 64  # half a millisecond


def upsert(body: Any) -> WriteRequest:
    """The body of an upsert. Base64 of `vector` becomes bytes; the engine knows the types and checks values.

    Raises InvalidShape, InvalidRequest.
    """
    fields = Fields(body)
    values = fields.require("documents", list)
    fields.end()
    documents: list[Document] = []
    # this loop runs once per document of a bulk load: plain look-ups, no calls into helpers while all is well
    for index, value in enumerate(values):
        if index % _DOCUMENTS_AT_ONCE == 0:
            give_way()
        if type(value) is not dict:
            raise InvalidShape(f"documents[{index}]", f"{kind(value)} where an object is expected")
        if not value.keys() <= _DOCUMENT_FIELDS:
            unknown = next(name for name in value if name not in _DOCUMENT_FIELDS)
            raise InvalidShape(f"documents[{index}].{unknown}", "unknown field")
        id_ = value.get("id", _MISSING)
        if type(id_) is not int and type(id_) is not str:
            raise _no_id(id_, f"documents[{index}].id")
        attributes = value.get("attributes")
        if attributes is None:
            attributes = {}
        elif type(attributes) is not dict:
            raise InvalidShape(
                f"documents[{index}].attributes", f"{kind(attributes)} where an object is expected"
            )
        elif VECTOR in attributes:
            raise InvalidRequest(
                f"documents[{index}].attributes.vector", "the vector stands beside the attributes"
            )
        vector = value.get(VECTOR)
        if vector is not None:
            if type(vector) is str:
                vector = decode_base64(vector, f"documents[{index}].vector")
            elif type(vector) is not list:
                raise InvalidShape(
                    f"documents[{index}].vector", f"{kind(vector)} where numbers or base64 are expected"
                )
            attributes[VECTOR] = vector
        documents.append(Document(id_, attributes))
    return upsert_of(documents)


def upsert_of(documents: list[Document]) -> WriteRequest:
    """The write of these documents. Raises InvalidRequest if there are none."""
    if not documents:
        raise InvalidRequest("documents", "nothing to write; give at least one document")
    return WriteRequest(upserts=documents, creates=False)


def delete(body: Any) -> WriteRequest:
    """The body of a delete: exactly one of `ids` and `filter`. Raises InvalidShape, InvalidRequest."""
    fields = Fields(body)
    given, condition = fields.optional("ids", list), fields.take("filter")
    fields.end()
    if (given is None) == (condition is None):
        raise InvalidShape("", "exactly one of the fields ids and filter is needed")
    if given is not None:
        if not given:
            raise InvalidRequest("ids", "nothing to delete; give at least one id")
        return WriteRequest(deletes=ids(given, "ids"))
    return WriteRequest(delete_by_filter=ByFilter(decode_filter(condition, "filter")))


def ids(value: Any, path: str) -> list[DocumentId]:
    """An array of document ids. Raises InvalidShape."""
    found = expect(value, list, path)
    for index, id_ in enumerate(found):
        if type(id_) is not int and type(id_) is not str:
            raise _no_id(id_, f"{path}[{index}]")
    return found


def _no_id(value: Any, path: str) -> InvalidShape:
    if value is _MISSING:
        return InvalidShape(path, "missing field")
    return InvalidShape(path, f"{kind(value)} where an unsigned 64-bit integer or a string is expected")
