"""Exact visibility: what a view saw, what hid from it, and that the kernel and its plain twin agree."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spmem.camera import Camera
from spmem.query import Query
from spmem.retrieval.visibility.exact import (
    POINTS,
    visibility,
    visibility_plain,
    visible_points,
    visible_points_plain,
)
from spmem.testing.box import BoxRoom
from spmem.testing.retriever import TWO_ROOMS, query_of, stand, views_of
from spmem.types import Projection
from spmem.views import Views


def share(query: Query, camera: Camera, tolerance: float = 0.04) -> float:
    """Share of the query's pixels that one more camera saw."""
    points = visible_points(query.projection)
    seen = visibility(points, views_of([camera]), np.array([0]), tolerance=tolerance)
    return float(seen[0] @ points.weight) / points.pixels


def flat(cameras: Camera, depth: float) -> Projection:
    """Every pixel at one depth, of unknown normal."""
    image = torch.full((len(cameras), cameras.height, cameras.width), depth)
    colour = torch.zeros(*image.shape, 3)
    return Projection(cameras, colour, image, colour, image > 0, torch.zeros_like(image).long())


def test_a_view_sees_all_that_it_is_asked_about_itself() -> None:
    here = stand(-2.0, -1.0, 0.2)
    assert share(query_of([here]), here) > 0.99


def test_a_view_to_the_other_side_sees_nothing() -> None:
    assert share(query_of([stand(-2.0, 0.0, 0.0)]), stand(-2.0, 0.0, np.pi)) == 0


def test_what_stands_between_hides() -> None:
    wall = ((-4.0, -1.5, 0.5), (4.0, 1.2, 0.6))
    hall = BoxRoom(room=TWO_ROOMS.room, solids=(wall,))
    beyond = query_of([stand(0.0, 1.0, 0.0)], room=hall)
    before = views_of([stand(0.0, -1.0, 0.0)], room=hall)
    points = visible_points(beyond.projection)
    assert not visibility(points, before, np.array([0])).any()
    clear = views_of([stand(0.0, 0.7, 0.0)], room=hall)
    assert visibility(points, clear, np.array([0])).mean() > 0.9


def test_a_thin_wall_is_not_seen_from_its_other_side() -> None:
    at_the_wall = query_of([stand(-2.0, -1.0, np.pi / 2)])
    assert share(at_the_wall, stand(-1.5, -1.2, np.pi / 2)) > 0.4
    assert share(at_the_wall, stand(2.0, -1.0, -np.pi / 2)) < 0.05


def test_nothing_is_seen_where_a_view_has_no_depth() -> None:
    camera = stand(-2.0, -1.0, 0.2)
    depth = TWO_ROOMS.render(camera[None]).depth[0].numpy()
    depth[:, :32] = 0
    views = Views()
    views.append(0, 0.0, camera, depth)
    points = visible_points(query_of([camera]).projection)
    seen = visibility(points, views, np.array([0]))[0].reshape(48, 64)
    assert seen[:, 33:].mean() > 0.99
    assert not seen[:, :31].any()


def test_tolerance_is_relative_to_depth() -> None:
    camera = Camera.look_at([0, 0, 0], [0, 0, 1], width=64, height=48)
    for scale in (0.01, 1.0, 1000.0):
        views = Views()
        views.append(0, 0.0, camera, np.full((48, 64), 1.03 * scale, np.float32))
        points = visible_points(flat(camera[None], scale))
        assert visibility(points, views, np.array([0]), tolerance=0.04).all()
        assert not visibility(points, views, np.array([0]), tolerance=0.02).any()


@pytest.mark.parametrize("size", [(64, 48), (640, 480), (1000, 30), (7, 5), (1, 1)])
@pytest.mark.parametrize("cameras", [1, 3, 9])
def test_points_stand_for_all_covered_pixels(size: tuple[int, int], cameras: int) -> None:
    width, height = size
    walk = [stand(-2.0, -1.0, 0.1 * i, width=width, height=height) for i in range(cameras)]
    points = visible_points(flat(Camera.stack(walk), 2.0))
    assert points.weight.sum() == points.pixels == cameras * width * height
    assert len(points) <= POINTS
    assert points.offsets.tolist()[0] == 0
    assert points.offsets.tolist()[-1] == len(points) == len(points.normal)
    assert len(points.offsets) == cameras + 1


def test_points_lie_on_the_surfaces_seen() -> None:
    camera = stand(-2.0, -1.0, 0.3, width=130, height=100)
    seen = query_of([camera]).projection
    points = visible_points(seen)
    pixel, depth = camera.project(torch.from_numpy(points.position))
    x, y = pixel.long().unbind(-1)
    torch.testing.assert_close(pixel % 1, torch.full_like(pixel, 0.5), rtol=0, atol=1e-2)
    torch.testing.assert_close(depth, seen.depth[0, y, x], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(torch.from_numpy(points.normal), seen.normal[0, y, x])


def test_only_covered_pixels_give_points() -> None:
    query = query_of([stand(-2.0, -1.0, 0.3)])
    query.projection.mask[:, :24] = False
    points = visible_points(query.projection)
    assert points.weight.sum() == points.pixels // 2
    query.projection.mask[:] = False
    assert len(visible_points(query.projection)) == 0


@settings(max_examples=8)
@given(st.integers(0, 2**32 - 1))
def test_the_kernel_and_the_plain_twin_agree_bit_for_bit(seed: int) -> None:
    draw = np.random.default_rng(seed)
    asked = [stand(*draw.uniform([-3, -2, -3], [3, 1, 3])) for _ in range(2)]
    views = views_of([stand(*draw.uniform([-3, -2, -3], [3, 1, 3])) for _ in range(3)])
    views.depth[:] *= draw.uniform(0.9, 1.1, views.depth.shape)
    views.depth[draw.random(views.depth.shape) < 0.2] = 0
    points = visible_points(query_of(asked).projection)
    rows = np.array([2, 0])
    np.testing.assert_array_equal(
        visibility(points, views, rows), visibility_plain(points, views, rows)
    )


@settings(max_examples=8)
@given(st.integers(0, 2**32 - 1), st.integers(1, 90), st.integers(1, 120))
def test_points_are_those_of_the_plain_twin(seed: int, width: int, height: int) -> None:
    draw = np.random.default_rng(seed)
    asked = [stand(*draw.uniform([-3, -2, -3], [3, 1, 3]), width=width, height=height) for _ in range(3)]  # fmt: skip
    seen = query_of(asked).projection
    seen.mask[torch.from_numpy(draw.random(seen.mask.shape) < 0.3)] = False
    seen.depth[torch.from_numpy(draw.random(seen.mask.shape) < 0.1)] = 0
    fast, plain = visible_points(seen), visible_points_plain(seen)
    np.testing.assert_allclose(fast.position, plain.position, atol=1e-5)
    for name in ("normal", "weight", "offsets", "pixels"):
        np.testing.assert_array_equal(getattr(fast, name), getattr(plain, name))
