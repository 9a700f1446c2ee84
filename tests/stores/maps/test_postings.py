"""Postings: what keyframes saw, against sets of pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spmem.stores.maps.postings import Postings

CPU = torch.device("cpu")
keyframe = st.integers(0, 5)
step = st.one_of(
    st.tuples(st.just("append"), keyframe, st.lists(st.integers(-1, 20), max_size=12)),
    st.tuples(st.just("drop"), st.sets(keyframe, max_size=3), st.none()),
    st.tuples(st.just("reopen"), st.none(), st.none()),
)


@pytest.mark.parametrize("kernel", ["numba", "torch"])
@given(st.lists(step, max_size=16))
def test_they_answer_as_sets_of_pairs_do(kernel: str, steps: list[tuple]) -> None:  # type: ignore[type-arg]
    postings, pairs = Postings(CPU, kernel), set[tuple[int, int]]()
    for what, which, surfels in steps:
        if what == "append":
            postings.append(which, torch.tensor(surfels, dtype=torch.long))
            pairs |= {(which, surfel) for surfel in surfels if surfel >= 0}
        elif what == "drop":
            postings.drop(which)
            pairs = {(k, surfel) for k, surfel in pairs if k not in which}
        else:
            postings = Postings.restore(postings.arrays(), CPU, kernel, surfels=22)
        asked = torch.arange(-1, 22)
        offsets, found = postings.of(asked)
        for i, surfel in enumerate(asked.tolist()):
            wanted = sorted(k for k, s in pairs if s == surfel)
            assert found[offsets[i] : offsets[i + 1]].tolist() == wanted
        assert postings.seen(asked).tolist() == (offsets.diff() > 0).tolist()
        for k in range(6):
            assert sorted(postings.saw(k).tolist()) == sorted(s for name, s in pairs if name == k)


def test_moving_a_keyframe_often_takes_no_more_room() -> None:
    postings, surfels = Postings(CPU), torch.arange(1000)
    for k in range(4):
        postings.append(k, surfels)
    for _ in range(50):
        postings.drop([1])
        postings.append(1, surfels)
    assert len(postings._surfel) < 20_000
    assert len(postings.arrays()["posting_surfel"]) == 4000


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("posting_surfel", -1),
        ("posting_surfel", 1),
        ("posting_surfel", 4),
        ("posting_start", 1),
        ("posting_start", 4),
        ("posting_keyframe", -1),
    ],
)
def test_a_damaged_checkpoint_is_noticed(name: str, value: int) -> None:
    """Surfels that are not there or come twice, runs that do not begin at the beginning or lead out of the entries."""
    postings = Postings(CPU)
    postings.append(0, torch.arange(4))
    postings.append(1, torch.arange(2))
    arrays = {key: np.array(array) for key, array in postings.arrays().items()}
    Postings.restore(arrays, CPU, surfels=4)
    arrays[name][0] = value
    with pytest.raises(ValueError, match="posting"):
        Postings.restore(arrays, CPU, surfels=4)
