import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from elacsym.index.vector import Candidates
from elacsym.query import vector_leg


def candidates(keys, slack):
    keys = np.sort(np.array(keys, np.float32))
    return Candidates(np.arange(len(keys)), keys, slack, 3, 1_000)


numbers = st.integers(0, 400).map(float) | st.just(np.inf)
parts = st.lists(
    st.builds(candidates, st.lists(numbers, max_size=300), st.sampled_from([0.0, 3.0, 50.0, np.inf])),
    min_size=1,
    max_size=4,
)


@given(parts, st.integers(1, 5))
def test_candidates_are_kept_as_far_as_their_estimates_leave_room(proposed, depth):
    least = vector_leg.RERANKED_LEAST + vector_leg.RERANKED_LEAST_PER_ROW * depth
    most = vector_leg.RERANKED_MOST + vector_leg.RERANKED_MOST_PER_ROW * depth
    kept = vector_leg._cut(proposed, depth)
    keys = sorted(key for part in proposed for key in part.keys.tolist())
    slack = max(part.slack for part in proposed)
    if len(keys) > least:
        limit = max(keys[depth - 1] + slack, keys[least - 1])
        limit = min(limit, keys[min(most, len(keys)) - 1])
        keys = [key for key in keys if key <= limit]
    assert sorted(key for part in kept for key in part.keys.tolist()) == keys
    for whole, part in zip(proposed, kept, strict=True):
        assert np.array_equal(part.positions, whole.positions[: len(part.keys)])
        assert (part.lists, part.codes) == (whole.lists, whole.codes)
