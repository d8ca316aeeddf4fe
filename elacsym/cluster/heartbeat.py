"""Heartbeats as values: their bytes, what a listing of them says, and who is silent. No I/O, no clock.

A heartbeat is a frame of kind HEARTBEAT around JSON: format version, member, state (live or draining) and the
nonce of the process that sent it. Ages are differences of two times of modification, both by the store's own
clock: that of this node's last heartbeat, which is the store's present, and that of another's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from elacsym import setting_forms as forms
from elacsym.cluster.member import Health, Member, MemberState
from elacsym.errors import CorruptObject
from elacsym.format import frame, keys
from elacsym.store.base import ObjectInfo

FORMAT = 1
# what is silent for so long is not coming back: its object is removed
FORGET_MS = 3_600_000
# many stores tell times of modification in whole seconds
_GRAIN_MS = 1_000


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What a node says of itself. nonce: another one is another process."""

    member: Member
    nonce: str
    is_draining: bool = False


def encode(heartbeat: Heartbeat) -> bytes:
    """The object's bytes."""
    member = heartbeat.member
    body = {
        "format": FORMAT,
        "node": member.node_id,
        "url": member.url,
        "role": member.role,
        "weight": member.weight,
        "state": "draining" if heartbeat.is_draining else "live",
        "nonce": heartbeat.nonce,
    }
    return frame.encode(frame.Kind.HEARTBEAT, orjson.dumps(body))


def decode(data: bytes | memoryview, *, key: str) -> Heartbeat:
    """The heartbeat under `key`. Raises CorruptObject, also for one of another node or format. Unknown fields
    are for later releases."""
    body = frame.decode(data, key=key, kind=frame.Kind.HEARTBEAT)
    try:
        value = orjson.loads(body)
        if value["format"] != FORMAT:
            raise ValueError(f"format {value['format']!r} where this release knows {FORMAT}")
        heartbeat = _read(value)
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptObject(key, f"not a heartbeat: {error}", offset=frame.HEADER_BYTES) from error
    if keys.node(heartbeat.member.node_id) != key:
        raise CorruptObject(key, f"the heartbeat of {heartbeat.member.node_id!r}", offset=frame.HEADER_BYTES)
    return heartbeat


def _read(value: Mapping[str, Any]) -> Heartbeat:
    node_id, url, role, weight = (value[name] for name in ("node", "url", "role", "weight"))
    state, nonce = value["state"], value["nonce"]
    if not isinstance(node_id, str) or not isinstance(nonce, str):
        raise TypeError("node and nonce are texts")
    if role not in ("all", "indexer", "query") or state not in ("live", "draining"):
        raise ValueError(f"role {role!r}, state {state!r}")
    # their forms are those of the settings that they come from
    member = Member(node_id, forms.url(url), role, forms.weight(weight))
    return Heartbeat(member, nonce, state == "draining")


@dataclass(frozen=True, slots=True)
class Seen:
    """A heartbeat as it was read last. modified_ms: by the store's clock; is_corrupt: the object of that time
    failed its checks, `heartbeat` is an earlier one or None."""

    modified_ms: int
    heartbeat: Heartbeat | None
    is_corrupt: bool = False


def changed(known: Mapping[str, Seen], listed: Iterable[ObjectInfo], now_ms: int) -> dict[str, int]:
    """The nodes whose heartbeats have to be read again, with their times of modification. A node whose
    heartbeat has not changed costs nothing."""
    found: dict[str, int] = {}
    for info in listed:
        node_id = keys.id_of_node(info.key)
        if node_id is None:
            continue
        seen = known.get(node_id)
        # within the grain an equal time is not an equal object
        if seen is None or seen.modified_ms != info.modified_ms or now_ms - info.modified_ms < 2 * _GRAIN_MS:
            found[node_id] = info.modified_ms
    return found


def judge(known: Mapping[str, Seen], now_ms: int, silent_ms: float) -> list[MemberState]:
    """The members as their heartbeats tell, in order of node id. A node whose heartbeat cannot be read is
    silent; one of which nothing could ever be read is left out."""
    states = []
    for _, seen in sorted(known.items()):
        if seen.heartbeat is None:
            continue
        age_ms = max(0, now_ms - seen.modified_ms)
        grain_ms = 0 if seen.modified_ms % _GRAIN_MS else _GRAIN_MS
        if seen.is_corrupt or age_ms > silent_ms + grain_ms:
            health = Health.SILENT
        elif seen.heartbeat.is_draining:
            health = Health.DRAINING
        else:
            health = Health.LIVE
        states.append(MemberState(seen.heartbeat.member, health, age_ms / 1000))
    return states


def forgotten(known: Mapping[str, Seen], now_ms: int) -> list[str]:
    """The nodes whose heartbeats are so old that anybody may remove them."""
    return [node_id for node_id, seen in sorted(known.items()) if now_ms - seen.modified_ms > FORGET_MS]
