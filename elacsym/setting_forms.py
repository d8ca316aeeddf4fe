"""The forms that values of settings have: read from a text or a TOML value, or refused with what is allowed.

Pure; `config` tells which setting has which form.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import Any, Literal, Self

# raises ValueError, whose message is what is allowed
Parse = Callable[[Any], Any]

# a node of the largest weight has some 8,000 places on the ring
WEIGHT_MIN, WEIGHT_MAX = 0.01, 16.0
_UNITS = {"": 1, "B": 1}
_UNITS |= {f"{letter}iB": 2 ** (10 * i) for i, letter in enumerate("KMGT", 1)}
_UNITS |= {f"{letter}B": 10 ** (3 * i) for i, letter in enumerate("KMGT", 1)}
_NODE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
# what looks names up takes labels of 1 to 63 characters, and fails in its own ways for others
_HOST = r"(?:[A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?"
_ADDRESS = re.compile(rf"https?://(?:{_HOST}|\[(?P<ipv6>[0-9A-Fa-f:.]+)\])(?::(?P<port>\d{{1,5}}))?")


@dataclass(frozen=True, slots=True)
class AwsSettings:
    """The standard `AWS_*` variables; what is None is left to the S3 library (profiles, instance roles)."""

    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    region: str | None = None
    endpoint_url: str | None = None
    profile: str | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """The variables that are set and not empty."""
        return cls(
            access_key_id=environment.get("AWS_ACCESS_KEY_ID") or None,
            secret_access_key=environment.get("AWS_SECRET_ACCESS_KEY") or None,
            session_token=environment.get("AWS_SESSION_TOKEN") or None,
            region=environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or None,
            endpoint_url=environment.get("AWS_ENDPOINT_URL_S3")
            or environment.get("AWS_ENDPOINT_URL")
            or None,
            profile=environment.get("AWS_PROFILE") or None,
        )


def size(low: int, high: int) -> Parse:
    """Bytes, plain or with a unit."""

    def parse(value: Any) -> int:
        allowed = f"a size from {show_bytes(low)} to {show_bytes(high)}, as in 268435456, 256MiB or 10GiB"
        if isinstance(value, str):
            match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", value.strip())
            if match is None or match[2] not in _UNITS:
                raise ValueError(allowed)
            value = (
                int(float(match[1]) * _UNITS[match[2]])
                if "." in match[1]
                else int(match[1]) * _UNITS[match[2]]
            )
        if type(value) is not int or not low <= value <= high:
            raise ValueError(allowed)
        return value

    return parse


def integer(low: int, high: int) -> Parse:
    """A whole number."""

    def parse(value: Any) -> int:
        if isinstance(value, str) and re.fullmatch(r"\d{1,18}", value.strip()):
            value = int(value)
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"an integer from {low} to {high}")
        return value

    return parse


def seconds(low: float, high: float) -> Parse:
    """A duration."""
    return _number(low, high, f"seconds from {low:g} to {high:g}")


def number(low: float, high: float, what: str) -> Parse:
    """A number that need not be whole; `what` it is, in errors."""
    return _number(low, high, f"{what} from {low:g} to {high:g}")


def _number(low: float, high: float, allowed: str) -> Parse:
    def parse(value: Any) -> float:
        try:
            found = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            found = math.nan
        if not low <= found <= high:
            raise ValueError(allowed)
        return found

    return parse


share = number(0, 1, "a share")
weight = number(WEIGHT_MIN, WEIGHT_MAX, "a weight")


def one_of(*allowed: str) -> Parse:
    """One of these words, in any case."""

    def parse(value: Any) -> str:
        if not isinstance(value, str) or value.strip().lower() not in allowed:
            raise ValueError("one of " + ", ".join(allowed))
        return value.strip().lower()

    return parse


def boolean(value: Any) -> bool:
    """Yes or no, as people write it."""
    if isinstance(value, bool):
        return value
    word = value.strip().lower() if isinstance(value, str) else ""
    if word in ("true", "1", "yes", "on"):
        return True
    if word in ("false", "0", "no", "off"):
        return False
    raise ValueError("true or false")


def text(value: Any) -> str:
    """Any text but an empty one."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a text that is not empty")
    return value.strip()


