"""Settings that contradict each other are refused before anything starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from elacsym.errors import ElacsymError

if TYPE_CHECKING:
    from elacsym.config import Config
    from elacsym.setting_forms import NodeEntry

PREFIX = "ELACSYM_"
INDEX_ID = "indexer-{index}"


class InvalidSetting(ElacsymError):
    """A setting that cannot be used; the message names it, its value and what is allowed."""

    code = "invalid_setting"


def check(config: Config) -> None:
    """Raise InvalidSetting for settings that exclude or need each other."""
    if config.body_bytes_in_flight_max < config.request_bytes_max:
        _refuse(
            "BODY_BYTES_IN_FLIGHT_MAX",
            f"{config.body_bytes_in_flight_max} is below {PREFIX}REQUEST_BYTES_MAX, "
            f"{config.request_bytes_max}",
        )
    if config.heartbeat_silent_s < 2 * config.heartbeat_s:
        _refuse(
            "HEARTBEAT_SILENT_S",
            f"{config.heartbeat_silent_s:g} is below twice {PREFIX}HEARTBEAT_S, {config.heartbeat_s:g}",
        )
    is_numbered = config.total_nodes is not None or config.node_index is not None
    if config.nodes and is_numbered:
        _refuse("NODES", f"names the nodes, so {PREFIX}TOTAL_NODES and {PREFIX}NODE_INDEX must be unset")
    if is_numbered:
        _check_index(config)
    if config.listed_nodes:
        _check_list(config, config.listed_nodes)


def _refuse(name: str, reason: str) -> None:
    raise InvalidSetting(f"{PREFIX}{name}: {reason}")


def _check_index(config: Config) -> None:
    index, total = config.node_index, config.total_nodes
    if total is None:
        _refuse("NODE_INDEX", f"needs {PREFIX}TOTAL_NODES, the number of indexers")
    elif index is None:
        if config.node_type != "query":
            _refuse("TOTAL_NODES", f"an indexer needs {PREFIX}NODE_INDEX as well")
    elif config.node_type == "query":
        _refuse("NODE_INDEX", "only indexers are numbered; a query node leaves it unset")
    elif index >= total:
        _refuse("NODE_INDEX", f"{index} where 0 to {total - 1} are allowed, with {PREFIX}TOTAL_NODES {total}")
    elif config.node_id != (expected := INDEX_ID.format(index=index)):
        _refuse("NODE_ID", f"{config.node_id!r} where the other nodes call number {index} {expected!r}")


def _check_list(config: Config, listed: tuple[NodeEntry, ...]) -> None:
    is_query = config.node_type == "query"
    if all(entry.role == "query" for entry in listed):
        _refuse("NODES", "an indexer is missing, so nobody could own a namespace")
    own = next((entry for entry in listed if entry.node_id == config.node_id), None)
    if own is None:
        if not is_query:
            names = ", ".join(entry.node_id for entry in listed)
            _refuse("NODE_ID", f"{config.node_id!r} is none of the nodes {names}; only a query node may be")
        return
    said = f"where the list of nodes gives {own.node_id!r}"
    if (own.role == "query") != is_query:
        _refuse("NODE_TYPE", f"{config.node_type!r} {said} the role {own.role!r}")
    if config.node_weight not in (1.0, own.weight):
        _refuse("NODE_WEIGHT", f"{config.node_weight:g} {said} the weight {own.weight:g}")
    if config.advertise_url not in (None, own.url):
        _refuse("ADVERTISE_URL", f"{config.advertise_url!r} {said} the address {own.url}")
