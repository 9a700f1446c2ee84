"""What is written is read back; nothing half-written is left behind, nothing is overwritten unasked."""

import json
import os
import stat
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from spmem import Camera, Frame, Keyframe, Surfels, geometry
from spmem.errors import FormatError, InputError
from spmem.integrations.readers import open_walk
from spmem.integrations.writers import read_ply, write_colmap, write_nerfstudio, write_ply

W, H = 16, 12


def frame(i=0, *, scale=3.0, depth=True, time=0.5, width=W, height=H):
    draw = torch.Generator().manual_seed(i)
    pose = torch.eye(4, dtype=torch.float64)
    q = torch.randn(4, generator=draw, dtype=torch.float64)
    pose[:3, :3] = geometry.matrix_from_quaternion(q)
    pose[:3, 3] = scale * torch.randn(3, generator=draw, dtype=torch.float64)
    K = torch.tensor([[14.0, 0, 8.25], [0, 15.0, 5.75], [0, 0, 1]])
    z = scale * torch.rand(height, width, generator=draw)
    z[0, 0] = 0
    rgb = torch.randint(0, 256, (height, width, 3), generator=draw, dtype=torch.uint8)
    camera = Camera(K, pose, width=width, height=height)
    return Frame(rgb, z if depth else None, camera, None if time is None else time + i)


