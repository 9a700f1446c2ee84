"""Which keyframes saw each surfel: against a dictionary, and the two ways of following the chains."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from spmem.stores.postings import Postings

IDS = st.lists(st.integers(-1, 12), max_size=20)


@given(st.lists(IDS, max_size=6), IDS)
def test_every_observer_is_listed_once_in_order(frames: list[list[int]], asked: list[int]) -> None:
    postings = Postings(torch.device("cpu"))
    for keyframe, surfels in enumerate(frames):
        postings.append(10 * keyframe, torch.tensor(surfels, dtype=torch.long))
    expected = [
        [10 * keyframe for keyframe, saw in enumerate(frames) if id >= 0 and id in saw]
        for id in asked
    ]
    ids = torch.tensor(asked, dtype=torch.long)
    for offsets, keyframes in (postings.of(ids), postings.of_plain(ids)):
        assert offsets[0] == 0
        assert offsets.diff().tolist() == [len(each) for each in expected]
        assert keyframes.tolist() == [id for each in expected for id in each]
