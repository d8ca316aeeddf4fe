"""The words that component schemas are made of."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

BOOLEAN: Json = {"type": "boolean"}
STRING: Json = {"type": "string"}
NUMBER: Json = {"type": "number"}
COUNT: Json = {"type": "integer", "minimum": 0}


def ref(name: str) -> Json:
    """A reference to a component schema."""
    return {"$ref": f"#/components/schemas/{name}"}


def object_of(properties: Json, required: list[str] | None = None, **more: Any) -> Json:
    """An object with these fields and no others."""
    shape: Json = {"type": "object", "properties": properties, "additionalProperties": False}
    return shape | ({"required": required} if required else {}) | more


def array(items: Json, **more: Any) -> Json:
    """An array of these."""
    return {"type": "array", "items": items} | more
