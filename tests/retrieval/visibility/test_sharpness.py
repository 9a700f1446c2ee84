"""How sharply views show what they saw, by hand and against the plain twin; and what that changes in the choice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spmem.camera import Camera
from spmem.query import Query, Selection
from spmem.retrieval.greedy import Terms, greedy
from spmem.retrieval.rules.covisibility import Covisibility
from spmem.retrieval.visibility.exact import visibility, visible_points
from spmem.retrieval.visibility.sharpness import sharpness, sharpness_plain
from spmem.testing.retriever import query_of, stand, tour, views_of
from spmem.types import Projection
from spmem.views import Views

TURN = 0.6


def before_a_wall(at: Camera) -> float:
    """How sharply a camera shows the middle of a wall 2 units ahead of the query's; the wall's points have no normal."""
    asked = Camera.from_fov(1.0, torch.eye(4), width=64, height=48)[None]
    image = torch.full((1, 48, 64), 2.0)
    colour = torch.zeros(1, 48, 64, 3)
    shown = Projection(asked, colour, image, colour, image > 0, torch.zeros_like(image).long())
    points, views = visible_points(shown), Views()
    views.append(0, 0.0, at, np.ones((at.height, at.width), np.float32))
    everything = np.ones((1, len(points)), bool)
    sharp = sharpness(points, asked, views, np.array([0]), everything)[0] / 255
    middle = np.linalg.norm(points.position - [0, 0, 2], axis=1).argmin()
    return float(sharp[middle])


def moved(x: float, z: float, turn: float = 0.0, fov: float = 1.0, width: int = 64) -> Camera:
    pose = torch.eye(4)
    pose[0, 0] = pose[2, 2] = np.cos(turn)
    pose[0, 2], pose[2, 0] = np.sin(turn), -np.sin(turn)
    pose[0, 3], pose[2, 3] = x, z
    return Camera.from_fov(fov, pose, width=width, height=width * 3 // 4)


@pytest.mark.parametrize(
    ("at", "wanted"),
    [
        (moved(0, 0), 1.0),
        (moved(0, -2), 0.25),  # twice as far: a quarter of the pixels
        (moved(0, 1), 1.0),  # nearer is no better than as near
        (moved(0, 0, width=128), 1.0),  # of image sizes nothing is known
        (moved(0, 0, fov=2 * float(np.arctan(2 * np.tan(0.5)))), 0.25),
        (moved(2 * np.sin(-TURN), 2 - 2 * np.cos(TURN), TURN), np.cos(TURN) ** 2),
        (moved(0, 4, np.pi), 0.0),  # from behind
    ],
)
def test_resolution_and_angle_count(at: Camera, wanted: float) -> None:
    assert before_a_wall(at) == pytest.approx(wanted, abs=0.03)


def test_kernel_and_plain_twin_agree() -> None:
    views, query = views_of(tour(24)), query_of([stand(-2.0, -1.2, 0.3), stand(1.9, -1.0, -0.4)])
    points, rows = visible_points(query.projection), np.arange(24)[::-1].copy()
    seen = visibility(points, views, rows)
    arguments = points, query.cameras, views, rows, seen
    fast, plain = sharpness(*arguments), sharpness_plain(*arguments)
    assert np.abs(fast.astype(int) - plain).max() <= 1
    assert (fast[~seen] == 0).all() and 0 < fast[seen].mean() < 255  # noqa: PT018


def chosen(query: Query, views: Views, k: int, **terms: Any) -> Selection:
    rule = Covisibility(terms=Terms(**terms))
    rule.observe(views, slice(0, len(views)))
    return rule.select(query, views, k)


def test_of_views_that_saw_about_as_much_the_nearest_comes_first() -> None:
    query = query_of([stand(-2.0, 0.0, 0.1)])
    views = views_of([stand(-2.0, -0.3, 0.1), stand(-2.0, 0.2, 0.1), stand(-2.0, -0.5, 0.1)])
    assert chosen(query, views, 3).ids[0] == 1
    assert chosen(query, views, 3, sharpness=0).ids[0] != 1


@given(st.integers(0, 10_000), st.floats(0.01, 0.5))
def test_sharpness_costs_no_step_more_than_its_share(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    seen = rng.random((8, 30)) < 0.4
    sharp = np.where(seen, rng.integers(1, 256, seen.shape), 0).astype(np.uint8)
    weight, times = rng.integers(1, 9, 30), np.arange(8.0)
    picked = greedy(seen, weight, times, 5, sharp=sharp, terms=Terms(sharpness=share, min_gain=0, fill=False))  # fmt: skip
    left = weight.copy()
    for row in picked:
        gains, shows = seen @ left, sharp.astype(int) @ left
        assert gains[row] >= (1 - share) * gains.max() > 0
        assert shows[row] == shows[gains >= (1 - share) * gains.max()].max()
        left = np.where(seen[row], 0, left)


def test_places_left_over_go_to_what_sharpens_most() -> None:
    seen = np.ones((4, 2), bool)
    sharp = np.array([[200, 200], [190, 190], [90, 250], [210, 10]], np.uint8)
    ones, times = np.ones(2, np.int64), np.zeros(4)
    assert greedy(seen, ones, times, 4, sharp=sharp).tolist() == [0, 2, 3, 1]
    assert greedy(seen, ones, times, 4, sharp=sharp, terms=Terms(sharpness=0)).tolist() == [3, 2, 1, 0]  # fmt: skip
