"""Errors as the v2 API tells them: two fields, and texts that its clients know."""

from __future__ import annotations

import re
from typing import Any

from elacsym.errors import InvalidRequest, InvalidShape, MetricConflict, NamespaceNotFound, SchemaConflict
from elacsym.format.keys import is_valid_name
from elacsym.server.v2_schema import METRIC_NAMES
from elacsym.types import Metric

_NAME_CHARACTERS_MAX = 128
# the engine's path of a value in a document
_NESTED = re.compile(r"\A((?:upsert|patch)_(?:rows|columns)\[\d+\])\.attributes\.")
_IN_PATCH = re.compile(r"\A(patch_by_filter\.patch)\[0\]\.attributes\.")
_IN_COLUMN = re.compile(r"\A((?:upsert|patch)_columns)(\[\d+\])\.(.+?)((?:\[\d+\])?)\Z", re.DOTALL)
# clients know the refusal of a name to be shown without the place of the name
_SHOWN_NAME = re.compile(r"\A(?:queries\[\d+\]\.)?include_attributes\[\d+\]\Z")
# refusals that clients know with a mark in front
_BROKEN_HEARTED = (
    "distance_metric must be specified",
    "distance metric mismatch",
    "Writes not permitted",
    "attribute ",
)


def body(error: Exception, message: str) -> dict[str, Any]:
    """The JSON form of an error that says `message`."""
    if isinstance(error, InvalidShape):
        shown = f"Failed to deserialize the JSON body into the target type: {error.typed}"
        return {"status": "error", "error": shown}
    if isinstance(error, SchemaConflict):
        return {"status": "error", "error": f"🙅 {message}", "attribute": error.attribute}
    if isinstance(error, InvalidRequest):
        field = _field(error.field)
        message = f"{field}: {error.reason}" if field else error.reason
    if isinstance(error, MetricConflict):
        known, given = METRIC_NAMES[Metric(error.known)], METRIC_NAMES[Metric(error.given)]
        message = f"distance metric mismatch, expected {known}, got {given}"
    return told(getattr(error, "code", ""), message)


def _field(path: str) -> str:
    """The place in the request for the engine's: rows are flat here, and columns are named before their
    rows."""
    path = _IN_PATCH.sub(r"\1.", _NESTED.sub(r"\1.", path))
    return _SHOWN_NAME.sub("", _IN_COLUMN.sub(r"\1.\3\2\4", path))


def told(code: str, message: str) -> dict[str, Any]:
    """The JSON form of an error of which no more is known."""
    if code == NamespaceNotFound.code:
        message = f"🤷 {message}"
    elif message.startswith(_BROKEN_HEARTED):
        message = f"💔 {message}"
    return {"status": "error", "error": message}


def name_text(name: str) -> str:
    """What is wrong with the name of a namespace, as plain text."""
    limit = _NAME_CHARACTERS_MAX
    if len(name) > limit and is_valid_name(name[:limit]):
        return f"Invalid URL: Namespace `{name}` is too long, limit is currently {limit} characters"
    return "Invalid URL: Namespace contains invalid characters, must be [A-Za-z0-9-_.]"
