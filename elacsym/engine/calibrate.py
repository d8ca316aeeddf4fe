"""The background loop that keeps recall up: sampled queries are compared with exact search, now and then.

A round compares a few queries of one attribute and then rests for as long as its share of a core demands. It
waits while the process is busy, leaves closed namespaces alone, and never reads more vectors than
EXACT_BYTES_MAX for one comparison.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

from elacsym.engine.database import Database
from elacsym.engine.namespace import Namespace
from elacsym.engine.recall import compare, vector_query
from elacsym.engine.tuning import LEAP_BELOW, Sample, Vector, adjusted_scale, unobserved
from elacsym.errors import ElacsymError, NamespaceNotFound
from elacsym.telemetry import (
    CALIBRATION_RECALL,
    CALIBRATION_SECONDS,
    CALIBRATIONS,
    SAMPLED_QUERY_BYTES,
    get_logger,
)
from elacsym.types import Consistency

_log = get_logger("calibrate")

TOP_K = 10
EXACT_BYTES_MAX = 512 * 2**20
# an attribute whose effort was judged is judged again after this long: data and questions drift
PERIOD_S = 600.0
# work beside which comparisons would be felt, as a share of the machine's cores
BUSY_SHARE = 0.5

# how many queries are evidence, and how many already are where recall is far below its target
QUERIES_MIN = 16
QUERIES_TO_JUDGE = 64
_QUERIES_TO_LEAP = 8
_FADING = 0.99
_QUERIES_PER_ROUND = 4
_LOOK_PERIOD_S = 2.0
_AT_HAND = Consistency("eventual")


class Calibrator:
    """Looks after the efforts of a database's open namespaces, spending `cpu_share` of one core at most."""

    def __init__(self, database: Database, *, cpu_share: float = 0.01, cores: int = 1) -> None:
        """`cores` is how many the process may use."""
        assert 0 < cpu_share <= 1, "0 is no calibrator"
        self._database, self._tuning = database, database.services.tuning
        self._cpu_share, self._cores = cpu_share, cores
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin the loop."""
        self._task = asyncio.create_task(self._loop(), name="calibrate")

    async def stop(self) -> None:
        """End the loop; a comparison under way is cancelled."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _loop(self) -> None:
        is_busy = _busyness(self._cores)
        rest_s = _LOOK_PERIOD_S
        while True:
            await asyncio.sleep(rest_s)
            SAMPLED_QUERY_BYTES.set(self._tuning.size_bytes)
            rest_s = _LOOK_PERIOD_S
            if is_busy():
                continue
            began_s = time.perf_counter()
            try:
                await self.run_once()
            except Exception:  # noqa: BLE001 - the supervisor of background work
                # the loop outlives whatever a round meets; the round is counted and logged
                CALIBRATIONS.labels(outcome="failed").inc()
                _log.exception("calibration failed")
            rest_s = max(rest_s, (time.perf_counter() - began_s) / self._cpu_share)

    async def run_once(self) -> bool:
        """Compare a few queries of the attribute that has waited longest; False where none is due."""
        now_s = self._database.services.clock.monotonic_s()
        opened = {n.reader.manifest.inc: n for n in self._database.opened() if n.reader.is_open}
        due = [
            (sample.due_s, inc, attribute, sample)
            for inc, attribute, sample in self._tuning.samples()
            if inc in opened
            and sample.is_fresh
            and sample.due_s <= now_s
            and len(sample.vectors) >= QUERIES_MIN
        ]
        if not due:
            return False
        _, inc, attribute, sample = min(due, key=lambda entry: entry[:3])
        began_s = time.perf_counter()
        try:
            outcome = await self._judge(opened[inc], inc, attribute, sample)
        except NamespaceNotFound:
            self._tuning.forget(sample.namespace)
            return True
        except ElacsymError as error:
            outcome = "failed"
            _log.warning(
                "calibration failed", namespace=sample.namespace, attribute=attribute, reason=str(error)
            )
        # evidence that is not enough yet is added to in the next round
        if outcome is not None:
            CALIBRATIONS.labels(outcome=outcome).inc()
            is_settled = outcome not in ("raised", "lowered")
            sample.due_s = now_s + PERIOD_S if is_settled else now_s
            # a namespace that nobody asks any more is left to be closed
            sample.is_fresh = not is_settled
            sample.forget_comparisons()
        CALIBRATION_SECONDS.observe(time.perf_counter() - began_s)
        return True

    async def _judge(self, namespace: Namespace, inc: str, attribute: str, sample: Sample) -> str | None:
        """What comes of a round, None where more of them are needed."""
        with namespace.used():
            snapshot = await namespace.snapshot(_AT_HAND)
            if snapshot.inc != inc or attribute not in snapshot.schema.attributes:
                return "failed"
            type_ = snapshot.schema.attributes[attribute].type
            if any(len(vector) != type_.dimensions for vector in sample.vectors):
                # those of an attribute that was dropped, whose name was taken again
                self._tuning.let_go(inc, [attribute])
                return "failed"
            rows = sum(view.rows_live for view in snapshot.parts)
            if rows * (type_.dimensions or 0) * 4 > EXACT_BYTES_MAX:
                return "too_large"
            # a copy: queries that come meanwhile take places in the sample
            vectors = tuple(sample.vectors)
            if not await self._is_approximate(namespace.name, attribute, vectors[0]):
                return "exact"
            for _ in range(_QUERIES_PER_ROUND):
                query = vector_query(attribute, vectors[sample.queries % len(vectors)], TOP_K)
                compared = await compare(self._database, namespace.name, query, snapshot.schema.metric)
                CALIBRATION_RECALL.observe(compared.recall)
                sample.queries += 1
                sample.wanted += compared.exact
                sample.right += compared.right
        return self._adjusted(namespace.name, inc, attribute, sample, len(vectors))

    async def _is_approximate(self, name: str, attribute: str, vector: Vector) -> bool:
        """Whether the namespace has an index that can miss a neighbour at all."""
        query = replace(vector_query(attribute, vector, TOP_K), consistency=_AT_HAND, explain=True)
        with unobserved():
            plan = (await self._database.query(name, query)).plan
        assert plan is not None, "explained"
        return any(part["way"] == "codes" for leg in plan["legs"] for part in leg["parts"])

    def _adjusted(self, name: str, inc: str, attribute: str, sample: Sample, available: int) -> str | None:
        is_far_off = sample.queries >= _QUERIES_TO_LEAP and sample.recall < LEAP_BELOW
        if sample.queries < min(QUERIES_TO_JUDGE, available) and not is_far_off:
            return None
        before = self._tuning.effort(inc, attribute).scale
        after = adjusted_scale(before, sample.recall)
        if after > before:
            sample.scale_too_low = before
        elif after <= sample.scale_too_low:
            # one step further down it was too little not long ago
            sample.scale_too_low *= _FADING
            after = before
        if after == before:
            return "kept"
        self._tuning.set_scale(inc, attribute, after)
        _log.info(
            "effort changed",
            namespace=name,
            attribute=attribute,
            recall=round(sample.recall, 4),
            queries=sample.queries,
            scale=round(after, 3),
        )
        return "raised" if after > before else "lowered"


def _busyness(cores: int) -> Callable[[], bool]:
    """Tells whether the process took more than BUSY_SHARE of the cores since it was asked last."""
    last_cpu_s, last_s = time.process_time(), time.monotonic()

    def is_busy() -> bool:
        nonlocal last_cpu_s, last_s
        cpu_s, now_s = time.process_time(), time.monotonic()
        share = (cpu_s - last_cpu_s) / max(1e-3, now_s - last_s) / cores
        last_cpu_s, last_s = cpu_s, now_s
        return share > BUSY_SHARE

    return is_busy
