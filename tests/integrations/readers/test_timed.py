"""TUM RGB-D and RealEstate10K: written by hand, read back, broken one file at a time."""

import re

import numpy as np
import pytest
import torch
from PIL import Image

from spmem import geometry
from spmem.errors import FormatError
from spmem.integrations.readers import open_realestate10k, open_tum, open_walk, read_realestate10k

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


def make_tum(root):
    root.mkdir(exist_ok=True)
    rgb, dep, truth = ["# colour"], ["# depth"], ["# t tx ty tz qx qy qz qw"]
    for i, pose in enumerate(poses()):
        t = 1305031102.0 + 0.1 * i
        save(root / "rgb" / f"{t:.6f}.png", colour(i))
        save(root / "depth" / f"{t:.6f}.png", depth(i))
        rgb.append(f"{t:.6f} rgb/{t:.6f}.png")
        dep.append(f"{t + 0.011:.6f} depth/{t:.6f}.png")
        w, x, y, z = geometry.quaternion_from_matrix(pose[:3, :3]).tolist()
        position = " ".join(repr(v) for v in pose[:3, 3].tolist())
        truth.append(f"{t - 0.006:.6f} {position} {x!r} {y!r} {z!r} {w!r}")
    for name, lines in (("rgb", rgb), ("depth", dep), ("groundtruth", truth)):
        (root / f"{name}.txt").write_text("\n".join(lines))


def make_realestate10k(root, clip="clip.txt"):
    root.mkdir(exist_ok=True)
    lines = ["https://www.youtube.com/watch?v=none"]
    for i, pose in enumerate(poses()):
        stamp = 1_000_000 + 250_000 * i
        w2c = np.linalg.inv(pose.numpy())[:3].reshape(-1)
        share = [K[0, 0] / W, K[1, 1] / H, K[0, 2] / W, K[1, 2] / H, 0.0, 0.0]
        lines.append(" ".join([str(stamp), *(repr(float(v)) for v in [*share, *w2c])]))
        save(root / "frames" / f"{stamp}.png", colour(i))
        save(root / "depth" / f"{stamp}.png", depth(i))
    (root / clip).write_text("\n".join(lines))


def edit(file, old, new, count=1):
    text = file.read_text()
    assert re.search(old, text)
    file.write_text(re.sub(old, new, text, count=count))


def test_tum_reads_back_what_was_written(tmp_path):
    make_tum(tmp_path)
    walk = open_walk(tmp_path, K=K)
    assert len(walk) == N
    torch.testing.assert_close(walk.cameras.c2w, poses().float(), atol=1e-5, rtol=0)
    torch.testing.assert_close(walk.cameras.K[2], torch.tensor(K, dtype=torch.float32))
    np.testing.assert_allclose(walk.times, [0, 0.1, 0.2, 0.3], atol=1e-6)
    for i, frame in enumerate(walk):
        assert np.array_equal(frame.rgb.numpy(), colour(i))
        np.testing.assert_allclose(frame.depth.numpy(), depth(i) / 5000, atol=1e-6)
        assert frame.time == pytest.approx(i / 10)


def test_tum_leaves_out_what_has_no_partner_in_time(tmp_path):
    make_tum(tmp_path)
    lines = (tmp_path / "depth.txt").read_text().splitlines()
    (tmp_path / "depth.txt").write_text("\n".join([*lines[:2], *lines[3:]]))
    with pytest.warns(UserWarning, match=r"1 of 4 frames have no depth or pose within 0\.02 s"):
        walk = open_walk(tmp_path)
    assert walk.skipped == 1
    assert np.array_equal(walk[1].rgb.numpy(), colour(2))
    with pytest.raises(FormatError, match=r"within 0\.001 s; the nearest are 0\.01"):
        open_walk(tmp_path, max_difference=0.001)


