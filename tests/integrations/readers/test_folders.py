"""7-Scenes and plain folders: written by hand, read back, broken one file at a time."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from spmem import Camera, geometry
from spmem.errors import FormatError
from spmem.integrations.readers import open_7scenes, open_walk

W, H, N = 16, 12, 4
K = np.array([[14.0, 0, 8.25], [0, 15.0, 5.75], [0, 0, 1]])


def poses(n=N, seed=0):
    q = torch.randn(n, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    T = torch.eye(4, dtype=torch.float64).repeat(n, 1, 1)
    T[:, :3, :3] = geometry.matrix_from_quaternion(q)
    T[:, :3, 3] = 3 * torch.randn(
        n, 3, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64
    )
    return T


def colour(i):
    return np.random.default_rng(i).integers(0, 256, (H, W, 3), dtype=np.uint8)


def depth(i):
    steps = np.random.default_rng(100 + i).integers(1, 9000, (H, W), dtype=np.uint16)
    steps[0, 0] = 0
    return steps


def save(path, array):
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.fromarray(array).save(path)


def make_7scenes(root):
    root.mkdir(exist_ok=True)
    for i, pose in enumerate(poses()):
        stem = f"frame-{10 * i:06d}"
        save(root / f"{stem}.color.png", colour(i))
        steps = depth(i)
        steps[1, 1] = 65535
        save(root / f"{stem}.depth.png", steps)
        np.savetxt(root / f"{stem}.pose.txt", pose.numpy())
    np.savetxt(root / "camera-intrinsics.txt", K)


def make_folders(root):
    root.mkdir(exist_ok=True)
    for i in range(N):
        save(root / "images" / f"{i + 8}.png", colour(i))  # 8, 9, 10, 11: by value, not by letter
        save(root / "depth" / f"{i + 8}.png", depth(i))
    np.savetxt(root / "poses.txt", poses().reshape(N, 16).numpy())
    np.savetxt(root / "K.txt", K)


MAKERS = {"7scenes": make_7scenes, "folders": make_folders}


@pytest.mark.parametrize("name", MAKERS)
def test_reads_back_what_was_written(tmp_path, name):
    MAKERS[name](tmp_path / "set")
    times = [0, 10 / 30, 20 / 30, 1] if name == "7scenes" else None
    walk = open_walk(tmp_path / "set")
    assert len(walk) == N
    assert walk.skipped == 0
    torch.testing.assert_close(walk.cameras.c2w, poses().float(), atol=1e-5, rtol=0)
    torch.testing.assert_close(walk.cameras.K[2], torch.tensor(K, dtype=torch.float32))
    if times is None:
        assert walk.times is None
    else:
        np.testing.assert_allclose(walk.times, times, atol=1e-6)
    for i, frame in enumerate(walk):
        assert np.array_equal(frame.rgb.numpy(), colour(i))
        expected = depth(i) / 1000
        if name == "7scenes":
            expected[1, 1] = 0
        np.testing.assert_allclose(frame.depth.numpy(), expected, atol=1e-6)
        assert frame.time == (None if times is None else pytest.approx(times[i]))
        torch.testing.assert_close(frame.camera.c2w, walk.cameras.c2w[i])


def test_pixels_are_read_only_when_a_frame_is_asked_for(tmp_path):
    make_7scenes(tmp_path)
    for file in tmp_path.glob("*.depth.png"):
        file.write_bytes(b"")
    walk = open_walk(tmp_path)
    assert len(walk.cameras) == N
    with pytest.raises(FormatError, match=r"frame-000000\.depth\.png"):
        walk[0]


@given(seed=st.integers(0, 10_000), size=st.integers(1, 6))
@settings(max_examples=20, deadline=None)
def test_pose_text_survives_every_rotation(tmp_path_factory, seed, size):
    root, c2w = tmp_path_factory.mktemp("poses"), poses(size, seed)
    for i in range(size):
        save(root / "images" / f"{i}.png", colour(i))
    np.savetxt(root / "K.txt", K)
    np.savetxt(root / "poses.txt", c2w[:, :3].reshape(size, 12).numpy())
    walk = open_walk(root)
    assert float((walk.cameras.c2w - c2w).abs().max()) <= 1e-5
    assert walk[0].depth is None
    flipped = open_walk(root, axes="opengl").cameras.to_opengl()
    assert float((flipped - c2w).abs().max()) <= 1e-5
    inverted = open_walk(root, world_to_camera=True).cameras.w2c
    assert float((inverted - c2w).abs().max()) <= 1e-4


def test_rounded_rotations_are_made_rigid(tmp_path):
    make_folders(tmp_path)
    rounded = poses().reshape(N, 16).numpy().round(3)
    np.savetxt(tmp_path / "poses.txt", rounded)
    c2w = open_walk(tmp_path).cameras.c2w
    assert float(geometry.rigid_error(c2w).max()) < 1e-6
    np.testing.assert_allclose(c2w.reshape(N, 16).numpy(), rounded, atol=3e-3)


@pytest.mark.parametrize("lost", ["-1.#IND", "nan", "inf", "1.#QNAN", "-nan(ind)"])
def test_lost_tracking_is_left_out_with_a_count(tmp_path, lost):
    make_7scenes(tmp_path)
    (tmp_path / "frame-000010.pose.txt").write_text("\n".join([" ".join([lost] * 4)] * 4))
    with pytest.warns(UserWarning, match="1 of 4 frames have no finite pose"):
        walk = open_walk(tmp_path)
    assert walk.skipped == 1
    np.testing.assert_allclose(walk.times, [0, 20 / 30, 1])
    assert np.array_equal(walk[1].rgb.numpy(), colour(2))


def test_a_walk_that_lost_every_pose_is_an_error(tmp_path):
    make_folders(tmp_path)
    np.savetxt(tmp_path / "poses.txt", np.full((N, 16), np.nan))
    with pytest.raises(FormatError, match=r"poses\.txt: none of its 4 poses is finite"):
        open_walk(tmp_path)


def test_depth_of_another_resolution_is_sampled_not_averaged(tmp_path):
    make_folders(tmp_path)
    small = np.arange(1, 13, dtype=np.uint16).reshape(3, 4) * 1000
    save(tmp_path / "depth" / "8.png", small)
    got = open_walk(tmp_path)[0].depth
    assert got.shape == (H, W)
    np.testing.assert_allclose(got.numpy(), np.kron(small / 1000, np.ones((4, 4))), rtol=1e-6)


def test_a_slice_is_a_walk(tmp_path):
    make_7scenes(tmp_path)
    walk = open_walk(tmp_path)
    part = walk[::-2]
    assert [round(30 * frame.time) for frame in part] == [30, 10]
    assert np.array_equal(part[1].rgb.numpy(), colour(1))
    torch.testing.assert_close(part.cameras.c2w, walk.cameras.c2w[[3, 1]])
    assert np.array_equal(part[1:][0].rgb.numpy(), colour(1))
    assert len(walk[4:]) == 0
    assert len(walk[4:].cameras) == 0
    assert np.array_equal(walk[-1].rgb.numpy(), colour(3))
    with pytest.raises(IndexError):
        walk[4]


def test_7scenes_defaults_to_the_documented_intrinsics(tmp_path):
    make_7scenes(tmp_path)
    (tmp_path / "camera-intrinsics.txt").unlink()
    small = open_7scenes(str(tmp_path)).cameras.resize(640, 480)
    assert small.K[0].tolist() == [[585, 0, 320], [0, 585, 240], [0, 0, 1]]
    assert open_walk(tmp_path, K=K).cameras.K[0].tolist() == K.tolist()
    with pytest.raises(FormatError, match="holds no frame-000000"):
        open_7scenes(tmp_path / "nowhere")


def test_7scenes_scene_folder_names_its_sequences(tmp_path):
    make_7scenes(tmp_path / "seq-01")
    with pytest.raises(FormatError, match="holds the sequences seq-01: open one of them"):
        open_walk(tmp_path)


def test_a_pose_file_an_image(tmp_path):
    make_folders(tmp_path)
    (tmp_path / "poses.txt").unlink()
    (tmp_path / "poses").mkdir()
    for i, pose in enumerate(poses()):
        np.savetxt(tmp_path / "poses" / f"{i + 8}.txt", pose.numpy())
    walk = open_walk(tmp_path, fps=10)
    torch.testing.assert_close(walk.cameras.c2w, poses().float(), atol=1e-5, rtol=0)
    np.testing.assert_allclose(walk.times, [0, 0.1, 0.2, 0.3])


def edit(file, old, new, count=1):
    text = file.read_text()
    assert re.search(old, text)
    file.write_text(re.sub(old, new, text, count=count))


def scaled_pose(root):
    pose = poses()[0].numpy().copy()
    pose[:3, :3] *= 2
    np.savetxt(root / "frame-000000.pose.txt", pose)


BROKEN = {
    "truncated colour": (
        "7scenes",
        lambda r: (r / "frame-000000.color.png").write_bytes(
            (r / "frame-000000.color.png").read_bytes()[:200]
        ),
        r"frame-000000\.color\.png: is not a readable image",
    ),
    "not an image": (
        "7scenes",
        lambda r: (r / "frame-000000.depth.png").write_bytes(b"depth"),
        r"frame-000000\.depth\.png: is not a readable image",
    ),
    "missing depth": (
        "7scenes",
        lambda r: (r / "frame-000030.depth.png").unlink(),
        r"frame-000030\.depth\.png: is missing",
    ),
    "missing colour": (
        "7scenes",
        lambda r: (r / "frame-000030.color.png").unlink(),
        r"frame-000030\.color\.png: is missing",
    ),
    "8-bit depth": (
        "7scenes",
        lambda r: save(r / "frame-000000.depth.png", np.ones((H, W), np.uint8)),
        r"depth\.png: is 8-bit grey; wanted a 16-bit grey depth image",
    ),
    "colour as depth": (
        "7scenes",
        lambda r: save(r / "frame-000000.depth.png", colour(0)),
        r"depth\.png: is 8-bit RGB; wanted a 16-bit",
    ),
    "16-bit colour": (
        "7scenes",
        lambda r: save(r / "frame-000000.color.png", depth(0)),
        r"color\.png: is 16-bit .*; wanted an 8-bit colour",
    ),
    "image of another size": (
        "folders",
        lambda r: save(r / "images" / "10.png", np.zeros((6, 8, 3), np.uint8)),
        r"10\.png: is 8x6, its camera 16x12",
    ),
    "depth of another aspect": (
        "folders",
        lambda r: save(r / "depth" / "8.png", np.ones((6, 6), np.uint16)),
        r"8\.png: is 6x6, its image 16x12: the aspects differ",
    ),
    "pose file of three lines": (
        "7scenes",
        lambda r: (r / "frame-000010.pose.txt").write_text("1 0 0 0\n0 1 0 0\n0 0 1 0\n"),
        r"frame-000010\.pose\.txt: has 3 lines of 4 numbers; wanted a 4x4 matrix",
    ),
    "pose that is scaled": (
        "7scenes",
        scaled_pose,
        r"frame-000000\.pose\.txt: pose 0 is not rigid",
    ),
    "transposed poses": (
        "folders",
        lambda r: np.savetxt(r / "poses.txt", poses().mT.reshape(N, 16).numpy()),
        r"poses\.txt: pose 0 is not rigid .* transposed",
    ),
    "a pose line too short": (
        "folders",
        lambda r: edit(r / "poses.txt", r"\n\S+ ", "\n"),
        r"poses\.txt: line 2 has 15 numbers; wanted .* 16 or 12 a line",
    ),
    "pose lines of both kinds": (
        "folders",
        lambda r: edit(r / "poses.txt", r"( \S+){4}$", ""),
        r"poses\.txt: line 4 has 12 numbers, the lines before it 16",
    ),
    "a word among the numbers": (
        "folders",
        lambda r: edit(r / "poses.txt", r"^\S+", "front"),
        r"poses\.txt: line 1: 'front' is not a number",
    ),
    "fewer poses than images": (
        "folders",
        lambda r: np.savetxt(r / "poses.txt", poses(3).reshape(3, 16).numpy()),
        r"poses\.txt: has 3 poses; .*images has 4 images",
    ),
    "an empty file of poses": (
        "folders",
        lambda r: (r / "poses.txt").write_text("# none\n"),
        r"poses\.txt: is empty",
    ),
    "a file of poses that is not text": (
        "folders",
        lambda r: (r / "poses.txt").write_bytes(b"\xff\xfe\x00"),
        r"poses\.txt: is not a text file",
    ),
    "no poses": (
        "folders",
        lambda r: (r / "poses.txt").unlink(),
        r"poses\.txt: is missing, and there is no folder poses/",
    ),
    "a depth image less": (
        "folders",
        lambda r: (r / "depth" / "9.png").unlink(),
        r"depth: has no depth image called 9 \(1 of 4",
    ),
    "normalised intrinsics": (
        "folders",
        lambda r: np.savetxt(r / "K.txt", K / [[W], [H], [1]]),
        r"K\.txt: K looks normalised",
    ),
    "a folder in a file's place": (
        "folders",
        lambda r: [(r / "K.txt").unlink(), (r / "K.txt").mkdir()],
        r"K\.txt: is no regular file",
    ),
    "no intrinsics": ("folders", lambda r: (r / "K.txt").unlink(), r"K\.txt: is missing"),
    "no images": (
        "folders",
        lambda r: [p.unlink() for p in (r / "images").iterdir()],
        r"images: holds no images",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_every_wrong_file_is_named(tmp_path, case):
    name, harm, message = BROKEN[case]
    MAKERS[name](tmp_path)
    harm(tmp_path)
    with pytest.raises(FormatError, match=message) as caught:
        list(open_walk(tmp_path, name))
    assert tmp_path in Path(caught.value.path).parents


def test_cameras_and_frames_agree_in_geometry(tmp_path):
    make_folders(tmp_path)
    camera = open_walk(tmp_path).cameras[1]
    same = Camera(K, poses()[1], width=W, height=H)
    torch.testing.assert_close(camera.rays(), same.rays(), atol=1e-5, rtol=0)
