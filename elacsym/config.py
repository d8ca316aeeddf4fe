"""The settings: one frozen value, read once at the edge and passed on.

This is the only module that reads the environment. Later sources win: defaults, the TOML file (`--config`,
`ELACSYM_CONFIG`, or `./elacsym.toml` if there is one), `ELACSYM_*`, flags. `port` is `port` in the file,
`ELACSYM_PORT` in the environment and `--port` as a flag.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Self, cast

from elacsym import setting_forms as forms
from elacsym.setting_forms import AwsSettings, NodeEntry, Parse
from elacsym.setting_forms import show_bytes as show_bytes
from elacsym.setting_rules import INDEX_ID, check
from elacsym.setting_rules import PREFIX as PREFIX
from elacsym.setting_rules import InvalidSetting as InvalidSetting

CONFIG_NAME = PREFIX + "CONFIG"
CONFIG_FILE = "elacsym.toml"
CLIENT_KEY_NAME = PREFIX + "API_KEY"

# read by the tests and by the client, not by a node
_OTHER_NAMES = frozenset(
    PREFIX + name
    for name in (
        "CONFIG",
        "TEST_DATA",
        "REQUIRE_CEPH",
        "REQUIRE_NGINX",
        "SIM_SEEDS",
        "URL",
        "API_KEY",
        "ADMIN_KEY",
        "STORAGE_PATH",
    )
)


def _own_node_id() -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:128] or "node"


def _setting(
    default: Any, parse: Parse, meaning: str, *, shown: str | None = None, secret: bool = False
) -> Any:
    metadata = {"parse": parse, "meaning": meaning, "shown": shown, "secret": secret}
    if callable(default):
        return field(default_factory=default, metadata=metadata, repr=not secret)
    return field(default=default, metadata=metadata, repr=not secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings of a node. Sizes in bytes, durations in seconds. `warnings` are for the log at start."""

    storage: str = _setting(
        "./elacsym-data",
        forms.storage,
        "where the data is: `./folder`, `file:///folder`, `s3://bucket/prefix`",
    )
    unsafe_single_writer_store: bool = _setting(
        False,
        forms.boolean,
        "use a store that fails the probe of conditional writes; only ever with one process",
    )
    host: str = _setting(
        "127.0.0.1", forms.text, "address to listen on; without keys it must be a loopback address"
    )
    port: int = _setting(3000, forms.integer(0, 65_535), "port to listen on; 0 takes a free one")
    node_id: str = _setting(
        _own_node_id, forms.node_id, "name of this node, sent as `X-Served-By`", shown="the host name"
    )
    node_type: Literal["all", "indexer", "query"] = _setting(
        "all",
        forms.one_of("all", "indexer", "query"),
        "`all`, `indexer`, or `query`: a query node refuses writes and does no upkeep",
    )
    nodes: tuple[NodeEntry, ...] = _setting(
        (),
        forms.nodes,
        "the nodes of a cluster: `id=url[;role=query][;weight=2]`, separated by commas; the same list on "
        "every one",
        shown="none",
    )
    total_nodes: int | None = _setting(
        None,
        forms.integer(1, 1_000),
        "number of indexers of a cluster whose nodes are numbered, instead of a list",
        shown="none",
    )
    node_index: int | None = _setting(
        None,
        forms.integer(0, 999),
        "number of this indexer, from 0; its `ELACSYM_NODE_ID` is then `indexer-N`",
        shown="none",
    )
    node_url_pattern: str = _setting(
        "http://indexer-{index}:3000", forms.url_pattern, "address of the indexer whose number is `{index}`"
    )
    advertise_url: str | None = _setting(
        None,
        forms.url,
        "where other nodes and clients reach this one; without a list or a number of nodes, it joins the "
        "cluster of all nodes that use the same bucket",
        shown="none",
    )
    node_weight: float = _setting(
        1.0, forms.weight, "share of the namespaces that this node owns, relative to other nodes"
    )
    heartbeat_s: float = _setting(
        5.0, forms.seconds(0.1, 60), "time between two heartbeats of a node that joined by its address"
    )
    heartbeat_silent_s: float = _setting(
        30.0,
        forms.seconds(0.5, 3_600),
        "without a heartbeat for this long a node is out of the cluster; one that cannot reach the bucket "
        "for this long claims nothing",
    )
    suspect_s: float = _setting(
        10.0, forms.seconds(0.1, 600), "how long a node that did not answer is passed over"
    )
    liveness_timeout_s: float = _setting(
        1.0, forms.seconds(0.05, 60), "time within which another node has to answer `/livez`"
    )
    forward: bool = _setting(
        False, forms.boolean, "pass a write on to the node that owns its namespace, instead of answering 307"
    )
    admin_keys: tuple[str, ...] = _setting(
        (),
        forms.keys,
        "keys for `/internal/`, separated by commas; without them only this machine may use it, and no "
        "browser or proxy on it",
        shown="none",
        secret=True,
    )
    cache_path: str = _setting(
        "./elacsym-cache",
        forms.text,
        "folder of the disk cache, and of segments while they are built; deleting it costs time only",
    )
    cache_disk_bytes: int = _setting(10 * 2**30, forms.size(0, 2**50), "disk cache limit")
    cache_memory_bytes: int = _setting(256 * 2**20, forms.size(0, 2**44), "memory cache limit")
    api_keys: tuple[str, ...] = _setting(
        (), forms.keys, "keys that may use the API, separated by commas", shown="none", secret=True
    )
    allow_anonymous: bool = _setting(
        False, forms.boolean, "listen on any address without keys: everybody may read and delete everything"
    )
    log_level: Literal["debug", "info", "warning", "error"] = _setting(
        "info", forms.one_of("debug", "info", "warning", "error"), "`debug`, `info`, `warning`, `error`"
    )
    log_format: Literal["auto", "json", "human"] = _setting(
        "auto", forms.one_of("auto", "json", "human"), "`json`, `human`, or `auto`: human on a terminal"
    )
    threads: int = _setting(0, forms.integer(0, 1_024), "threads for searching and decoding; 0: one per core")
    request_bytes_max: int = _setting(
        512 * 2**20, forms.size(2**10, 2**32), "largest request body, decompressed; beyond: 413"
    )
    body_bytes_in_flight_max: int = _setting(
        2**30, forms.size(2**10, 2**40), "bytes of request bodies held at once; beyond: 429"
    )
    request_timeout_s: float = _setting(
        60.0, forms.seconds(0.001, 3_600), "time limit of a request; `X-Request-Timeout-Ms` may shorten it"
    )
    shutdown_timeout_s: float = _setting(
        30.0, forms.seconds(0, 3_600), "time for an orderly stop: half for running requests, half for closing"
    )
    calibration_cpu_share: float = _setting(
        0.01,
        forms.share,
        "share of one core for comparing sampled vector queries with exact search, by which the effort of "
        "searches is set; 0: never",
    )
    query_concurrency_max: int = _setting(256, forms.integer(1, 2**20), "queries at once; beyond: 429")
    namespace_query_concurrency_max: int = _setting(
        16,
        forms.integer(1, 2**20),
        "v2 queries of one namespace at once, where an aggregation counts as 4 and an exact vector search as "
        "2; the next ones wait",
    )
    namespace_query_wait_s: float = _setting(
        0.8, forms.seconds(0, 3_600), "how long such a query waits; beyond: 429"
    )
    delete_by_filter_max: int = _setting(
        5_000_000, forms.integer(1, 2**31), "documents that one v2 request may delete by filter"
    )
    patch_by_filter_max: int = _setting(
        50_000, forms.integer(1, 2**31), "documents that one v2 request may patch by filter"
    )
    unindexed_bytes_max: int = _setting(
        256 * 2**20,
        forms.size(2**20, 2**31),
        "log bytes of a namespace that may wait for folding; beyond, writes get 429, with "
        "`disable_backpressure` beyond four times as much",
    )
    fold_bytes: int = _setting(16 * 2**20, forms.size(1, 2**31), "log bytes that start a fold into a segment")
    fold_slots: int = _setting(4_096, forms.integer(1, 2**20), "log entries that start a fold")
    fold_age_s: float = _setting(
        30.0, forms.seconds(0, 86_400), "age of the oldest unfolded write that starts a fold"
    )
    build_processes: int = _setting(
        lambda: max(1, (os.cpu_count() or 1) // 2),
        forms.integer(0, 256),
        "processes that build large segments in the background; 0 builds them in the server itself",
        shown="half of the cores",
    )
    gc_grace_s: float = _setting(
        900.0, forms.seconds(0, 604_800), "time between an object's last reference and its deletion"
    )
    upkeep_period_s: float = _setting(
        1.0,
        forms.seconds(0.01, 3_600),
        "time between two looks at what is to be folded, merged and collected",
    )
    open_namespaces_max: int = _setting(1_000, forms.integer(1, 2**20), "namespaces held open at once")
    namespace_idle_s: float = _setting(
        300.0, forms.seconds(0, 604_800), "a namespace that is not used for this long is closed"
    )
    aws: AwsSettings = field(default_factory=AwsSettings)
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other."""
        check(self)

    @classmethod
    def load(
        cls,
        flags: Mapping[str, Any] | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        config_path: str | Path | None = None,
    ) -> Self:
        """The settings of this process. `flags` maps setting names to values; None means not given.

        Raises InvalidSetting for a value that is not allowed, an unreadable file, a name one typo away from a
        setting.
        """
        variables = os.environ if environment is None else environment
        warnings: list[str] = []
        values: dict[str, Any] = _from_file(config_path or variables.get(CONFIG_NAME), warnings)
        values |= _from_environment(variables, warnings)
        if variables.get(CLIENT_KEY_NAME) and not values.get("api_keys"):
            warnings.append(f"{CLIENT_KEY_NAME}: clients send it; a server asks for keys of {PREFIX}API_KEYS")
        for name, value in (flags or {}).items():
            if value is not None:
                values[name] = _parsed(name, "--" + name.replace("_", "-"), value)
        if values.get("node_index") is not None:
            values.setdefault("node_id", INDEX_ID.format(index=values["node_index"]))
        return cls(**values, aws=AwsSettings.from_environment(variables), warnings=tuple(warnings))

    def check_listener(self) -> None:
        """Raise InvalidSetting if the server would be open to the network without keys, unless told to be."""
        if not self.api_keys and not self.allow_anonymous and not is_loopback(self.host):
            raise InvalidSetting(
                f"{PREFIX}HOST: {self.host} can be reached from other machines, but {PREFIX}API_KEYS is "
                f"empty; set keys, listen on 127.0.0.1, or set {PREFIX}ALLOW_ANONYMOUS=true to let all in"
            )

    @property
    def listed_nodes(self) -> tuple[NodeEntry, ...]:
        """The nodes of a cluster whose members are settled by settings; none in any other."""
        if self.nodes:
            return self.nodes
        return tuple(
            NodeEntry(INDEX_ID.format(index=i), self.node_url_pattern.replace("{index}", str(i)))
            for i in range(self.total_nodes or 0)
        )

    @property
    def is_open_to_all(self) -> bool:
        """Whether other machines may use the API without a key."""
        return not self.api_keys and not is_loopback(self.host)

    @property
    def logs_as_json(self) -> bool | None:
        """None: as the terminal suggests."""
        return None if self.log_format == "auto" else self.log_format == "json"

    def describe(self) -> dict[str, Any]:
        """Setting to value, without secrets: the number of keys stands for the keys."""
        shown: dict[str, Any] = {}
        for f in _settings():
            value = getattr(self, f.name)
            listed = [str(entry) for entry in value] if f.name == "nodes" else value
            shown[f.name] = f"{len(value)} set" if f.metadata["secret"] else listed
        return shown


def _settings() -> list[Any]:
    return [f for f in fields(Config) if "parse" in f.metadata]


_NAMES = {f.name: f for f in _settings()}


def _parsed(name: str, shown_as: str, value: Any) -> Any:
    if name not in _NAMES:
        raise InvalidSetting(f"{shown_as}: there is no such setting")
    metadata = _NAMES[name].metadata
    try:
        return metadata["parse"](value)
    except ValueError as error:
        said = "this value" if metadata["secret"] else repr(value)
        raise InvalidSetting(f"{shown_as}: {said} where {error} is allowed") from error


def _from_file(path: str | Path | None, warnings: list[str]) -> dict[str, Any]:
    if path is None and not Path(CONFIG_FILE).is_file():
        return {}
    file = Path(path or CONFIG_FILE)
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidSetting(f"{file}: cannot be read as TOML: {error}") from error
    values: dict[str, Any] = {}
    for name, value in content.items():
        if name in _NAMES:
            values[name] = _parsed(name, f"{file}: {name}", value)
        else:
            _judge_unknown(name, sorted(_NAMES), f"{file}: {name}", warnings)
    return values


def _from_environment(variables: Mapping[str, str], warnings: list[str]) -> dict[str, Any]:
    known = {PREFIX + name.upper(): name for name in _NAMES}
    values: dict[str, Any] = {}
    storage = PREFIX + "STORAGE"
    alias = variables.get(storage + "_PATH", "")
    if alias:
        if variables.get(storage) not in (None, "", alias):
            raise InvalidSetting(
                f"{storage}_PATH: {alias!r} where {storage} says {variables[storage]!r}; set one of the two"
            )
        values["storage"] = _parsed("storage", storage + "_PATH", alias)
    for variable in sorted(variables):
        if variable in known:
            # an empty variable is how people unset one
            if variables[variable] != "":
                values[known[variable]] = _parsed(known[variable], variable, variables[variable])
        elif variable not in _OTHER_NAMES:
            _judge_unknown(variable, sorted({*known, *_OTHER_NAMES}), variable, warnings)
    return values


def _judge_unknown(name: str, known: list[str], shown_as: str, warnings: list[str]) -> None:
    suggestion = next((k for k in known if is_one_typo_away(name, k)), None)
    if suggestion is not None:
        raise InvalidSetting(f"{shown_as}: there is no such setting; did you mean {suggestion}?")
    if name.startswith(PREFIX) or name != shown_as:
        warnings.append(f"{shown_as}: there is no such setting; it is ignored")


def is_one_typo_away(a: str, b: str) -> bool:
    """Whether one letter dropped, added, changed, or two neighbours swapped, turns `a` into `b`."""
    if a == b or abs(len(a) - len(b)) > 1:
        return False
    start = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    rest_a, rest_b = a[start:], b[start:]
    return (
        rest_a[1:] == rest_b[1:]
        or rest_a[1:] == rest_b
        or rest_a == rest_b[1:]
        or (rest_a[:2] == rest_b[1::-1] and rest_a[2:] == rest_b[2:])
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def settings_table() -> str:
    """All settings as a Markdown table."""
    lines = ["| setting | default | meaning |", "| --- | --- | --- |"]
    for f in _settings():
        shown = f.metadata["shown"]
        if shown is None:
            default = (
                f.default if f.default is not MISSING else cast("Callable[[], Any]", f.default_factory)()
            )
            text = show_bytes(default) if f.name.endswith("_bytes") or "_bytes_" in f.name else str(default)
            shown = f"`{text.lower() if isinstance(default, bool) else text.removesuffix('.0')}`"
        lines.append(f"| `{PREFIX}{f.name.upper()}` | {shown} | {f.metadata['meaning']} |")
    return "\n".join(lines) + "\n"
