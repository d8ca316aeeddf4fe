"""Errors as the v2 API tells them: two fields, and texts that its clients know."""

from __future__ import annotations

from typing import Any

from elacsym.errors import InvalidShape, NamespaceNotFound
from elacsym.format.keys import is_valid_name

_NAME_CHARACTERS_MAX = 128


def body(error: Exception, message: str) -> dict[str, Any]:
    """The JSON form of an error that says `message`."""
    if isinstance(error, InvalidShape):
        message = f"Failed to deserialize the JSON body into the target type: {error.typed}"
    elif isinstance(error, NamespaceNotFound):
        message = f"🤷 {message}"
    return {"status": "error", "error": message}


def name_text(name: str) -> str:
    """What is wrong with the name of a namespace, as plain text."""
    limit = _NAME_CHARACTERS_MAX
    if len(name) > limit and is_valid_name(name[:limit]):
        return f"Invalid URL: Namespace `{name}` is too long, limit is currently {limit} characters"
    return "Invalid URL: Namespace contains invalid characters, must be [A-Za-z0-9-_.]"