def surfels(n, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return Surfels(
        ids=torch.arange(n) + 5,
        position=torch.randn(n, 3, generator=draw),
        normal=torch.nn.functional.normalize(torch.randn(n, 3, generator=draw), dim=-1),
        radius=torch.rand(n, generator=draw),
        colour=torch.rand(n, 3, generator=draw),
        confidence=torch.rand(n, generator=draw) + 1,
        first_seen=torch.rand(n, generator=draw),
        last_seen=torch.rand(n, generator=draw),
    )


@given(n=st.integers(0, 40), seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_surfels_survive_ply(tmp_path_factory, n, seed):
    path, written = tmp_path_factory.mktemp("ply") / "a" / "map.ply", surfels(n, seed)
    write_ply(path, written)
    got = read_ply(path)
    for name in ("position", "normal", "radius", "confidence"):
        assert torch.equal(getattr(got, name), getattr(written, name))
    assert len(got) == n
    torch.testing.assert_close(got.colour, written.colour, atol=0.5 / 255 + 1e-6, rtol=0)
    assert got.ids.tolist() == list(range(n))


def test_ply_header_names_the_properties_in_order(tmp_path):
    write_ply(tmp_path / "map.ply", surfels(3))
    raw = (tmp_path / "map.ply").read_bytes()
    header, body = raw.split(b"end_header\n", 1)
    names = [line.split()[-1] for line in header.decode().splitlines() if "property" in line]
    assert names == [
        "x",
        "y",
        "z",
        "nx",
        "ny",
        "nz",
        "red",
        "green",
        "blue",
        "radius",
        "confidence",
    ]
    assert b"binary_little_endian" in header
    assert len(body) == 3 * (8 * 4 + 3)


def test_read_ply_passes_over_other_properties_and_elements(tmp_path):
    path = tmp_path / "other.ply"
    fields = [
        "radius",
        "confidence",
        "red",
        "green",
        "blue",
        "nz",
        "ny",
        "nx",
        "z",
        "y",
        "x",
        "label",
    ]
    kinds = ["double"] * 2 + ["uchar"] * 3 + ["float32"] * 6 + ["int"]
    header = "".join(f"property {k} {f}\n" for k, f in zip(kinds, fields, strict=True))
    table = np.zeros(2, [(f, {"double": "<f8", "uchar": "u1", "float32": "<f4", "int": "<i4"}[k])
                         for k, f in zip(kinds, fields, strict=True)])  # fmt: skip
    table["x"], table["radius"], table["green"] = [1, 2], [0.5, 0.25], [255, 51]
    path.write_bytes(
        b"ply\r\nformat binary_little_endian 1.0\ncomment by hand\nelement vertex 2\n"
        + header.encode()
        + b"element face 0\nproperty list uchar int vertex_indices\nend_header\n"
        + table.tobytes()
    )
    got = read_ply(path)
    assert got.position[:, 0].tolist() == [1, 2]
    assert got.radius.tolist() == [0.5, 0.25]
    assert got.colour[:, 1].tolist() == pytest.approx([1, 0.2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw[:-5], r"breaks off: 3 vertices of 35 bytes wanted, 100 there"),
        (lambda raw: b"solid" + raw, "is not a PLY file"),
        (lambda raw: b"", "is not a PLY file"),
        (lambda raw: raw[:90], "is not a PLY file"),
        (lambda raw: b"ply\n" + b"comment\n" * 20_000, "is not a PLY file"),
        (lambda raw: raw.replace(b"binary_little_endian", b"ascii"), "not binary_little_endian"),
        (lambda raw: raw.replace(b"float radius", b"float size"), "vertices lack radius"),
        (lambda raw: raw.replace(b"float x", b"complex x"), "vertex element that cannot be read"),
        (lambda raw: raw.replace(b"element vertex", b"element face"), "does not start with vert"),
        (lambda raw: raw.replace(b"vertex 3", b"vertex some"), "cannot be read"),
        (lambda raw: raw.replace(b"vertex 3", b"vertex -3"), "cannot be read"),
        (lambda raw: raw.replace(b"vertex 3", b"vertex 9" + 20 * b"9"), "breaks off"),
    ],
)
def test_a_wrong_ply_is_named(tmp_path, change, message):
    path = tmp_path / "map.ply"
    write_ply(path, surfels(3))
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(FormatError, match=rf"map\.ply: .*{message}"):
        read_ply(path)


def test_a_missing_ply_is_named(tmp_path):
    with pytest.raises(FormatError, match=r"none\.ply: cannot be read"):
        read_ply(tmp_path / "none.ply")


def test_a_file_is_replaced_only_when_asked(tmp_path):
    path = tmp_path / "map.ply"
    write_ply(path, surfels(3))
    with pytest.raises(FormatError, match="exists; pass overwrite=True"):
        write_ply(path, surfels(4))
    assert len(read_ply(path)) == 3
    write_ply(path, surfels(4), overwrite=True)
    assert len(read_ply(path)) == 4
    with pytest.raises(FormatError, match="is a folder"):
        write_ply(tmp_path, surfels(4), overwrite=True)
    assert os.listdir(tmp_path) == ["map.ply"]


@given(seed=st.integers(0, 10_000), step=st.sampled_from([1e-3, 1e-4, 0.02]))
@settings(max_examples=15, deadline=None)
def test_frames_survive_nerfstudio(tmp_path_factory, seed, step):
    folder = tmp_path_factory.mktemp("set") / "out"
    written = [frame(seed), frame(seed + 1)]
    write_nerfstudio(folder, written, depth_scale=step)
    walk = open_walk(folder)
    assert len(walk) == 2
    for before, after in zip(written, walk, strict=True):
        assert torch.equal(after.rgb, before.rgb)
        assert after.time == before.time
        off = (after.depth - before.depth).abs()
        assert float(off[before.depth > step / 2].max()) <= step / 2 + 1e-6
        assert torch.equal(after.depth > 0, before.depth > 0)
        assert float((after.camera.c2w - before.camera.c2w).abs().max()) <= 1e-5
        torch.testing.assert_close(after.camera.K, before.camera.K)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_frames_survive_colmap(tmp_path_factory, seed):
    folder = tmp_path_factory.mktemp("set") / "out"
    written = [frame(seed), frame(seed + 1), frame(seed + 2, width=8)]
    write_colmap(folder, written, points=surfels(5))
    walk = open_walk(folder)
    for before, after in zip(written, walk, strict=True):
        assert torch.equal(after.rgb, before.rgb)
        assert after.depth is None
        assert float((after.camera.c2w - before.camera.c2w).abs().max()) <= 1e-5
        torch.testing.assert_close(after.camera.K, before.camera.K)
    text = (folder / "sparse" / "0" / "cameras.txt").read_text().splitlines()
    assert len(text) == 3  # a comment, and the first two frames share a camera


def test_colmap_model_holds_the_points(tmp_path):
    pycolmap = pytest.importorskip("pycolmap")
    points = surfels(5)
    write_colmap(tmp_path / "out", [frame()], points=points)
    model = pycolmap.Reconstruction(str(tmp_path / "out" / "sparse" / "0"))
    assert model.num_points3D() == 5
    np.testing.assert_allclose(model.points3D[2].xyz, points.position[1].numpy(), atol=1e-6)
    np.testing.assert_allclose(model.points3D[2].color, 255 * points.colour[1].numpy(), atol=0.51)


def test_nerfstudio_json_is_what_nerfstudio_reads(tmp_path):
    with_depth, without = frame(0), frame(1, depth=False, time=None)
    write_nerfstudio(tmp_path / "out", [with_depth, without], points=surfels(4))
    json_ = json.loads((tmp_path / "out" / "transforms.json").read_text())
    first, second = json_["frames"]
    opengl = with_depth.camera.c2w.numpy() @ np.diag([1, -1, -1, 1])
    np.testing.assert_allclose(first["transform_matrix"], opengl, atol=1e-6)
    assert json_["depth_unit_scale_factor"] == 0.001
    assert Image.open(tmp_path / "out" / first["depth_file_path"]).mode == "I;16"
    assert "depth_file_path" not in second
    assert "time" not in second
    assert (second["w"], second["h"], second["fl_x"]) == (W, H, 14.0)
    assert len(read_ply(tmp_path / "out" / json_["ply_file_path"])) == 4
    walk = open_walk(tmp_path / "out")
    assert walk[0].depth is not None
    assert walk[1].depth is None
    assert walk.times is None


def test_keyframes_are_read_one_by_one(tmp_path):
    asked = []

    def read(id):
        asked.append((id, len(list((tmp_path).glob(".out*/images/*")))))
        return frame(id)

    keyframes = [Keyframe(i, frame(i).camera, 0.5 + i, read) for i in range(3)]
    write_nerfstudio(tmp_path / "out", keyframes)
    assert asked == [(0, 0), (1, 1), (2, 2)]
    assert torch.equal(open_walk(tmp_path / "out")[2].rgb, frame(2).rgb)


def test_float_colour_is_rounded(tmp_path):
    source = frame()
    write_nerfstudio(tmp_path / "out", [source.replace(rgb=source.rgb_float())])
    assert torch.equal(open_walk(tmp_path / "out")[0].rgb, source.rgb)


def test_depth_beyond_16_bits_says_which_scale_holds_it(tmp_path):
    far = frame(scale=100.0)
    deepest = float(far.depth.max())
    with pytest.raises(InputError, match=r"depth_scale=0\.002 or larger") as caught:
        write_nerfstudio(tmp_path / "out", [far])
    assert f"{deepest:g}" in str(caught.value)
    assert os.listdir(tmp_path) == []
    write_nerfstudio(tmp_path / "out", [far], depth_scale=0.002)
    assert float((open_walk(tmp_path / "out")[0].depth - far.depth).abs().max()) <= 0.00101


def test_depth_nearer_than_half_a_step_stays_covered(tmp_path):
    near = frame(scale=1e-4)
    write_nerfstudio(tmp_path / "out", [near])
    got = open_walk(tmp_path / "out")[0].depth
    assert got[near.depth > 0].tolist() == pytest.approx([0.001] * (W * H - 1))


@pytest.mark.parametrize("write", [write_nerfstudio, write_colmap])
def test_a_folder_is_replaced_only_when_asked(tmp_path, write):
    out = tmp_path / "out"
    out.mkdir()
    write(out, [frame(0)])  # an empty folder may be filled
    with pytest.raises(FormatError, match="is not empty; pass overwrite=True"):
        write(out, [frame(1), frame(2)])
    assert torch.equal(open_walk(out)[0].rgb, frame(0).rgb)
    (out / "stale.txt").write_text("")
    write(out, [frame(1), frame(2)], overwrite=True)
    assert torch.equal(open_walk(out)[0].rgb, frame(1).rgb)
    assert not (out / "stale.txt").exists()
    assert os.listdir(tmp_path) == ["out"]
    (tmp_path / "file").write_text("")
    with pytest.raises(FormatError, match="is a file"):
        write(tmp_path / "file", [frame(0)], overwrite=True)


@pytest.mark.parametrize("write", [write_nerfstudio, write_colmap])
def test_what_fails_half_way_leaves_the_old_folder(tmp_path, write):
    def frames():
        yield frame(1)
        raise RuntimeError("the disk went away")

    write(tmp_path / "out", [frame(0)])
    with pytest.raises(RuntimeError, match="the disk went away"):
        write(tmp_path / "out", frames(), overwrite=True)
    with pytest.raises(InputError, match="at least one frame"):
        write(tmp_path / "out", [], overwrite=True)
    assert torch.equal(open_walk(tmp_path / "out")[0].rgb, frame(0).rgb)
    assert os.listdir(tmp_path) == ["out"]


def test_where_the_rename_fails_the_old_folder_comes_back(tmp_path, monkeypatch):
    write_nerfstudio(tmp_path / "out", [frame(0)])
    rename = Path.rename

    def failing(self, target):
        if self.suffix == ".partial":
            raise OSError("the disk went away")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="the disk went away"):
        write_nerfstudio(tmp_path / "out", [frame(1)], overwrite=True)
    assert torch.equal(open_walk(tmp_path / "out")[0].rgb, frame(0).rgb)
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("scale", [0.0, -0.001, float("nan"), float("inf")])
def test_a_step_is_a_positive_length(tmp_path, scale):
    with pytest.raises(InputError, match="depth_scale is the world units of one step"):
        write_nerfstudio(tmp_path / "out", [frame()], depth_scale=scale)


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_others_may_read_what_was_written(tmp_path):
    write_nerfstudio(tmp_path / "out", [frame()])
    write_ply(tmp_path / "map.ply", surfels(2))
    usual = tmp_path / "usual"
    usual.mkdir()
    (usual / "file").write_text("")
    mode = lambda path: stat.S_IMODE(path.stat().st_mode)  # noqa: E731
    assert mode(tmp_path / "out") == mode(usual)
    assert mode(tmp_path / "map.ply") == mode(usual / "file")
