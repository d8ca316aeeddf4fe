"""Dense vectors for the demo, computed on the spot: TF-IDF and a truncated singular value decomposition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

DIMENSIONS = 128
_SEED = 0


class LatentSemantics:
    """A fitted projection of texts to unit vectors of `dimensions` float32 numbers."""

    def __init__(self, words: Any, projection: Any) -> None:
        self._words, self._projection = words, projection

    @property
    def dimensions(self) -> int:
        """Length of the vectors."""
        return int(self._projection.n_components)

    @classmethod
    def fit(cls, texts: Sequence[str], dimensions: int = DIMENSIONS) -> tuple[Self, npt.NDArray[np.float32]]:
        """The projection that `texts` suggest, and their own vectors: (n, dimensions) float32.

        Few texts give fewer dimensions: less than there are distinct words. The result depends on nothing but
        the texts. Raises ValueError if no word is left after stop words.
        """
        words = TfidfVectorizer(
            sublinear_tf=True, stop_words="english", min_df=2 if len(texts) > 100 else 1, dtype=np.float32
        )
        weights = words.fit_transform(texts)
        projection = TruncatedSVD(min(dimensions, weights.shape[1] - 1), n_iter=4, random_state=_SEED)
        vectors = projection.fit_transform(weights)
        return cls(words, projection), _unit(vectors)

    def project(self, text: str) -> npt.NDArray[np.float32]:
        """The vector of a text: (dimensions,) float32; zero if it has no known word."""
        vector: npt.NDArray[np.float32] = _unit(self._projection.transform(self._words.transform([text])))[0]
        return vector


def _unit(vectors: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    unit: npt.NDArray[np.float32] = normalize(vectors).astype(np.float32)
    return unit
