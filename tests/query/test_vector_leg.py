import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from elacsym.index.vector import Candidates
from elacsym.query import vector_leg

numbers = st.integers(0, 400).map(float) | st.just(np.inf)


@st.composite
def proposals(draw):
    """What several parts propose for a few queries: as many of each part for each query."""
    queries = draw(st.integers(1, 3))
    parts = []
    for count in draw(st.lists(st.integers(0, 200), min_size=1, max_size=4)):
        keys = np.array(
            draw(st.lists(numbers, min_size=queries * count, max_size=queries * count)), np.float32
        )
        keys = np.sort(keys.reshape(queries, count), axis=1)
        slack = np.array([draw(st.sampled_from([0.0, 3.0, 50.0, np.inf])) for _ in range(queries)])
        positions = np.tile(np.arange(count), (queries, 1))
        parts.append(Candidates(positions, keys, slack, lambda _: (3, 1_000)))
    return parts


@given(proposals(), st.integers(1, 5))
def test_candidates_are_kept_as_far_as_their_estimates_leave_room(proposed, depth):
    least = vector_leg.RERANKED_LEAST + vector_leg.RERANKED_LEAST_PER_ROW * depth
    most = vector_leg.RERANKED_MOST + vector_leg.RERANKED_MOST_PER_ROW * depth
    kept = vector_leg._kept(proposed, depth)
    for query in range(len(proposed[0].keys)):
        keys = sorted(key for part in proposed for key in part.keys[query].tolist())
        slack = max(part.slack[query] for part in proposed)
        if len(keys) > least:
            limit = max(keys[depth - 1] + slack, keys[least - 1])
            limit = min(limit, keys[min(most, len(keys)) - 1])
            keys = [key for key in keys if key <= limit]
        found = [
            key
            for part, mask in zip(proposed, kept, strict=True)
            for key in part.keys[query, mask[query]].tolist()
        ]
        assert sorted(found) == keys
    for mask in kept:
        # the best of every part
        assert (np.diff(mask.astype(int), axis=1) <= 0).all()
