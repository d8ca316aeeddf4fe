"""Fields of requests that say nothing to this server: each is logged once."""

from __future__ import annotations

from collections.abc import Iterable

from elacsym.telemetry import get_logger

_LOG = get_logger("server")
# names come from clients: as many as they like, as long as they like
_NAMES_MAX = 256
_CHARACTERS_MAX = 64


class UnknownFields:
    """Which names were logged. Used on the event loop only."""

    def __init__(self) -> None:
        self._names: set[str] = set()

    def note(self, names: Iterable[str], namespace: str) -> None:
        """Log the names that were not logged yet."""
        for name in names:
            shown = name[:_CHARACTERS_MAX]
            if shown not in self._names and len(self._names) < _NAMES_MAX:
                self._names.add(shown)
                _LOG.warning(
                    "a field of a request is not known and was passed over", field=shown, namespace=namespace
                )
