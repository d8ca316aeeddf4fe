"""Taking JSON apart strictly: every field is taken once with its JSON type, what is left over is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeVar, overload

import orjson

from elacsym.errors import InvalidShape

T = TypeVar("T")
_NAMES: dict[type, str] = {
    dict: "an object",
    list: "an array",
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "a boolean",
    type(None): "null",
}
_TYPED_EXPECTED: dict[type, str] = {
    dict: "a map",
    list: "a sequence",
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "a boolean",
    type(None): "null",
}
_SHOWN_CHARACTERS = 64


def kind(value: Any) -> str:
    """The JSON type of a value, in words; what is no JSON by the name of its type."""
    return _NAMES.get(type(value), type(value).__name__)


def shown(value: Any) -> str:
    """A value as JSON for messages, cut where it is long."""
    # what is cut off anyway need not be written
    begun = value[:_SHOWN_CHARACTERS] if isinstance(value, str | list | tuple) else value
    text = json.dumps(begun, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 3]}..."


def typed_kind(value: Any) -> str:
    """The JSON type of a value, and a short value itself, as decoders into typed structures show them."""
    if type(value) is dict:
        return "map"
    if type(value) is list:
        return "sequence"
    if value is None:
        return "null"
    shown = orjson.dumps(value).decode()
    if len(shown) > _SHOWN_CHARACTERS:
        shown = shown[:_SHOWN_CHARACTERS] + "…"
    if type(value) is str:
        return f"string {shown}"
    words = {bool: "boolean", int: "integer", float: "floating point"}
    return f"{words[type(value)]} `{shown}`"


def wrong_type(value: Any, wanted: type, path: str, *, expected: str | None = None) -> InvalidShape:
    """The refusal of a value that is not of the JSON type `wanted`; `expected` calls that by another name."""
    typed = f"invalid type: {typed_kind(value)}, expected {expected or _TYPED_EXPECTED[wanted]}"
    reason = f"{kind(value)} where {expected or _NAMES[wanted]} is expected"
    return InvalidShape(path, reason, typed=f"{path}: {typed}")


def missing_field(name: str, path: str) -> InvalidShape:
    """The refusal of the object at `path` (empty: the body) that lacks a field."""
    prefix = f"{path}: " if path else ""
    field = f"{path}.{name}" if path else name
    return InvalidShape(field, "missing field", typed=f"{prefix}missing field `{name}`")


def expect(value: Any, wanted: type[T], path: str) -> T:
    """`value` if it is of the JSON type `wanted` (true is no integer). Raises InvalidShape."""
    if type(value) is not wanted:
        raise wrong_type(value, wanted, path)
    return value


def number(value: Any, path: str) -> float:
    """`value` as a float if it is a number. Raises InvalidShape."""
    if type(value) is not float and type(value) is not int:
        raise wrong_type(value, float, path)
    return float(value)


def variant(value: Any, words: Sequence[str], path: str) -> str:
    """`value` if it is one of the words. Raises InvalidShape."""
    if type(value) is str and value in words:
        return value
    if type(value) is not str:
        raise wrong_type(value, str, path)
    quoted = [f"`{word}`" for word in words]
    either = " or ".join(quoted) if len(quoted) < 3 else f"one of {', '.join(quoted)}"
    raise InvalidShape(
        path,
        f"{value!r} where one of {', '.join(words)} is expected",
        typed=f"{path}: unknown variant `{value[:_SHOWN_CHARACTERS]}`, expected {either}",
    )


def strings(value: Any, path: str) -> tuple[str, ...]:
    """`value` if it is an array of strings. Raises InvalidShape."""
    return tuple(expect(v, str, f"{path}[{i}]") for i, v in enumerate(expect(value, list, path)))


class Fields:
    """The fields of one JSON object. An optional field that is null counts as absent."""

    __slots__ = ("_path", "_rest")

    def __init__(self, value: Any, path: str = "") -> None:
        """`path` is the JSON path of the object in error messages. Raises InvalidShape if it is none."""
        self._rest: dict[str, Any] = dict(expect(value, dict, path or "the body"))
        self._path = path

    def path(self, name: str) -> str:
        """The JSON path of a field."""
        return f"{self._path}.{name}" if self._path else name

    def has(self, name: str) -> bool:
        """Whether the field is there, null included."""
        return name in self._rest

    def take(self, name: str) -> Any:
        """The field's value, None if it is absent or null."""
        return self._rest.pop(name, None)

    def require(self, name: str, wanted: type[T]) -> T:
        """The field of this JSON type. Raises InvalidShape where it is absent or another."""
        if name not in self._rest:
            raise missing_field(name, self._path)
        return expect(self._rest.pop(name), wanted, self.path(name))

    @overload
    def optional(self, name: str, wanted: type[T]) -> T | None: ...
    @overload
    def optional(self, name: str, wanted: type[T], default: T) -> T: ...
    def optional(self, name: str, wanted: type[T], default: T | None = None) -> T | None:
        """The field of this JSON type, `default` where it is absent."""
        value = self._rest.pop(name, None)
        return default if value is None else expect(value, wanted, self.path(name))

    def number(self, name: str) -> float | None:
        """The field as a number, None where it is absent."""
        value = self._rest.pop(name, None)
        return None if value is None else number(value, self.path(name))

    def strings(self, name: str) -> tuple[str, ...]:
        """The field as an array of strings, empty where it is absent."""
        value = self._rest.pop(name, None)
        return () if value is None else strings(value, self.path(name))

    def rest(self) -> tuple[str, ...]:
        """The names of the fields that were not taken."""
        return tuple(self._rest)

    def end(self) -> None:
        """Raise InvalidShape if a field is left."""
        for name in self._rest:
            prefix = f"{self._path}: " if self._path else ""
            raise InvalidShape(self.path(name), "unknown field", typed=f"{prefix}unknown field `{name}`")
