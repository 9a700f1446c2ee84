"""Restrictions of a search: time, region and names, together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import spmem
from spmem.camera import Camera
from spmem.errors import InputError
from spmem.testing.retriever import TWO_ROOMS, tour, views_of
from spmem.views import THUMB
from spmem.where import Where

LEFT_BOX = ((-3.1, -0.3, -0.6), (-2.1, 1.1, -0.4))
"""Around the front of the box in the left room."""


def test_time_has_open_ends_and_includes_what_it_names() -> None:
    views = views_of(tour())
    assert Where(time=(3, 5)).hides(views).tolist() == [0, 1, 2, *range(6, 12)]
    assert Where(time=(None, 10)).hides(views).tolist() == [11]
    assert Where(time=(2, None), exclude=(7, 99)).hides(views).tolist() == [0, 1, 7]


def test_a_region_keeps_the_views_that_saw_a_surface_in_it() -> None:
    views = views_of(tour())
    hidden = Where(region=LEFT_BOX).hides(views)
    low, high = torch.tensor(LEFT_BOX)
    saw = []
    for row in range(len(views)):
        camera = Camera(views.K[row], views.c2w[row], width=THUMB[1], height=THUMB[0])
        points = camera.unproject(torch.from_numpy(views.depth[row]))
        saw.append(bool(((points >= low) & (points <= high)).all(-1).any()))
    assert hidden.tolist() == np.flatnonzero(~np.array(saw)).tolist()
    assert 0 < len(hidden) < len(views)


def test_views_without_depth_saw_nothing() -> None:
    views = views_of(tour(4))
    views.depth[1] = 0
    assert Where(region=((-99, -99, -99), (99, 99, 99))).hides(views).tolist() == [1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"time": (5, 3)},
        {"time": (float("nan"), 3)},
        {"region": ((0, 0), (1, 1))},
        {"region": ((0, 0, 2), (1, 1, 1))},
        {"region": ((0, 0, float("inf")), (1, 1, 1))},
    ],
)
def test_what_no_restriction_is(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"where\.(time|region) is"):
        Where(**wrong)


@pytest.mark.parametrize("method", ["covisibility", "fov-overlap", "recent", "random"])
def test_every_rule_keeps_to_it(method: str) -> None:
    memory = spmem.open(config=spmem.MemoryConfig(keyframes=spmem.KeyframeConfig(novelty=0)))
    for frame in TWO_ROOMS.frames(Camera.stack(tour()), time=0.0):
        memory.store(frame)
    asked = tour()[2]
    found = memory.retrieve(
        asked, k=8, method=method, given=(), where=Where(time=(1, 4), exclude=(2,))
    )
    assert {keyframe.id for keyframe in found.keyframes} <= {1, 3, 4}
    assert len(found.keyframes) > 0