@pytest.mark.parametrize(
    ("name", "focal", "centre"),
    [
        ("rgbd_dataset_freiburg1_xyz", 517.3, 319.1),
        ("rgbd_dataset_freiburg3_office", 535.4, 320.6),
        ("other", 525.0, 320.0),
    ],
)
def test_tum_intrinsics_by_the_folders_name(tmp_path, name, focal, centre):
    make_tum(tmp_path / name)
    K = open_walk(tmp_path / name).cameras.resize(640, 480).K[0]
    assert float(K[0, 0]) == pytest.approx(focal)
    assert float(K[0, 2]) == pytest.approx(centre)  # TUM counts pixel centres from 0


def test_tum_without_depth_list_has_no_depth(tmp_path):
    make_tum(tmp_path)
    (tmp_path / "depth.txt").unlink()
    assert open_walk(tmp_path)[0].depth is None


BROKEN = {
    "a quaternion of another length": (
        lambda r: edit(r / "groundtruth.txt", r"\S+$", "7"),
        r"groundtruth\.txt: pose 3: .* no unit quaternion",
    ),
    "a trajectory of seven numbers": (
        lambda r: edit(r / "groundtruth.txt", r" \S+$", ""),
        r"groundtruth\.txt: line 5 has 7 numbers",
    ),
    "a list of three words": (
        lambda r: edit(r / "rgb.txt", r"rgb/", "rgb / "),
        r"rgb\.txt: line 2 has 4 words; wanted timestamp and file name",
    ),
    "an empty list": (
        lambda r: (r / "depth.txt").write_text("# nothing\n"),
        r"depth\.txt: lists no images",
    ),
    "a timestamp that is none": (
        lambda r: edit(r / "rgb.txt", r"13\S+ ", "nan "),
        r"rgb\.txt: has a timestamp that is not finite",
    ),
    "a listed image that is missing": (
        lambda r: next((r / "rgb").iterdir()).unlink(),
        r"rgb/.*\.png: is missing",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_every_wrong_file_is_named(tmp_path, case):
    harm, message = BROKEN[case]
    make_tum(tmp_path)
    harm(tmp_path)
    with pytest.raises(FormatError, match=message):
        list(open_tum(str(tmp_path)))


def test_realestate10k_cameras_and_frames(tmp_path):
    make_realestate10k(tmp_path)
    clip = read_realestate10k(tmp_path / "clip.txt")
    torch.testing.assert_close(clip.cameras(W, H).c2w, poses().float(), atol=1e-5, rtol=0)
    torch.testing.assert_close(clip.cameras(W, H).K[0], torch.tensor(K, dtype=torch.float32))
    np.testing.assert_allclose(clip.times, [0, 0.25, 0.5, 0.75])
    walk = open_walk(tmp_path / "clip.txt", images=tmp_path / "frames", depth=tmp_path / "depth")
    assert np.array_equal(walk[2].rgb.numpy(), colour(2))
    np.testing.assert_allclose(walk[2].depth.numpy(), depth(2) / 1000, atol=1e-6)
    for i, file in enumerate(sorted((tmp_path / "frames").iterdir())):
        file.rename(file.with_name(f"{i}.png"))
    renamed = open_walk(tmp_path / "clip.txt", images=tmp_path / "frames")
    assert np.array_equal(renamed[3].rgb.numpy(), colour(3))
    assert renamed[3].depth is None
    (tmp_path / "frames" / "0.png").unlink()
    with pytest.raises(FormatError, match="has 3 images, neither named by timestamp"):
        open_walk(tmp_path / "clip.txt", images=tmp_path / "frames")
    with pytest.raises(FormatError, match="cameras only"):
        open_realestate10k(str(tmp_path / "clip.txt"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (r" 0\.0 0\.0 ", " 0.1 0.0 ", "has lens distortion"),
        (r" \S+$", "", "line 5 has 18 numbers; wanted 19"),
        (r"^https", "ftp", "does not start with a video's address"),
        (r"\n[\s\S]*", "", "lists no cameras"),
        (r"\n1000000", "\nnan", "timestamp that is no count"),
    ],
)
def test_a_wrong_clip_is_named(tmp_path, old, new, message):
    make_realestate10k(tmp_path)
    edit(tmp_path / "clip.txt", old, new)
    with pytest.raises(FormatError, match=rf"clip\.txt: .*{message}"):
        read_realestate10k(tmp_path / "clip.txt")
