"""nerfstudio's transforms.json and COLMAP models as other tools write them, and broken."""

import copy
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from spmem import Camera, geometry
from spmem.errors import FormatError
from spmem.integrations.readers import open_walk

W, H = 16, 12
EYE = np.eye(4).tolist()


def colour(i):
    return np.random.default_rng(i).integers(0, 256, (H, W, 3), dtype=np.uint8)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def lifted(z):
    matrix = np.eye(4)
    matrix[2, 3] = z
    return matrix.tolist()


SHARED = {
    "camera_model": "OPENCV", "fl_x": 14.0, "fl_y": 15.0, "cx": 8.25, "cy": 5.75, "w": W, "h": H,
    "k1": 0.0, "k2": 0.0, "p1": 0.0, "p2": 0.0,
    "frames": [
        {"file_path": "images/10.png", "transform_matrix": lifted(10)},
        {"file_path": "images/9.png", "transform_matrix": lifted(9)},
    ],
}  # fmt: skip


def make(root, **changes):
    transforms = copy.deepcopy(SHARED) | changes
    for i, frame in enumerate(transforms["frames"]):
        if "file_path" in frame:
            save(root / frame["file_path"], colour(i))
    (root / "transforms.json").write_text(json.dumps(transforms))
    return root


def frames(**changes):
    return [frame | changes for frame in copy.deepcopy(SHARED["frames"])]


def test_shared_intrinsics_opengl_axes_and_order_by_name(tmp_path):
    walk = open_walk(
        make(tmp_path, applied_transform=np.diag([1.0, -1, -1])[:, [0, 1, 2, 2]].tolist())
    )
    assert walk.cameras.position[:, 2].tolist() == [9, 10]
    assert walk.cameras.forward[0].tolist() == [0, 0, -1]
    K = walk.cameras.K[0]
    assert [float(v) for v in (K[0, 0], K[1, 1], K[0, 2], K[1, 2])] == [14, 15, 8.25, 5.75]
    assert walk.applied_transform.shape == (4, 4)
    assert walk.times is None
    assert np.array_equal(walk[0].rgb.numpy(), colour(1))
    assert walk[0].depth is None


def test_the_json_file_itself_may_be_named(tmp_path):
    make(tmp_path)
    (tmp_path / "transforms.json").rename(tmp_path / "transforms_train.json")
    assert len(open_walk(tmp_path / "transforms_train.json")) == 2


def test_times_order_the_frames(tmp_path):
    timed = [f | {"time": t} for f, t in zip(frames(), (0.5, 1.5), strict=True)]
    walk = open_walk(make(tmp_path, frames=timed))
    assert walk.times.tolist() == [0.5, 1.5]
    assert walk.cameras.position[:, 2].tolist() == [10, 9]


def test_blender_sets_have_an_angle_and_no_suffix(tmp_path):
    listed = [{"file_path": "./train/r_0", "transform_matrix": EYE}]
    save(tmp_path / "train" / "r_0.png", colour(0))
    transforms = {"camera_angle_x": 2 * math.atan(0.5), "frames": listed}
    (tmp_path / "transforms.json").write_text(json.dumps(transforms))
    walk = open_walk(tmp_path)
    K = walk.cameras.K[0]
    assert [float(v) for v in (K[0, 0], K[1, 1], K[0, 2], K[1, 2])] == pytest.approx([16, 16, 8, 6])
    assert np.array_equal(walk[0].rgb.numpy(), colour(0))


def test_intrinsics_and_sizes_per_frame(tmp_path):
    listed = frames()
    listed[0] |= {"fl_x": 20.0, "w": 8, "h": 6, "cx": 4.0, "cy": 3.0}
    make(tmp_path, frames=listed)
    save(tmp_path / "images" / "10.png", np.zeros((6, 8, 3), np.uint8))
    walk = open_walk(tmp_path)
    assert isinstance(walk.cameras, tuple)
    assert [(c.width, c.height, float(c.K[0, 0])) for c in walk.cameras] == [
        (16, 12, 14),
        (8, 6, 20),
    ]
    assert walk[1].rgb.shape == (6, 8, 3)
    assert walk[1:].cameras[0].width == 8


def test_depth_in_its_stated_unit_as_png_or_npy(tmp_path):
    listed = frames()
    listed[0]["depth_file_path"] = "depth/10.png"
    listed[1]["depth_file_path"] = "depth/9.npy"
    make(tmp_path, frames=listed)
    save(tmp_path / "depth" / "10.png", np.full((H, W), 1500, np.uint16))
    np.save(tmp_path / "depth" / "9.npy", np.full((H, W, 1), 2500.0, np.float32))
    assert open_walk(tmp_path)[1].depth[0, 0] == pytest.approx(1.5)
    assert open_walk(tmp_path)[0].depth[0, 0] == pytest.approx(2.5)
    assert open_walk(tmp_path, depth_scale=0.01)[1].depth[0, 0] == pytest.approx(15)
    make(tmp_path, frames=listed, depth_unit_scale_factor=0.1)
    assert open_walk(tmp_path)[1].depth[0, 0] == pytest.approx(150)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([[{}]], dtype=object), "is not a readable array"),
        (np.full((H, W), -1.0), "negative or not finite"),
        (np.full((H, W), np.nan), "negative or not finite"),
        (np.zeros((2, H, W)), r"holds float64 of shape \[2, 12, 16\]"),
        (np.zeros((H, W), bool), "holds bool"),
    ],
)
def test_a_wrong_npy_depth_is_named_and_never_unpickled(tmp_path, array, message):
    make(tmp_path, frames=frames(depth_file_path="depth.npy"))
    np.save(tmp_path / "depth.npy", array, allow_pickle=True)
    with pytest.raises(FormatError, match=rf"depth\.npy: .*{message}"):
        open_walk(tmp_path)[0]


