"""Ray casting against one solid at a time, in an empty room, worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from spmem import Camera
from spmem.worlds.floorplan import FloorPlan
from spmem.worlds.furnishing import PlacedPiece
from spmem.worlds.materials import PLAIN, WHITE, Material
from spmem.worlds.rendering import render
from spmem.worlds.scene import assemble
from spmem.worlds.shapes import Part, Piece, ball, box, cylinder

STUFF = Material(PLAIN, WHITE, WHITE, WHITE)
WALL, THING = 1, 2


def look(
    part: Part, eye: list[float], at: list[float], *, yaw: float = 0.0
) -> tuple[float, list[float], int]:
    """Depth, normal and instance at the middle of the image, in a room from -5 to 5 that is 3 high."""
    plan = FloorPlan(
        rooms=np.array([[-5.0, -5.0, 5.0, 5.0]]),
        heights=np.array([3.0]),
        kinds=("hall",),
        doors=np.zeros((0, 4)),
        door_heights=np.zeros(0),
        joins=np.zeros((0, 2), np.int64),
        axes=np.zeros(0, np.int64),
    )
    scene = assemble(
        plan,
        [[STUFF] * 6],
        np.full((1, 6), WALL),
        np.array([[0.0, -2.5, 0.0, 1.0, 1.0, 1.0]]),
        [PlacedPiece(Piece("thing", (part,)), 0, 0.0, 0.0, yaw)],
        [THING],
        [],
    )
    camera = Camera.look_at(eye, at, fov_x=0.5, width=1, height=1)
    K, c2w = camera.K[None].double().numpy(), camera.c2w[None].double().numpy()
    _, depth, normal, instance = render(scene, np.zeros((1, 0, 5)), K, c2w, 1, 1, 1)
    return depth.item(), normal[0, 0, 0].tolist(), instance.item()


FACING = pytest.approx([0, 0, -1], abs=1e-6)


def test_box_from_the_front() -> None:
    depth, normal, instance = look(box(STUFF, (1, 2, 1)), [0, -1, -4], [0, -1, 0])
    assert (depth, normal, instance) == (pytest.approx(3.5, abs=1e-6), FACING, THING)


def test_turned_box_shows_its_edge_and_the_face_beside_it() -> None:
    # A piece faces (sin yaw, cos yaw), so its corner at (0.5, -0.5) comes to (cos - sin, -sin - cos) / 2: the edge
    # next to the camera. Right of it lies the face whose normal is (cos, -sin).
    sin, cos = math.sin(math.pi / 3), math.cos(math.pi / 3)
    beside = (cos - sin) / 2 + 1e-4
    turned = look(box(STUFF, (1, 2, 1)), [beside, -1, -4], [beside, -1, 0], yaw=math.pi / 3)
    assert turned[0] == pytest.approx(4 - (sin + cos) / 2, abs=1e-3)
    assert turned[1] == pytest.approx([cos, 0, -sin], abs=1e-6)
    assert turned[2] == THING


def test_ball() -> None:
    depth, normal, instance = look(ball(STUFF, 0.5, h=1), [0, -1.5, -4], [0, -1.5, 0])
    assert (depth, normal, instance) == (pytest.approx(3.5, abs=1e-6), FACING, THING)


def test_ball_off_its_middle() -> None:
    # At a height of 0.3 above the middle of a ball of radius 0.5 the surface is 0.4 in front of it.
    depth, normal, _ = look(ball(STUFF, 0.5, h=1), [0, -1.8, -4], [0, -1.8, 0])
    assert depth == pytest.approx(3.6, abs=1e-5)
    assert normal == pytest.approx([0, -0.6, -0.8], abs=1e-5)


def test_ellipsoid() -> None:
    depth, normal, _ = look(ball(STUFF, (0.5, 0.5, 1.0), h=1), [0, -1.8, -4], [0, -1.8, 0])
    assert depth == pytest.approx(4 - 0.8, abs=1e-5)
    # The gradient of y²/a² + z²/b² at (-0.3, -0.8), a = 0.5, b = 1.
    expected = np.array([0, -0.3 / 0.25, -0.8])
    assert normal == pytest.approx((expected / np.linalg.norm(expected)).tolist(), abs=1e-5)


def test_cylinder_side_and_top() -> None:
    post = cylinder(STUFF, 0.5, 1.0)
    depth, normal, instance = look(post, [0.3, -0.5, -4], [0.3, -0.5, 0])
    assert (depth, instance) == (pytest.approx(3.6, abs=1e-5), THING)
    assert normal == pytest.approx([0.6, 0, -0.8], abs=1e-5)
    depth, normal, instance = look(post, [0.001, -3 + 0.01, 0], [0, 0, 0])
    assert (depth, instance) == (pytest.approx(1.99, abs=1e-5), THING)
    assert normal == pytest.approx([0, -1, 0], abs=1e-6)


def test_rays_that_miss_go_on_to_the_wall() -> None:
    for part in (ball(STUFF, 0.5), cylinder(STUFF, 0.5, 1.0), box(STUFF, (1, 1, 1))):
        depth, normal, instance = look(part, [0, -1.2, -4], [0, -1.2, 0])
        assert (depth, normal, instance) == (pytest.approx(9, abs=1e-5), FACING, WALL)
        assert look(part, [0.51, -0.5, -4], [0.51, -0.5, 0])[2] == WALL


def test_what_is_behind_the_camera_is_not_seen() -> None:
    depth, _, instance = look(ball(STUFF, 0.5), [0, -0.5, 1], [0, -0.5, 2])
    assert (depth, instance) == (pytest.approx(4, abs=1e-5), WALL)


def test_from_inside_a_thing_one_sees_out() -> None:
    for part in (ball(STUFF, 0.5), cylinder(STUFF, 0.5, 1.0), box(STUFF, (1, 1, 1))):
        depth, _, instance = look(part, [0, -0.5, 0], [0, -0.5, 2])
        assert (depth, instance) == (pytest.approx(5, abs=1e-5), WALL)
