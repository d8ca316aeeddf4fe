"""Checksums: crc32 of headers and bodies, blake2b-128 of whole objects, the order-free sum of live rows."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_MASK128 = (1 << 128) - 1
ZERO_SUM = 0


def crc32(data: bytes | memoryview, value: int = 0) -> int:
    """CRC-32 (zlib's polynomial) as an unsigned 32-bit integer."""
    return zlib.crc32(data, value)


def blake2b_128(data: bytes | memoryview) -> str:
    """The 128-bit BLAKE2b of `data` as 32 hexadecimal digits."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _mix(values: npt.NDArray[np.uint64], seed: int) -> npt.NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele, Lea, Flood 2014) over `values + seed`; wraps by design."""
    with np.errstate(over="ignore"):
        z = values + np.uint64(seed)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def _id_lanes(
    ids: npt.NDArray[np.uint64] | Sequence[str],
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    if isinstance(ids, np.ndarray):
        return _mix(ids, 0x9E3779B97F4A7C15), _mix(ids, 0xD1B54A32D192ED03)
    joined = b"".join(hashlib.blake2b(i.encode(), digest_size=16).digest() for i in ids)
    lanes = np.frombuffer(joined, dtype="<u8").reshape(-1, 2)
    return lanes[:, 0].astype(np.uint64), lanes[:, 1].astype(np.uint64)


def row_sum(ids: npt.NDArray[np.uint64] | Sequence[str], versions: npt.NDArray[np.uint64]) -> int:
    """The 128-bit order-free sum over rows of a hash of (id, version).

    ids:      (n,) uint64, or n strings.
    versions: (n,) uint64, the sequence number of the write that made each row.
    Sums of disjoint sets add up (mod 2^128), and a removed row can be subtracted: compaction and folding
    conserve the sum.
    """
    low, high = _id_lanes(ids)
    with np.errstate(over="ignore"):
        low = _mix(low ^ _mix(versions, 0xA0761D6478BD642F), 0xE7037ED1A0B428DB)
        high = _mix(high ^ _mix(versions, 0x8EBC6AF09C88C6E3), 0x589965CC75374CC3)
    # each lane is summed in halves of 32 bits, so that nothing overflows below 2^32 rows
    total = 0
    for lane, shift in ((low, 0), (high, 64)):
        small = int(np.sum(lane & np.uint64(0xFFFFFFFF), dtype=np.uint64))
        large = int(np.sum(lane >> np.uint64(32), dtype=np.uint64))
        total += (small + (large << 32)) << shift
    return total & _MASK128


def add_sums(*sums: int) -> int:
    """The sum of disjoint sets of rows; negative terms take rows away."""
    return sum(sums) & _MASK128