def storage(value: Any) -> str:
    """Where data is."""
    place = text(value)
    scheme, separator, rest = place.partition("://")
    if separator and (scheme not in ("file", "s3") or not rest.strip("/")):
        raise ValueError("a folder, file:///folder or s3://bucket/prefix")
    return place


def node_id(value: Any) -> str:
    """The name of a node."""
    if not isinstance(value, str) or _NODE_ID.fullmatch(value) is None:
        raise ValueError("1 to 128 of A-Z a-z 0-9 . _ -")
    return value


def keys(value: Any) -> tuple[str, ...]:
    """API keys: a list, or a text with commas between them."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not all(isinstance(p, str) for p in parts):
        raise ValueError("keys separated by commas")
    found = tuple(p.strip() for p in parts if p.strip())
    if not all(re.fullmatch(r"[\x21-\x7e]{8,512}", key) for key in found):
        raise ValueError("keys of 8 to 512 printable ASCII characters without spaces, separated by commas")
    return found


def url(value: Any) -> str:
    """The address of a node, without a path; a slash at its end is dropped."""
    address = text(value).rstrip("/")
    match = _ADDRESS.fullmatch(address)
    is_good = match is not None and 1 <= int(match["port"] or 1) <= 65_535
    if match is not None and match["ipv6"] is not None:
        try:
            IPv6Address(match["ipv6"])
        except ValueError:
            is_good = False
    if not is_good:
        raise ValueError("an address http://host:port or https://host:port without a path")
    return address


def url_pattern(value: Any) -> str:
    """The addresses of numbered nodes: `{index}` stands for the number."""
    pattern = text(value).rstrip("/")
    if "{index}" not in pattern:
        raise ValueError("an address that contains {index}")
    url(pattern.replace("{index}", "0"))
    return pattern


@dataclass(frozen=True, slots=True)
class NodeEntry:
    """One entry of a list of nodes. url: its address without a path; weight: its share of the ring, relative
    to others."""

    node_id: str
    url: str
    role: Literal["indexer", "query"] = "indexer"
    weight: float = 1.0

    def __str__(self) -> str:
        """As it is written in the list."""
        role = ";role=query" if self.role == "query" else ""
        weight = f";weight={self.weight:g}" if self.weight != 1.0 else ""
        return f"{self.node_id}={self.url}{role}{weight}"


def nodes(value: Any) -> tuple[NodeEntry, ...]:
    """A list of nodes, or a text with commas between them."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not all(isinstance(p, str) for p in parts):
        raise ValueError("id=url[;role=query][;weight=2] separated by commas")
    found = tuple(_node_entry(p.strip()) for p in parts if p.strip())
    ids = [entry.node_id for entry in found]
    twice = next((name for name in ids if ids.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"every node once, not {twice} again,")
    return found


def _node_entry(entry: str) -> NodeEntry:
    name, separator, rest = entry.partition("=")
    address, *options = rest.split(";")
    if not separator:
        raise ValueError(f"id=url[;role=query][;weight=2], not {entry!r},")
    role: Literal["indexer", "query"] = "indexer"
    share_of_ring = 1.0
    for option in options:
        key, _, given = option.strip().partition("=")
        if key == "role":
            role = one_of("indexer", "query")(given)
        elif key == "weight":
            share_of_ring = weight(given)
        else:
            raise ValueError(f"role or weight, not {option!r},")
    return NodeEntry(node_id(name.strip()), url(address), role, share_of_ring)


def show_bytes(size: int) -> str:
    """A size as people write it, exactly: `256MiB`, or plain bytes where no unit fits."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size and size % _UNITS[unit] == 0:
            return f"{size // _UNITS[unit]}{unit}"
    return str(size)
