"""Rules that cover pixels or points with keyframes, on scenes counted by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from spmem.camera import Camera
from spmem.errors import InputError
from spmem.query import Query
from spmem.retrieval.rules.oracle import Oracle
from spmem.retrieval.rules.set_cover import SetCover
from spmem.retrieval.rules.visible_hungarian import VisibleHungarian
from spmem.testing.retriever import query_of, stand, views_of
from spmem.types import Projection
from spmem.views import Views


def camera(focal: float = 64.0) -> Camera:
    return Camera([[focal, 0, 32], [0, focal, 24], [0, 0, 1]], torch.eye(4), width=64, height=48)


def asked(*cameras: Camera, held: Views | None = None) -> Query:
    """Cameras before a wall at depth 2."""
    together, depth = Camera.stack(cameras), torch.full((len(cameras), 48, 64), 2.0)
    normal = torch.tensor([0.0, 0, -1]).expand(*depth.shape, 3)
    ids = torch.zeros_like(depth, dtype=torch.long)
    seen = Projection(together, torch.zeros_like(normal), depth, normal, depth > 0, ids)
    return Query(together, seen, held or Views(), np.zeros(0, np.int64))


def bank(*parts: tuple[int, int, float]) -> Views:
    """Keyframes of the same camera that have depth only in columns from, to."""
    views = Views()
    for id, (start, stop, z) in enumerate(parts):
        depth = np.zeros((48, 64), np.float32)
        depth[:, start:stop] = z
        views.append(id, float(id), camera(), depth)
    return views


def test_set_cover_takes_what_adds_most_and_stops() -> None:
    # Keyframes fill columns 0..31, 0..47 and 40..63 of 64. The second has most, 48; of the other two the first adds
    # none and the third 16; after that nothing adds anything. Shares: 48/64 and 24/64.
    views = bank((0, 32, 2.0), (0, 48, 2.0), (40, 64, 2.0))
    chosen = SetCover().select(asked(camera()), views, 4)
    assert chosen.ids.tolist() == [1, 2]
    assert chosen.scores.tolist() == [0.75, 0.375]


def test_set_cover_counts_no_point_that_another_keyframe_hides() -> None:
    # The scale is 2, the tolerance 0.1 of it. A full wall at 3 lies behind that at 2 wherever one of the others has it:
    # columns 48..63 are all it has. At 2.15 it is as good as they are, and has all 64.
    views = bank((0, 48, 2.0), (0, 64, 3.0))
    chosen = SetCover().select(asked(camera()), views, 4)
    assert chosen.ids.tolist() == [0, 1]
    assert chosen.scores.tolist() == [0.75, 0.25]
    chosen = SetCover().select(asked(camera()), bank((0, 48, 2.0), (0, 64, 2.15)), 4)
    assert chosen.ids.tolist() == [1]
    assert chosen.scores.tolist() == [1.0]
    with pytest.raises(InputError, match="set-cover"):
        SetCover(tolerance=-1)


def test_set_cover_spends_nothing_on_the_latest_frame_that_is_held() -> None:
    # RetentionCandidates are columns 0..31, and later 0..47: the later one counts. What is left is the third keyframe's.
    views = bank((0, 32, 2.0), (0, 48, 2.0), (40, 64, 2.0))
    query = asked(camera(), held=bank((0, 32, 2.0), (0, 48, 2.0)))
    assert SetCover().select(query, views, 4).ids.tolist() == [2]
    assert SetCover(pre_cover=False).select(query, views, 4).ids.tolist() == [1, 2]
    every = asked(camera(), held=bank((0, 64, 2.0)))
    assert len(SetCover().select(every, views, 4).ids) == 0


def test_set_cover_adds_up_over_cameras() -> None:
    # A second camera of twice the focal length sees the wall's middle half, columns 16..47 and rows 12..35. Keyframe 0 has
    # half of the first camera's pixels; its 16 x 24 points in that middle are as many of the second's 64 x 48: 1/8.
    chosen = SetCover().select(asked(camera(), camera(128.0)), bank((0, 32, 2.0)), 1)
    assert chosen.scores[0] == pytest.approx((1 / 2 + 1 / 8) / 2)


def test_spatia_gives_each_camera_a_keyframe_of_its_own() -> None:
    # The second camera, of twice the focal length, sees the wall's middle half, columns 16..47. Keyframe 0 saw all of
    # the wall, keyframe 1 that middle, keyframe 2 nothing. Both saw all that the second camera sees; of the first, 64
    # and 32 columns. The best sum is keyframe 0 for the first camera and keyframe 1 for the second.
    views = bank((0, 64, 2.0), (16, 48, 2.0), (0, 0, 2.0))
    chosen = VisibleHungarian().select(asked(camera(), camera(128.0)), views, 2)
    assert chosen.ids.tolist() == [0, 1]
    np.testing.assert_allclose(chosen.scores, [1, 1], atol=0.01)
    chosen = VisibleHungarian().select(asked(camera(128.0), camera()), views, 2)
    assert chosen.ids.tolist() == [1, 0]


def test_spatia_assigns_again_where_cameras_are_fewer_than_places() -> None:
    # One camera: keyframe 0 saw all of it, keyframe 1 half (and half a pixel on each side), keyframe 2 nothing.
    views = bank((0, 64, 2.0), (16, 48, 2.0), (0, 0, 2.0))
    chosen = VisibleHungarian().select(asked(camera()), views, 3)
    assert chosen.ids.tolist() == [0, 1]
    np.testing.assert_allclose(chosen.scores, [1, 0.5], atol=0.04)
    with pytest.raises(InputError, match="visible-hungarian"):
        VisibleHungarian(tolerance=0)


def test_the_oracle_covers_the_truth() -> None:
    # Points weigh 1, 1, 3, 1. Keyframe 2 saw 3 + 1 = 4, then keyframe 0 adds 2, then nothing adds: 4/6 and 2/6.
    # Without keyframe 2: keyframe 1 saw 3, then keyframe 0 adds 2.
    saw = np.array([[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]], bool)

    def truth(query: Query, views: Views) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        return saw[: len(views)], np.array([1, 1, 3, 1])

    views = views_of([stand(-2.0, -1.0, turn) for turn in (0.0, 0.1, 0.2)])
    query = query_of([stand(-2.0, -1.0, 0.0)])
    chosen = Oracle(truth).select(query, views, 3)
    assert chosen.ids.tolist() == [2, 0]
    np.testing.assert_allclose(chosen.scores, [4 / 6, 2 / 6])
    chosen = Oracle(truth).select(replace(query, exclude=np.array([2])), views, 3)
    assert chosen.ids.tolist() == [1, 0]
    assert Oracle(truth).select(query, views, 1).ids.tolist() == [2]
    assert len(Oracle(truth).select(query, views, 0).ids) == 0
