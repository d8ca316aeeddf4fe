"""Every object key, built and parsed in one place.

    cluster.json                              format version and bucket id
    nodes/{node}.json                         heartbeat of a node
    names/{name}                              listing hint, verified against the manifest
    dropped/{name}                            a namespace whose garbage nobody else may be reminded of
    operations/{name}/{token}                 what became of work that was begun in the background
    ns/{hh}/{name}/manifest                   the only mutable object of a namespace
    ns/{hh}/{name}/{inc}/wal/{seq:020d}       one commit
    ns/{hh}/{name}/{inc}/seg/{job}/{part}     files of one segment, and delete bitmaps

Names are escaped, because `.` and `..` are legal names and some file systems fold case: letters are lowered,
'.' becomes '!', and a name with capitals gets the suffix '.' + the bit mask of their positions in hexadecimal
("Docs" -> "docs.1"). At most 161 characters, which every file system takes as one path segment;
percent-encoding would need 384. `hh` is the first byte of the name's hash: it spreads the request rate.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

_NAME = re.compile(r"[A-Za-z0-9\-_.]{1,128}")
_ESCAPED = re.compile(r"([a-z0-9\-_!]{1,128})(?:\.([0-9a-f]{1,32}))?")

CLUSTER = "cluster.json"
NODES_PREFIX = "nodes/"
NAMES_PREFIX = "names/"
DROPPED_PREFIX = "dropped/"
OPERATIONS_PREFIX = "operations/"


def is_valid_name(name: str) -> bool:
    """Whether `name` may name a namespace: 1 to 128 of `A-Z a-z 0-9 - _ .`."""
    return _NAME.fullmatch(name) is not None


def encode_name(name: str) -> str:
    """The name as one path segment, injective also on case-folding file systems."""
    capitals = sum(1 << i for i, c in enumerate(name) if c.isupper())
    return name.lower().replace(".", "!") + (f".{capitals:x}" if capitals else "")


def decode_name(escaped: str) -> str | None:
    """The name that `encode_name` turned into this, or None if it made no such segment."""
    match = _ESCAPED.fullmatch(escaped)
    if match is None:
        return None
    capitals = int(match[2] or "0", 16)
    name = "".join(c.upper() if capitals >> i & 1 else c for i, c in enumerate(match[1].replace("!", ".")))
    return name if encode_name(name) == escaped else None


def name_hint(name: str) -> str:
    """The key of the listing hint."""
    return NAMES_PREFIX + encode_name(name)


def name_of_hint(key: str) -> str | None:
    """The namespace that a listing hint stands for, or None for any other key."""
    return decode_name(key.removeprefix(NAMES_PREFIX)) if key.startswith(NAMES_PREFIX) else None


def dropped_hint(name: str) -> str:
    """The key that reminds collectors of a namespace: it was deleted, or a branch let go of it."""
    return DROPPED_PREFIX + encode_name(name)


def name_of_dropped(key: str) -> str | None:
    """The namespace that such a key stands for, or None for any other key."""
    return decode_name(key.removeprefix(DROPPED_PREFIX)) if key.startswith(DROPPED_PREFIX) else None


def operation(name: str, token: str) -> str:
    """The key of an operation on a namespace."""
    return f"{OPERATIONS_PREFIX}{encode_name(name)}/{token}"


def node(node_id: str) -> str:
    """The key of a node's heartbeat."""
    return f"{NODES_PREFIX}{node_id}.json"


def id_of_node(key: str) -> str | None:
    """The node whose heartbeat has this key, or None for any other key."""
    match = re.fullmatch(rf"{NODES_PREFIX}([A-Za-z0-9._-]{{1,128}})\.json", key)
    return match[1] if match else None


@dataclass(frozen=True, slots=True)
class NamespaceKeys:
    """The keys of one namespace."""

    name: str

    @property
    def prefix(self) -> str:
        """The prefix of everything the namespace owns."""
        first = hashlib.blake2b(self.name.encode(), digest_size=1).hexdigest()
        return f"ns/{first}/{encode_name(self.name)}/"

    @property
    def manifest(self) -> str:
        """The key of the manifest."""
        return self.prefix + "manifest"

    def wal(self, inc: str, seq: int) -> str:
        """The key of log slot `seq`."""
        return f"{self.prefix}{inc}/wal/{seq:020d}"

    def wal_prefix(self, inc: str) -> str:
        """The prefix of an incarnation's log slots."""
        return f"{self.prefix}{inc}/wal/"

    def segment_prefix(self, inc: str) -> str:
        """The prefix of an incarnation's segment files."""
        return f"{self.prefix}{inc}/seg/"

    def segment_file(self, inc: str, job: str, part: str) -> str:
        """The key of one file that job `job` wrote."""
        return f"{self.prefix}{inc}/seg/{job}/{part}"

    def incarnation_of(self, key: str) -> str | None:
        """The incarnation to whose data this key belongs, or None for any other key."""
        inc, slash, _ = key.removeprefix(self.prefix).partition("/")
        return inc if slash and key.startswith(self.prefix) else None


def seq_of_wal(key: str) -> int | None:
    """The slot number in a log key, or None for any other key."""
    match = re.search(r"/wal/(\d{20})\Z", key)
    return int(match[1]) if match else None


def job_of_segment_file(key: str) -> str | None:
    """The job in a segment file's key, or None for any other key."""
    match = re.search(r"/seg/([^/]+)/[^/]+\Z", key)
    return match[1] if match else None
