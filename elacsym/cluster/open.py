"""Which kind of membership the settings ask for."""

from __future__ import annotations

import random

from elacsym.clock import Clock
from elacsym.cluster.dynamic import HeartbeatMembership
from elacsym.cluster.member import Member
from elacsym.cluster.membership import Alone, Membership
from elacsym.cluster.static import StaticMembership
from elacsym.config import Config
from elacsym.store.base import ObjectStore


def open_membership(config: Config, store: ObjectStore, clock: Clock, rng: random.Random) -> Membership:
    """The membership of this node, not yet started. `store` is asked for heartbeats only."""
    listed = [Member(e.node_id, e.url, e.role, e.weight) for e in config.listed_nodes]
    own = next((member for member in listed if member.node_id == config.node_id), None) or Member(
        config.node_id, config.advertise_url or _listening_url(config), config.node_type, config.node_weight
    )
    if listed:
        return StaticMembership(own, listed)
    if config.advertise_url is None:
        return Alone(own)
    return HeartbeatMembership(
        own,
        store,
        clock,
        rng,
        heartbeat_s=config.heartbeat_s,
        silent_s=config.heartbeat_silent_s,
    )


def _listening_url(config: Config) -> str:
    host = f"[{config.host}]" if ":" in config.host else config.host
    return f"http://{host}:{config.port}"