def test_distorted_images_are_refused_until_undistorted(tmp_path):
    make(tmp_path, k1=0.03, p2=-0.001)
    with pytest.raises(FormatError, match=r"lens distortion \(k1, p2\).*image_undistorter"):
        open_walk(tmp_path)
    assert len(open_walk(tmp_path, undistorted=True)) == 2
    make(tmp_path, frames=frames(k2=0.1))
    with pytest.raises(FormatError, match=r"lens distortion \(k2\)"):
        open_walk(tmp_path)
    make(tmp_path, camera_model="OPENCV_FISHEYE")
    with pytest.raises(FormatError, match="camera_model 'OPENCV_FISHEYE'"):
        open_walk(tmp_path)


def without(key):
    return lambda t: [t.pop(key, None), *(frame.pop(key, None) for frame in t["frames"])]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("transform_matrix"), "frame 0 lacks transform_matrix"),
        (without("fl_x"), r"no focal length: wanted fl_x"),
        (without("file_path"), "frames without file_path; cameras alone: use read_cameras"),
        (lambda t: t.update(fl_x="wide"), "fl_x is 'wide'; wanted a finite number"),
        (lambda t: t.update(fl_x=True), "fl_x is True; wanted a finite number"),
        (lambda t: t.update(fl_x=-3.0), "focal lengths must be positive"),
        (lambda t: t.update(frames=[]), "lists no frames"),
        (lambda t: t.update(frames="all"), 'lacks "frames": a list of objects'),
        (
            lambda t: t["frames"][1].update(transform_matrix=[[1, 2], [3, 4]]),
            r"is \[2, 2\]; wanted",
        ),
        (lambda t: t["frames"][1].update(transform_matrix=[["a"]]), "frame 0: transform_matrix"),
        (lambda t: t["frames"][1].update(transform_matrix=None), "frame 0: transform_matrix"),
        (lambda t: t["frames"][1].update(transform_matrix=[[10**400]]), "frame 0: transform_mat"),
        (lambda t: t["frames"][0].update(transform_matrix=(2 * np.eye(4)).tolist()), "not rigid"),
        (lambda t: t.update(applied_transform=[1]), r"applied_transform is \[1\]"),
        (lambda t: t.update(applied_transform="none"), "applied_transform: "),
    ],
)
def test_a_wrong_transforms_json_is_named(tmp_path, change, message):
    make(tmp_path)
    transforms = copy.deepcopy(SHARED)
    change(transforms)
    (tmp_path / "transforms.json").write_text(json.dumps(transforms))
    with pytest.raises(FormatError, match=message):
        open_walk(tmp_path)


def test_a_json_that_is_none(tmp_path):
    (tmp_path / "transforms.json").write_text("{frames: 1}")
    with pytest.raises(FormatError, match=r"transforms\.json: is not JSON: .*line 1"):
        open_walk(tmp_path)


# -- COLMAP -------------------------------------------------------------------------------------------

CAMERAS = "# by hand\n1 PINHOLE 16 12 14 15 8.25 5.75\n2 SIMPLE_PINHOLE 16 12 14 8 6\n"
IMAGES = "2 1 0 0 0 0 0 2 2 b/10.png\n\n1 0.5 0.5 0.5 0.5 1 2 3 1 b/9.png\n1.5 2.5 -1\n"


def make_colmap(root, cameras=CAMERAS, images=IMAGES, points=""):
    model = root / "sparse" / "0"
    model.mkdir(parents=True)
    (model / "cameras.txt").write_text(cameras)
    (model / "images.txt").write_text(images)
    (model / "points3D.txt").write_text(points)
    for i, name in enumerate(("b/9.png", "b/10.png")):
        save(root / "images" / name, colour(i))
    return root


