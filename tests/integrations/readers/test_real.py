"""Real walks: a frame's depth, reprojected into the next, must meet the depth there."""

import os
from pathlib import Path

import pytest
import torch

from spmem import Camera
from spmem.integrations.readers import open_walk, read_cameras
from spmem.integrations.writers import write_colmap, write_nerfstudio

ROOT = Path(__file__).parents[3]
SETS = Path(os.environ.get("SPMEM_TEST_DATA", ROOT.parent / "shared" / "data"))
pytestmark = pytest.mark.skipif(
    not SETS.is_dir(), reason="no real walks here: SPMEM_TEST_DATA names their folder"
)
WALKS = [("redkitchen_7scenes", "7scenes", 334), ("hololens_dvmvs", "folders", 187)]


def folder(name):
    if not (SETS / name).exists():
        pytest.skip(f"SPMEM_TEST_DATA holds no {name}")
    return SETS / name


def disagreement(one, other):
    """Median |depth - depth| in world units of one frame's points seen by the other, and the share seen."""
    points = one.camera.unproject(one.depth)[one.depth > 0]
    pixels, z = other.camera.project(points)
    x, y = pixels.floor().long().unbind(-1)
    inside = (z > 0) & (x >= 0) & (x < other.camera.width) & (y >= 0) & (y < other.camera.height)
    there = other.depth[y[inside], x[inside]]
    both = there > 0
    return float((there - z[inside])[both].abs().median()), float(both.sum() / len(points))


@pytest.mark.parametrize(("name", "format", "count"), WALKS)
def test_neighbouring_frames_agree(name, format, count):
    walk = open_walk(folder(name))
    assert len(walk) == count
    for i in range(0, count - 1, 80):
        median, share = disagreement(walk[i], walk[i + 1])
        assert median < 0.02
        assert share > 0.3


def misread(frame, wrong):
    camera, size = frame.camera, {"width": frame.camera.width, "height": frame.camera.height}
    if wrong == "opengl":
        return frame.replace(camera=Camera.from_opengl(camera.K, camera.c2w, **size))
    return frame.replace(camera=Camera(camera.K, camera.w2c, **size))


@pytest.mark.parametrize(("name", "format", "count"), WALKS)
def test_another_convention_would_be_seen(name, format, count):
    one, other = open_walk(folder(name))[60:62]
    right = disagreement(one, other)[0]
    for wrong in ("opengl", "inverted"):
        assert disagreement(misread(one, wrong), misread(other, wrong))[0] > 5 * right


@pytest.mark.parametrize(("name", "format", "count"), WALKS)
def test_depth_is_metres_with_holes(name, format, count):
    frame = open_walk(folder(name), format)[count // 2]
    seen = frame.depth[frame.depth > 0]
    assert 0.3 < float(seen.median()) < 6
    assert float(frame.depth.max()) < 20
    assert 0.4 < len(seen) / frame.depth.numel() < 1


def test_a_walk_survives_other_formats(tmp_path):
    part = open_walk(folder("hololens_dvmvs"))[40:48:4]
    write_nerfstudio(tmp_path / "n", part)
    write_colmap(tmp_path / "c", part)
    for other in (open_walk(tmp_path / "n"), open_walk(tmp_path / "c")):
        for before, after in zip(part, other, strict=True):
            assert torch.equal(before.rgb, after.rgb)
            assert float((before.camera.c2w - after.camera.c2w).abs().max()) <= 1e-5
    for before, after in zip(part, open_walk(tmp_path / "n"), strict=True):
        torch.testing.assert_close(before.depth, after.depth, atol=1e-6, rtol=0)


def test_realestate10k_clips_move_smoothly():
    clips = sorted(p for p in folder("camera_paths").glob("*.txt") if "tartanair" not in p.name)
    assert len(clips) == 10
    for clip in clips:
        cameras = read_cameras(clip, 640, 360)
        assert len(cameras) == 16
        assert torch.allclose(cameras.K[:, 0, 2], torch.tensor(320.0))
        turn = (cameras.forward[1:] * cameras.forward[:-1]).sum(-1)
        assert float(turn.min()) > 0.9
        ahead = (cameras.position[-1] - cameras.position[0]) @ cameras.forward[0]
        assert abs(float(ahead)) > 1e-3


@pytest.mark.parametrize("name", ["neighborhood_P000", "office_P002", "oldtown_P001"])
def test_tartanair_flies_level(name):
    path = folder(f"camera_paths/tartanair_{name}.txt")
    cameras = read_cameras(path, 640, 480)
    assert float(cameras.K[0, 0, 0]) == pytest.approx(320)
    # A drone that stays upright over flat ground, in a world whose up is -y; headings are at random.
    assert float(cameras.c2w[:, 1, 1].min()) > 0.5
    extent = cameras.position.amax(0) - cameras.position.amin(0)
    assert extent.argmin() == 1
    for wrong in ("opencv", "opengl"):
        assert float(read_cameras(path, 640, 480, axes=wrong).c2w[:, 1, 1].min()) < 0.5
