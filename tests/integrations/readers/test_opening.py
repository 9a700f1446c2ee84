"""Telling formats apart, options, camera paths without pixels."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from spmem import Camera, geometry
from spmem.errors import FormatError, InputError, UnknownNameError
from spmem.integrations.readers import FORMATS, detect_format, open_walk, read_cameras

QUATERNION = st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: math.hypot(*q) > 0.1)


@pytest.mark.parametrize(
    ("files", "name"),
    [
        (["frame-000000.pose.txt"], "7scenes"),
        (["seq-01/frame-000000.pose.txt"], "7scenes"),
        (["rgb.txt", "groundtruth.txt"], "tum"),
        (["transforms.json", "images/0.png", "poses.txt", "K.txt"], "nerfstudio"),
        (["sparse/0/cameras.bin", "sparse/0/images.bin", "sparse/0/points3D.bin"], "colmap"),
        (["0/cameras.txt", "0/images.txt", "0/points3D.txt"], "colmap"),
        (["images/0.png", "poses.txt", "K.txt"], "folders"),
        (["images/0.png", "poses/0.txt", "K.txt", "walk.mp4"], "folders"),
        (["walk.MP4", "poses.npz"], "video"),
        (["walk.mov", "walk.npz"], "video"),
    ],
)
def test_a_format_is_told_by_what_lies_there(tmp_path, files, name):
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    assert detect_format(tmp_path) == name


def test_files_are_told_by_their_names_and_first_line(tmp_path):
    (tmp_path / "clip.txt").write_text("https://video\n")
    (tmp_path / "walk.webm").touch()
    (tmp_path / "transforms_test.json").touch()
    assert detect_format(tmp_path / "clip.txt") == "realestate10k"
    assert detect_format(str(tmp_path / "walk.webm")) == "video"
    assert detect_format(tmp_path / "transforms_test.json") == "nerfstudio"


def test_where_none_fits_it_says_what_it_looked_for(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    for path in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(FormatError, match="is of no known format") as caught:
            open_walk(path)
        assert all(
            f"{name}: {format.sign}" in str(caught.value) for name, format in FORMATS.items()
        )


def test_wrong_names_and_options_are_told(tmp_path):
    with pytest.raises(FormatError, match="nowhere: does not exist"):
        open_walk(tmp_path / "nowhere")
    with pytest.raises(UnknownNameError, match="did you mean 'nerfstudio'"):
        open_walk(tmp_path, "nerfstudo")
    with pytest.raises(InputError, match="tum has no option fps; it takes K, max_difference"):
        open_walk(tmp_path, "tum", fps=3)
    write_poses(tmp_path / "poses.txt", np.eye(4)[None])
    with pytest.raises(UnknownNameError, match="axes convention"):
        read_cameras(tmp_path / "poses.txt", 64, 48, axes="blender", fov_x=1.0)


def write_poses(path, poses):
    np.savetxt(path, np.asarray(poses).reshape(len(poses), -1))


def test_matrices_with_intrinsics_beside_or_given(tmp_path):
    path, pose = tmp_path / "poses.txt", np.eye(4)
    pose[:3, 3] = [1, 2, 3]
    write_poses(path, [np.eye(4)[:3], pose[:3]])
    with pytest.raises(FormatError, match=r"has no intrinsics: give K or fov_x, or put K\.txt"):
        read_cameras(path, 64, 48)
    wide = read_cameras(path, 64, 48, fov_x=math.pi / 2)
    assert wide.K[1].tolist() == [[pytest.approx(32), 0, 32], [0, pytest.approx(32), 24], [0, 0, 1]]
    assert wide.position[1].tolist() == [1, 2, 3]
    K = np.array([[50.0, 0, 32], [0, 50, 24], [0, 0, 1]])
    np.savetxt(tmp_path / "K.txt", K)
    assert read_cameras(path, 64, 48).K[0].tolist() == K.tolist()
    (tmp_path / "images").mkdir()
    Image.new("RGB", (128, 96)).save(tmp_path / "images" / "0.png")  # K.txt is in its pixels
    Image.new("RGB", (128, 96)).save(tmp_path / "images" / "1.png")
    assert read_cameras(path, 64, 48).K[0].tolist() == [[25, 0, 16], [0, 25, 12], [0, 0, 1]]
    assert read_cameras(path, 64, 48, K=K).K[0].tolist() == K.tolist()
    folder = read_cameras(tmp_path, 64, 48)
    assert folder.K[0].tolist() == [[25, 0, 16], [0, 25, 12], [0, 0, 1]]
    assert (folder.width, folder.height) == (64, 48)


@given(q=QUATERNION, position=st.tuples(*[st.floats(-50, 50)] * 3))
@settings(max_examples=40, deadline=None)
def test_trajectories_of_quaternions(tmp_path_factory, q, position):
    root = tmp_path_factory.mktemp("path")
    q = torch.nn.functional.normalize(torch.tensor(q, dtype=torch.float64), dim=0)
    R = geometry.matrix_from_quaternion(q)
    seven = [*position, *q[[1, 2, 3, 0]].tolist()]
    (root / "tum.txt").write_text("0.5 " + " ".join(map(repr, seven)))
    (root / "tartan.txt").write_text(" ".join(map(repr, seven)))
    tum = read_cameras(root / "tum.txt", 320, 240)
    np.testing.assert_allclose(tum.c2w[0, :3, :3], R, atol=1e-6)
    np.testing.assert_allclose(tum.position[0], position, atol=1e-5)
    assert float(tum.K[0, 0, 0]) == pytest.approx(525 / 2)
    ned = read_cameras(root / "tartan.txt", 320, 240)
    x, y, z = position
    np.testing.assert_allclose(ned.position[0], [y, z, x], atol=1e-5)  # east, down, north
    forward, right, down = (R[:, i][[1, 2, 0]] for i in range(3))
    np.testing.assert_allclose(ned.c2w[0, :3, :3], np.stack([right, down, forward], 1), atol=1e-6)
    assert float(ned.K[0, 0, 0]) == pytest.approx(160)  # 90 degrees wide
    plain = read_cameras(root / "tartan.txt", 320, 240, axes="opencv")
    np.testing.assert_allclose(plain.c2w[0], tum.c2w[0], atol=1e-6)


def test_a_tum_trajectory_is_put_in_order_of_time(tmp_path):
    lines = [f"{t} {t} 0 0 0 0 0 1" for t in (3.0, 1.0, 2.0)]
    (tmp_path / "groundtruth.txt").write_text("# comment\n" + "\n".join(lines))
    cameras = read_cameras(tmp_path / "groundtruth.txt", 64, 48)
    assert cameras.position[:, 0].tolist() == [1, 2, 3]


def test_a_zero_quaternion_is_no_identity(tmp_path):
    (tmp_path / "path.txt").write_text("0 0 0 0 0 0 0\n")
    with pytest.raises(FormatError, match=r"path\.txt: pose 0: .* no unit quaternion"):
        read_cameras(tmp_path / "path.txt", 64, 48)


def test_lost_poses_of_a_path_are_left_out(tmp_path):
    (tmp_path / "path.txt").write_text("0 0 0 0 0 0 1\nnan nan nan nan nan nan nan\n")
    with pytest.warns(UserWarning, match="1 of 2 frames"):
        assert len(read_cameras(tmp_path / "path.txt", 64, 48)) == 1


def test_transforms_of_several_sizes_become_one(tmp_path):
    frames = [
        {"transform_matrix": np.eye(4).tolist(), "w": w, "h": h, "fl_x": w}
        for w, h in ((64, 48), (32, 24))
    ]
    (tmp_path / "path.json").write_text(json.dumps({"frames": frames}))
    cameras = read_cameras(tmp_path / "path.json", 128, 96)
    assert cameras.K[:, 0, 0].tolist() == [128, 128]
    assert cameras.forward[0].tolist() == [0, 0, -1]
    assert read_cameras(tmp_path / "path.json", 128, 96, fov_x=math.pi / 2).K[
        1, 0, 0
    ] == pytest.approx(64)
    frames[0].pop("w")
    (tmp_path / "path.json").write_text(json.dumps({"frames": frames}))
    with pytest.raises(FormatError, match="gives no image size"):
        read_cameras(tmp_path / "path.json", 128, 96)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; wanted a row-major"),
        ("1 2 3 4 5\n", "line 1 has 5 numbers"),
        (
            "0 0 0 0 0 0 1\n\n# pause\n0 0 0 0 0 0 0 1\n",
            "line 4 has 8 numbers, the lines before it 7",
        ),
        ("0 0 0 0 0 0 one\n", "line 1: 'one' is not a number"),
        ("nan 0 0 0 0 0 0 1\n", "timestamp that is not finite"),
    ],
)
def test_a_wrong_path_is_named(tmp_path, text, message):
    (tmp_path / "path.txt").write_text(text)
    with pytest.raises(FormatError, match=rf"path\.txt: .*{message}"):
        read_cameras(tmp_path / "path.txt", 64, 48)


def test_a_path_that_is_missing(tmp_path):
    with pytest.raises(FormatError, match=r"path\.txt: is missing"):
        read_cameras(tmp_path / "path.txt", 64, 48)


def test_a_camera_of_a_path_is_a_camera(tmp_path):
    (tmp_path / "path.txt").write_text("0 0 0 0 0 0 1\n")
    camera = read_cameras(tmp_path / "path.txt", 64, 48)
    expected = Camera.from_fov(math.pi / 2, torch.eye(4), width=64, height=48)
    torch.testing.assert_close(camera[0].K, expected.K)
    torch.testing.assert_close(camera[0].c2w, expected.c2w)  # north is forward, down is down
