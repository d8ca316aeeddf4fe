"""What a process learns from its vector queries: a sample of them, and how hard each attribute is searched.

A sample is kept per incarnation and vector attribute by Vitter's algorithm R (J. S. Vitter, Random sampling
with a reservoir, 1985). The count that it divides by stops at a window, so that recent queries outweigh old
ones. `elacsym.engine.calibrate` compares samples with exact search and sets the effort.

Changed on the event loop only; `effort` may be asked from any thread.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from elacsym.index.vector import Effort
from elacsym.query.ast import Query, VectorLeg

Vector = npt.NDArray[np.float32]

SAMPLES_MAX = 64
SAMPLE_BYTES_MAX = 4 * 2**20
WINDOW_QUERIES = 4_096
EFFORTS_MAX = 4_096

# the target is 0.98; the margin is for what a sample cannot tell
RECALL_RAISED_BELOW = 0.985
# one miss in a full sample of ten neighbours each: then the true recall is hardly below 0.993
RECALL_LOWERED_FROM = 0.998
SCALE_MIN, SCALE_MAX = 0.5, 8.0
# far below the target a few queries are evidence enough
LEAP_BELOW = 0.95
_STEP_UP, _LEAP_UP, _STEP_DOWN = 1.25, 1.6, 0.9

# an array object and its place in a list, beside the numbers
_SAMPLE_OVERHEAD_BYTES = 128

_is_unobserved: ContextVar[bool] = ContextVar("is_unobserved", default=False)
_DEFAULT = Effort()

Key = tuple[str, str]


def adjusted_scale(scale: float, recall: float) -> float:
    """The scale of an effort that, at `scale`, found this share of the true neighbours.

    Raised below RECALL_RAISED_BELOW, lowered in small steps from RECALL_LOWERED_FROM on, kept in between;
    always in SCALE_MIN…SCALE_MAX.
    """
    if recall < RECALL_RAISED_BELOW:
        scale *= _LEAP_UP if recall < LEAP_BELOW else _STEP_UP
    elif recall >= RECALL_LOWERED_FROM:
        scale *= _STEP_DOWN
    return min(SCALE_MAX, max(SCALE_MIN, scale))


@dataclass(slots=True)
class Sample:
    """Queries of one vector attribute. `namespace` is the name they came for; `seen` counts up to the window.

    is_fresh: whether queries came since it was judged. due_s: when it is compared with exact search next.
    queries, wanted, right: what was compared at the present effort: how many queries, how many true
    neighbours they have, how many of these were found. scale_too_low: the last scale at which too few were
    found; it fades.
    """

    namespace: str
    vectors: list[Vector] = field(default_factory=list)
    seen: int = 0
    size_bytes: int = 0
    is_fresh: bool = True
    due_s: float = 0.0
    queries: int = 0
    wanted: int = 0
    right: int = 0
    scale_too_low: float = 0.0

    @property
    def recall(self) -> float:
        """The share of true neighbours that was found; 1 where nothing was compared."""
        return self.right / self.wanted if self.wanted else 1.0

    def forget_comparisons(self) -> None:
        """Begin to count again."""
        self.queries = self.wanted = self.right = 0


class Tuning:
    """Samples and efforts of all namespaces of a process, bounded over all of them."""

    def __init__(
        self, rng: random.Random, *, samples_max: int = SAMPLES_MAX, bytes_max: int = SAMPLE_BYTES_MAX
    ) -> None:
        """`samples_max` per attribute; `bytes_max` over all: beyond, the sample that was fed least recently
        goes."""
        # a generator of its own: one number is drawn for every query
        self._random = random.Random(rng.getrandbits(64)).random
        self._samples_max, self._bytes_max = samples_max, bytes_max
        self._samples: OrderedDict[Key, Sample] = OrderedDict()
        self._size_bytes = 0
        self._efforts: OrderedDict[Key, Effort] = OrderedDict()

    @property
    def size_bytes(self) -> int:
        """Bytes that all samples hold."""
        return self._size_bytes

    def effort(self, inc: str, attribute: str) -> Effort:
        """How hard to look for the nearest neighbours by this attribute."""
        return self._efforts.get((inc, attribute), _DEFAULT)

    def set_scale(self, inc: str, attribute: str, scale: float) -> None:
        """Let queries look this hard from now on."""
        self._efforts.pop((inc, attribute), None)
        if scale != _DEFAULT.scale:
            self._efforts[inc, attribute] = Effort(scale=scale)
            if len(self._efforts) > EFFORTS_MAX:
                self._efforts.popitem(last=False)

    def observe(self, namespace: str, inc: str, query: Query) -> None:
        """Take note of a query that was answered, so that its attributes and vectors fit the namespace; about
        a microsecond."""
        if _is_unobserved.get():
            return
        for leg in query.legs:
            if isinstance(leg, VectorLeg):
                self._offer(namespace, (inc, leg.attribute), leg.vector)

    def _offer(self, namespace: str, key: Key, vector: Vector) -> None:
        sample = self._samples.get(key)
        if sample is None:
            sample = self._samples[key] = Sample(namespace)
        else:
            self._samples.move_to_end(key)
        sample.seen = min(sample.seen + 1, WINDOW_QUERIES)
        sample.is_fresh = True
        size_bytes = vector.nbytes + _SAMPLE_OVERHEAD_BYTES
        if len(sample.vectors) < self._samples_max:
            # a copy: the query's own may be a view of the whole request
            sample.vectors.append(vector.copy())
        else:
            place = int(self._random() * sample.seen)
            if place >= self._samples_max:
                return
            size_bytes -= sample.vectors[place].nbytes + _SAMPLE_OVERHEAD_BYTES
            sample.vectors[place] = vector.copy()
        sample.size_bytes += size_bytes
        self._size_bytes += size_bytes
        while self._size_bytes > self._bytes_max:
            self._drop(next(iter(self._samples)))

    def recent(self, inc: str, attribute: str) -> Sequence[Vector]:
        """The sampled queries of an attribute, in no particular order; (d,) each."""
        sample = self._samples.get((inc, attribute))
        return () if sample is None else tuple(sample.vectors)

    def samples(self) -> Iterator[tuple[str, str, Sample]]:
        """(incarnation, attribute, sample) of all samples, those fed least recently first."""
        for (inc, attribute), sample in list(self._samples.items()):
            yield inc, attribute, sample

    def let_go(self, inc: str, attributes: Iterable[str]) -> None:
        """Drop the samples of a namespace that is closed; its efforts stay."""
        for attribute in attributes:
            if (inc, attribute) in self._samples:
                self._drop((inc, attribute))

    def forget(self, namespace: str) -> None:
        """Let go of everything about a namespace that was deleted."""
        for key in [key for key, sample in self._samples.items() if sample.namespace == namespace]:
            self._drop(key)
            self._efforts.pop(key, None)

    def _drop(self, key: Key) -> None:
        self._size_bytes -= self._samples.pop(key).size_bytes


@contextmanager
def unobserved() -> Iterator[None]:
    """No query of the block is taken note of: it measures, nobody asked it."""
    token = _is_unobserved.set(True)
    try:
        yield
    finally:
        _is_unobserved.reset(token)