def mvs(path, depth, header=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    h, w = depth.shape
    path.write_bytes((header or f"{w}&{h}&1&").encode() + depth.astype("<f4").tobytes())


def test_colmap_poses_intrinsics_and_depth_maps(tmp_path):
    make_colmap(tmp_path)
    depth = np.arange(H * W, dtype=np.float32).reshape(H, W)
    depth[0, 1], depth[0, 2] = np.inf, -4
    mvs(tmp_path / "stereo" / "depth_maps" / "b" / "9.png.geometric.bin", depth)
    walk = open_walk(tmp_path)
    first = Camera.from_colmap([14, 15, 8.25, 5.75], [0.5] * 4, [1, 2, 3], width=W, height=H)
    torch.testing.assert_close(walk.cameras.c2w[0], first.c2w)
    torch.testing.assert_close(walk.cameras.K[0], first.K)
    assert [float(v) for v in walk.cameras.K[1][[0, 1, 0, 1], [0, 1, 2, 2]]] == [14, 14, 8, 6]
    assert walk.cameras.position[1].tolist() == [0, 0, -2]
    assert np.array_equal(walk[0].rgb.numpy(), colour(0))
    expected = depth.copy()
    expected[0, 1:3] = 0
    assert np.array_equal(walk[0].depth.numpy(), expected)
    assert walk[1].depth is None
    for deeper in (tmp_path / "sparse", tmp_path / "sparse" / "0"):
        assert np.array_equal(open_walk(deeper)[0].depth.numpy(), expected)


def test_colmap_binary_model_and_named_folders(tmp_path):
    pycolmap = pytest.importorskip("pycolmap")
    make_colmap(tmp_path)
    binary = tmp_path / "elsewhere"
    binary.mkdir()
    pycolmap.Reconstruction(str(tmp_path / "sparse" / "0")).write(str(binary))
    mvs(tmp_path / "maps" / "b" / "10.png.geometric.bin", np.ones((H // 2, W // 2)))
    walk = open_walk(binary, images=tmp_path / "images", depth=tmp_path / "maps")
    torch.testing.assert_close(walk.cameras.c2w, open_walk(tmp_path).cameras.c2w)
    assert walk[0].depth is None
    assert walk[1].depth.shape == (H, W)
    with pytest.raises(FormatError, match="none: is missing; wanted a folder of NAME"):
        open_walk(binary, images=tmp_path / "images", depth=tmp_path / "none")
    with pytest.raises(FormatError, match="none: is missing; name the folder of images"):
        open_walk(binary, images=tmp_path / "none")


@pytest.mark.parametrize(
    ("header", "cut", "message"),
    [
        ("16x12x1&", 0, "does not start with width&height&channels&"),
        ("16&12&3&", 0, "has 3 channels"),
        (None, 4, "holds 764 bytes of depth; 16x12 float32 are 768"),
    ],
)
def test_a_wrong_depth_map_is_named(tmp_path, header, cut, message):
    make_colmap(tmp_path)
    path = tmp_path / "stereo" / "depth_maps" / "b" / "9.png.geometric.bin"
    mvs(path, np.ones((H, W)), header)
    path.write_bytes(path.read_bytes()[: -cut or None])
    with pytest.raises(FormatError, match=rf"9\.png\.geometric\.bin: {message}"):
        open_walk(tmp_path)[0]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"cameras": "1 OPENCV 16 12 14 15 8 6 0.1 0 0 0\n2 PINHOLE 16 12 14 15 8 6\n"},
         "camera 1 is OPENCV, which has lens distortion: run colmap image_undistorter"),
        ({"cameras": "1 PINHOLE 16 12 14 15 8\n2 PINHOLE 16 12 14 15 8 6\n"}, "camera 1 has 3 parameters; PINHOLE has 4"),
        ({"cameras": "1 PINHOLE 16 12 14 15 8 6\n"}, "image 'b/10.png' has the camera 2, which is missing"),
        ({"cameras": CAMERAS.replace("PINHOLE 16 12 14 15", "PINHOLE 16 12 -14 15", 1)},
         "focal lengths must be positive"),
        ({"images": "1 1 0 0 0 0 2 2 b/10.png\n\n"}, "line 1 has 9 words; wanted an image"),
        ({"images": ""}, "has no registered image"),
    ],
)  # fmt: skip
def test_a_wrong_colmap_model_is_named(tmp_path, parts, message):
    make_colmap(tmp_path, **parts)
    with pytest.raises(FormatError, match=rf"sparse/0(/\w+\.txt)?: .*{message}"):
        open_walk(tmp_path)


def test_a_model_of_two_files_is_none(tmp_path):
    make_colmap(tmp_path)
    (tmp_path / "sparse" / "0" / "points3D.txt").unlink()
    with pytest.raises(FormatError, match="lacks a COLMAP model"):
        open_walk(tmp_path, "colmap")


def test_geometry_of_transforms_agrees_with_colmap(tmp_path):
    w2c = torch.eye(4)
    w2c[:3, :3] = geometry.matrix_from_quaternion(torch.full((4,), 0.5))
    w2c[:3, 3] = torch.tensor([1.0, 2, 3])
    opengl = geometry.opengl_from_opencv(geometry.inverse(w2c)).tolist()
    make(tmp_path / "n", frames=[{"file_path": "images/9.png", "transform_matrix": opengl}])
    make_colmap(tmp_path / "c")
    by_json, by_colmap = open_walk(tmp_path / "n").cameras, open_walk(tmp_path / "c").cameras
    torch.testing.assert_close(by_json.c2w[0], by_colmap.c2w[0])
    torch.testing.assert_close(by_json.K[0], by_colmap.K[0])
