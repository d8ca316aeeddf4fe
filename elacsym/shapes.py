"""Taking JSON apart strictly: every field is taken once with its JSON type, what is left over is refused."""

from __future__ import annotations

from typing import Any, TypeVar, overload

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


def kind(value: Any) -> str:
    """The JSON type of a value, in words."""
    return _NAMES[type(value)]


def expect(value: Any, wanted: type[T], path: str) -> T:
    """`value` if it is of the JSON type `wanted` (true is no integer). Raises InvalidShape."""
    if type(value) is not wanted:
        raise InvalidShape(path, f"{kind(value)} where {_NAMES[wanted]} is expected")
    return value


def number(value: Any, path: str) -> float:
    """`value` as a float if it is a number. Raises InvalidShape."""
    if type(value) is not float and type(value) is not int:
        raise InvalidShape(path, f"{kind(value)} where a number is expected")
    return float(value)


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
            raise InvalidShape(self.path(name), "missing field")
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

    def end(self) -> None:
        """Raise InvalidShape if a field is left."""
        for name in self._rest:
            raise InvalidShape(self.path(name), "unknown field")
