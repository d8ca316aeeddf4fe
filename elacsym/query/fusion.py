"""Several rankings made one: reciprocal ranks, min-max weighted sums, or the best weighted share.

Pure functions over ranked candidates. With r(d) the rank of a document in a leg, from 1, and s(d) its score
there, larger is better (a distance d becomes 1 - d):

    rrf       sum over legs of weight / (k + r(d))
    weighted  sum over legs of weight * n(d)
    max       largest over legs of weight * n(d)
    where     n(d) = (s(d) - min) / (max - min) over the leg's candidates, 1.0 when they are all equal

A leg that lacks a document gives it nothing. Sums are exactly rounded and then rounded to float32, so the
order of the legs makes no difference; ties go to the smaller id.

Weights are taken as they are: the classic reciprocal rank fusion has weight 1 for every leg, which is what
the v1 decoder passes where no weight is given. Scaling all weights never changes an order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from elacsym.query.ast import Fusion, Hit, LegShare, Rerank
from elacsym.types import DocumentId

_F32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class RankedLeg:
    """One leg's candidates, best first.

    scores: (n,) float32, ascending if `is_distance`, else descending. weight: 0 to `WEIGHT_MAX`.
    """

    name: str
    ids: Sequence[DocumentId]
    scores: npt.NDArray[np.float32]
    weight: float = 1.0
    is_distance: bool = False


@dataclass(frozen=True, slots=True)
class Fused:
    """A document of the fused ranking; `score` is a float32 value, `shares` are in the order of the legs that
    have it."""

    id: DocumentId
    score: float
    shares: tuple[LegShare, ...]


def fuse(legs: Sequence[RankedLeg], fusion: Fusion, top_k: int) -> list[Fused]:
    """The best `top_k` documents of all legs, by descending score, then ascending id."""
    shares: dict[DocumentId, list[LegShare]] = {}
    for leg in legs:
        contributions = _contributions(leg, fusion).tolist()
        for rank, (document, score, contribution) in enumerate(
            zip(leg.ids, leg.scores.tolist(), contributions, strict=True), 1
        ):
            shares.setdefault(document, []).append(LegShare(leg.name, rank, score, contribution))
    combine = max if fusion.method == "max" else math.fsum
    fused = [
        Fused(document, _as_f32(combine([s.contribution for s in given])), tuple(given))
        for document, given in shares.items()
    ]
    fused.sort(key=lambda f: (-f.score, f.id))
    return fused[:top_k]


def _as_f32(score: float) -> float:
    return float(np.float32(min(score, _F32_MAX)))


def reranked(answers: Sequence[Sequence[Hit]], rerank: Rerank) -> tuple[Hit, ...]:
    """The rows of several answers as one, by reciprocal ranks.

    A row's attributes are those of the first answer that has it, completed by later ones.
    """
    weights = rerank.weights or (1.0,) * len(answers)
    legs = [
        RankedLeg(str(number), [hit.id for hit in hits], np.zeros(len(hits), np.float32), weight)
        for number, (hits, weight) in enumerate(zip(answers, weights, strict=True))
    ]
    attributes: dict[DocumentId, dict[str, Any]] = {}
    for hit in chain.from_iterable(answers):
        attributes[hit.id] = hit.attributes | attributes.get(hit.id, {})
    wanted = len(attributes) if rerank.limit is None else rerank.offset + rerank.limit
    fused = fuse(legs, Fusion("rrf", rerank.constant), wanted)
    return tuple(Hit(row.id, row.score, attributes[row.id]) for row in fused[rerank.offset :])


def _contributions(leg: RankedLeg, fusion: Fusion) -> npt.NDArray[np.float64]:
    """(n,) float64: what the leg gives each of its candidates."""
    if fusion.method == "rrf":
        return leg.weight / (fusion.k + np.arange(1, len(leg.ids) + 1, dtype=np.float64))
    scores = leg.scores.astype(np.float64)
    return leg.weight * min_max(1.0 - scores if leg.is_distance else scores)


def min_max(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Scores, larger is better, scaled to 0…1; 1.0 throughout when they are all equal. Empty stays empty."""
    if len(scores) == 0:
        return scores
    # a product or distance of huge vectors may have overflowed to infinity
    scores = np.clip(scores, -_F32_MAX, _F32_MAX)
    low, high = scores.min(), scores.max()
    return (scores - low) / (high - low) if high > low else np.ones_like(scores)
