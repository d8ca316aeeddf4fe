"""An operation: work that was begun in the background, and what became of it. One object each.

A frame of kind OPERATION around JSON. It is replaced by compare-and-swap while the work goes on, so that
other nodes see that its node lives, and for the last time when the work has ended.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

import orjson

from elacsym.errors import CorruptObject
from elacsym.format import frame

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Failure:
    """Why work failed: the HTTP status, the machine word and the message of the error."""

    status: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Operation:
    """What is known of an operation. Times are milliseconds since 1970, by the clock of its node.

    beat: grows while the work goes on. finished_ms: None for as long. result: what the work gave, any JSON;
    meaningless where there is a failure.
    """

    namespace: str
    token: str
    node: str
    started_ms: int
    nonce: str
    beat: int = 0
    finished_ms: int | None = None
    result: Any = None
    failure: Failure | None = None

    @property
    def is_running(self) -> bool:
        """Whether the work goes on."""
        return self.finished_ms is None

    def encode(self) -> bytes:
        """The object's bytes."""
        return frame.encode(frame.Kind.OPERATION, orjson.dumps({"format": FORMAT} | asdict(self)))

    @classmethod
    def decode(cls, data: bytes | memoryview, *, key: str) -> Self:
        """The operation in an object's bytes; `key` names it in errors. Raises CorruptObject."""
        body = frame.decode(data, key=key, kind=frame.Kind.OPERATION)
        try:
            value: dict[str, Any] = orjson.loads(body)
            if value.pop("format") != FORMAT:
                raise ValueError("unknown format")
            failure = value.pop("failure")
            return cls(**value, failure=None if failure is None else Failure(**failure))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CorruptObject(key, f"not an operation: {error}", offset=frame.HEADER_BYTES) from error
