"""The numbers of one namespace's log: grace, cuts, bounds and retry budgets."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Every bound of the log in one place.

    gc_grace_s:         how long collectors keep what they found unreferenced; readers rely on half of it.
    probes_warm, probes_cold: how many slots the rounds of a check ask for, one after the other; the last
        repeats.
    refresh_s:          age from which an eventual read starts a check behind its back.
    entry_bytes_max, entry_requests_max: where a group commit is cut; a larger single request is an entry of
        its own.
    linger_s:           longest wait for more requests under load.
    unfolded_bytes_max: log bytes not yet in segments above which writes are refused with Overloaded.
    insisting_factor:   writes that ignore this are refused above so many times as much: it is in memory.
    queue_bytes_max, waiters_max: bounds of what waits for a commit.
    claim_attempts:     claims in a row that may be lost before waiting requests fail with NotOwner.
    write_attempts:     entries that one request may be part of before it fails with NotOwner.
    store_attempts:     failed store requests that one operation survives.
    swap_attempts:      lost compare-and-swaps that one manifest update survives.
    retry_base_s, retry_cap_s: full jitter between attempts.
    inline_bytes_max:   objects above this are hashed, encoded and decoded off the event loop.
    """

    gc_grace_s: float = 900.0
    probes_warm: tuple[int, ...] = (1, 8, 32, 128, 512)
    probes_cold: tuple[int, ...] = (32, 128, 512)
    refresh_s: float = 1.0
    entry_bytes_max: int = 8 * 2**20
    entry_requests_max: int = 1_024
    linger_s: float = 0.005
    unfolded_bytes_max: int = 256 * 2**20
    insisting_factor: int = 4
    queue_bytes_max: int = 64 * 2**20
    waiters_max: int = 16_384
    claim_attempts: int = 8
    write_attempts: int = 4
    store_attempts: int = 8
    swap_attempts: int = 24
    retry_base_s: float = 0.05
    retry_cap_s: float = 2.0
    inline_bytes_max: int = 1 * 2**20


DEFAULTS = LogSettings()
