"""The baselines do what their names say, and no more."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from spmem.camera import Camera
from spmem.errors import InputError
from spmem.retrieval.rules.fixed_offset import FixedOffset
from spmem.retrieval.rules.fov_overlap import FovOverlap
from spmem.retrieval.rules.none import NoKeyframes
from spmem.retrieval.rules.pose_nearest import PoseNearest
from spmem.retrieval.rules.random import Random
from spmem.retrieval.rules.recent import Recent
from spmem.testing.retriever import query_of, stand, tour, views_of
from spmem.views import Views

HERE = [stand(-2.0, -1.0, 0.1)]


@pytest.fixture(scope="module")
def views() -> Views:
    """Twelve in the left room, then twelve in the right one."""
    return views_of(tour(24))


def test_none_is_none(views: Views) -> None:
    assert len(NoKeyframes().select(query_of(HERE), views, 4).ids) == 0


def test_recent_takes_the_latest_first(views: Views) -> None:
    chosen = Recent().select(query_of(HERE, exclude=[22]), views, 3)
    assert chosen.ids.tolist() == [23, 21, 20]
    assert chosen.scores.tolist() == [0, -2, -3]


def test_recent_goes_by_time_not_by_id() -> None:
    views, camera = Views(), stand(-2.0, -1.0, 0.0)
    for id, time in enumerate([5.0, 9.0, 1.0]):
        views.append(id, time, camera, np.ones((48, 64), np.float32))
    assert Recent().select(query_of(HERE), views, 3).ids.tolist() == [1, 0, 2]


def test_fixed_offset_steps_back_evenly(views: Views) -> None:
    assert FixedOffset(4).select(query_of(HERE), views, 3).ids.tolist() == [20, 16, 12]
    assert FixedOffset(10).select(query_of(HERE), views, 4).ids.tolist() == [14, 4]
    with pytest.raises(InputError, match="at least 1"):
        FixedOffset(0)


def test_random_follows_its_seed(views: Views) -> None:
    query = query_of(HERE)
    draws = [Random().select(replace(query, seed=i), views, 4).ids.tolist() for i in range(40)]
    assert draws[7] == Random().select(replace(query, seed=7), views, 4).ids.tolist()
    assert len({tuple(draw) for draw in draws}) > 35
    assert {id for draw in draws for id in draw} == set(range(24))


def test_nearest_pose_weighs_position_against_direction() -> None:
    views = views_of([stand(-2.0, -1.0, 1.2), stand(-3.5, -1.0, 0.0), stand(-2.0, -1.0, 0.0)])
    query = query_of([stand(-2.0, -1.0, 0.0)])
    assert PoseNearest().select(query, views, 1).ids.tolist() == [2]
    assert PoseNearest(angle=0).select(query, views, 3).ids.tolist() == [2, 0, 1]
    assert PoseNearest(position=0).select(query, views, 3).ids.tolist() == [2, 1, 0]
    with pytest.raises(InputError, match=">= 0"):
        PoseNearest(angle=-1)


def test_nearest_pose_does_not_see_the_wall() -> None:
    behind, inside = stand(0.3, -1.0, 0.0), stand(-2.5, 0.5, 1.2)
    views = views_of([behind, inside])
    query = query_of([stand(-0.3, -1.0, 0.0)])
    assert PoseNearest().select(query, views, 1).ids.tolist() == [0]


def test_nearest_pose_does_not_depend_on_world_units() -> None:
    views = views_of(tour(12))
    query = query_of(HERE)
    before = PoseNearest().select(query, views, 5)
    views.c2w[:, :3, 3] *= 50
    c2w = query.cameras.c2w.clone()
    c2w[:, :3, 3] *= 50
    query.projection.depth.mul_(50)
    moved = Camera(query.cameras.K, c2w, width=64, height=48)
    again = PoseNearest().select(type(query)(moved, query.projection, Views(), query.exclude), views, 5)  # fmt: skip
    assert again.ids.tolist() == before.ids.tolist()
    np.testing.assert_allclose(again.scores, before.scores, atol=1e-3)


def test_fov_overlap_covers_the_field_of_view() -> None:
    views = views_of([stand(-2.0, -1.0, turn) for turn in (-0.3, -0.28, 0.3, np.pi)])
    chosen = FovOverlap(staleness=0).select(query_of([stand(-2.0, -1.0, 0.0)]), views, 4)
    assert set(chosen.ids[:2].tolist()) in ({0, 2}, {1, 2})
    assert len(chosen.ids) == 4
    assert 0.5 < chosen.scores[0] <= 1
    assert chosen.scores[-1] == 0


def test_fov_overlap_takes_from_old_keyframes() -> None:
    camera = stand(-2.0, -1.0, 0.0)
    views = views_of([camera, camera, camera])
    chosen = FovOverlap().select(query_of([camera]), views, 1)
    assert chosen.ids.tolist() == [2]
    with pytest.raises(InputError, match="fov-overlap"):
        FovOverlap(points=0)


def test_fov_overlap_does_not_see_the_wall() -> None:
    behind, inside = stand(0.6, -1.0, -np.pi / 2), stand(-1.5, 1.5, -2.0)
    query = query_of([stand(-0.6, -1.0, -np.pi / 2)])
    chosen = FovOverlap(staleness=0).select(query, views_of([behind, inside]), 1)
    assert chosen.ids.tolist() == [0]
