"""Covisibility against scenes worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spmem import Camera
from spmem.errors import CameraError, FrameError, InputError
from spmem.testing.truth import covisibility

RIGHT_ANGLE = math.pi / 2  # a camera this wide sees as far to each side as it looks ahead


def facing(
    x: float = 0.0, z: float = 0.0, *, width: int = 64, fov_x: float = RIGHT_ANGLE
) -> Camera:
    return Camera.look_at([x, 0, z], [x, 0, z + 1], fov_x=fov_x, width=width, height=width)


def wall(camera: Camera, z: float) -> torch.Tensor:
    return torch.full((camera.height, camera.width), z - float(camera.position[2]))


def test_a_view_sees_all_of_itself() -> None:
    camera = facing()
    result = covisibility(wall(camera, 2), camera, wall(camera, 2)[None], camera[None])
    assert result.share.tolist() == [1.0]
    assert result.masks.all()


@given(step=st.sampled_from([0.25, 0.5, 1.0, 1.5, 2.0, 3.0]))
def test_a_step_to_the_side_loses_its_share_of_a_wall(step: float) -> None:
    # The wall at z = 2 is seen from x = -2 to 2; from `step` further right, from step - 2 to step + 2.
    query, view = facing(), facing(x=step)
    result = covisibility(wall(query, 2), query, wall(view, 2)[None], view[None])
    assert result.share.item() == pytest.approx(1 - step / 4, abs=1e-6)
    assert not result.masks[0, :, : int(step / 4 * 64)].any()
    assert result.masks[0, :, int(step / 4 * 64) :].all()


def test_an_occluder_hides_what_lies_behind_it() -> None:
    # A pillar fills columns 16..31 of the view, at half the wall's distance: it hides half the left half.
    query, view = facing(), facing()
    seen = wall(view, 2)
    seen[:, 16:32] = 1.0
    result = covisibility(wall(query, 2), query, seen[None], view[None])
    # Rounding decides which neighbours of an exact pixel count, hence a column of leeway.
    assert result.masks[0, :, :16].all()
    assert not result.masks[0, :, 16:31].any()
    assert result.masks[0, :, 33:].all()


def test_the_other_side_of_a_hole_is_not_the_wall() -> None:
    query, view = facing(), facing()
    result = covisibility(wall(query, 2), query, (wall(view, 2) * 1.5)[None], view[None])
    assert result.share.item() == 0


def test_a_camera_turned_round_saw_nothing() -> None:
    query = facing()
    behind = Camera.look_at([0, 0, 0], [0, 0, -1], fov_x=RIGHT_ANGLE, width=64, height=64)
    assert covisibility(wall(query, 2), query, wall(query, 2)[None], behind[None]).share.item() == 0


@pytest.mark.parametrize(
    ("offset", "seen"), [(1.02, True), (1.05, False), (0.98, True), (0.95, False)]
)
def test_tolerance_is_a_share_of_the_depth(offset: float, seen: bool) -> None:
    camera = facing()
    for scale in (0.01, 1.0, 100.0):
        depth = wall(camera, 2) * scale
        share = covisibility(depth, camera, (depth * offset)[None], camera[None], 0.03).share
        assert share.item() == float(seen)


def test_pixels_without_depth_do_not_count() -> None:
    camera = facing()
    half = wall(camera, 2)
    half[:, :32] = 0
    of_half = covisibility(half, camera, wall(camera, 2)[None], camera[None])
    assert of_half.share.item() == 1
    assert of_half.masks.sum() == 64 * 32
    by_half = covisibility(wall(camera, 2), camera, half[None], camera[None])
    assert by_half.share.item() == pytest.approx(0.5, abs=1 / 64)  # the neighbourhood: one column
    nothing = covisibility(torch.zeros(64, 64), camera, wall(camera, 2)[None], camera[None])
    assert nothing.share.item() == 0


def test_views_may_have_another_size_and_lens() -> None:
    # A camera at twice the distance with tan(fov / 2) halved sees the same square of the wall.
    query = facing()
    view = facing(z=-2, width=40, fov_x=2 * math.atan(0.5))
    result = covisibility(wall(query, 2), query, wall(view, 2)[None], view[None])
    assert result.masks.shape == (1, 64, 64)
    assert result.share.item() == 1


def test_a_batch_is_its_views_one_by_one() -> None:
    query = facing()
    views = Camera.stack([facing(x=x) for x in (0.0, 0.7, 1.3)])
    depths = torch.stack([wall(view, 2) for view in views])
    together = covisibility(wall(query, 2), query, depths, views)
    for i in range(3):
        alone = covisibility(wall(query, 2), query, depths[i : i + 1], views[i : i + 1])
        assert torch.equal(alone.masks[0], together.masks[i])


def test_wrong_shapes_say_what_was_wanted() -> None:
    camera = facing()
    depth = wall(camera, 2)
    with pytest.raises(CameraError, match=r"camera\[None\]"):
        covisibility(depth, camera, depth[None], camera)
    with pytest.raises(FrameError, match="query_depth"):
        covisibility(depth[:10], camera, depth[None], camera[None])
    with pytest.raises(FrameError, match="depths"):
        covisibility(depth, camera, depth, camera[None])
    with pytest.raises(InputError, match="tolerance"):
        covisibility(depth, camera, depth[None], camera[None], 0.0)
