"""Times as the v2 API tells them: RFC 3339, UTC."""

from __future__ import annotations

from datetime import UTC, datetime


def time_text(milliseconds: int) -> str:
    """The time of so many milliseconds since 1970."""
    moment = datetime.fromtimestamp(milliseconds // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03}Z"
