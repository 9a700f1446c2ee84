"""A data set from a stranger: it leads nowhere, runs nothing, never waits, and asks for no more than it holds."""

from __future__ import annotations

import ast
import io
import json
import math
import os
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from spmem.errors import FormatError
from spmem.integrations import writers
from spmem.integrations.readers import open_walk, read_cameras, read_lerobot
from spmem.testing.box import BoxRoom

W, H = 64, 48
EYE = np.eye(4).tolist()
POSES = "".join(f"{i} 0 0 0 0 0 0 1\n" for i in range(2))
MATRIX = " ".join(str(value) for row in EYE for value in row)
HINT = "leads out of the data set"

posix = pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of the user's own, beside the data set."""
    folder = tmp_path / "private"
    folder.mkdir()
    image(folder / "0.png")
    image(folder / "1.png")
    return folder


def image(path: Path, *, depth: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((H, W), 1000, np.uint16) if depth else np.full((H, W, 3), 77, np.uint8)
    Image.fromarray(pixels).save(path)


def transforms(folder: Path, *frames: dict[str, Any], **shared: Any) -> Path:
    folder.mkdir(exist_ok=True)
    about = {"fl_x": 50, "w": W, "h": H, **shared}
    about["frames"] = [{"file_path": "0.png", "transform_matrix": EYE, **one} for one in frames]
    (folder / "transforms.json").write_text(json.dumps(about))
    return folder


def colmap(folder: Path, name: bytes = b"0.png", **claims: int) -> Path:
    """A binary model of one image, as large as it says or not."""
    (folder / "sparse").mkdir(parents=True)
    image(folder / "images" / "0.png")
    said = {"cameras": 1, "images": 1, "points": 0, "points2D": 0, "model": 1, "width": W, "height": H} | claims  # fmt: skip
    cameras = struct.pack("<QIiQQ4d", said["cameras"], 1, said["model"], said["width"], said["height"], 50, 50, 32, 24)  # fmt: skip
    images = struct.pack("<QI7dI", said["images"], 1, 1, 0, 0, 0, 0, 0, 0, 1) + name + b"\0"
    (folder / "sparse" / "cameras.bin").write_bytes(cameras)
    (folder / "sparse" / "images.bin").write_bytes(images + struct.pack("<Q", said["points2D"]))
    (folder / "sparse" / "points3D.bin").write_bytes(struct.pack("<Q", said["points"]))
    return folder


def tum(folder: Path, *names: str) -> Path:
    folder.mkdir()
    (folder / "rgb.txt").write_text("".join(f"{i} {name}\n" for i, name in enumerate(names)))
    (folder / "groundtruth.txt").write_text(POSES)
    return folder


def plain(folder: Path) -> Path:
    """Folders with ``images/``, ``depth/``, poses and intrinsics, of two frames."""
    for i in range(2):
        image(folder / "images" / f"{i}.png")
        image(folder / "depth" / f"{i}.png", depth=True)
    (folder / "poses.txt").write_text(f"{MATRIX}\n{MATRIX}\n")
    (folder / "K.txt").write_text("50 0 32\n0 50 24\n0 0 1\n")
    return folder


def scenes(folder: Path) -> Path:
    """The layout of 7-Scenes."""
    for i in range(2):
        image(folder / f"frame-{i:06d}.color.png")
        image(folder / f"frame-{i:06d}.depth.png", depth=True)
        (folder / f"frame-{i:06d}.pose.txt").write_text(MATRIX)
    return folder


def lerobot(folder: Path) -> Path:
    pytest.importorskip("pyarrow")
    room = BoxRoom()
    frames = room.frames(room.walk(3, width=32, height=24), time=0.0)
    writers.write_lerobot(folder, [writers.LeRobotEpisode(frames, "look")], fps=2)
    return folder


def video(folder: Path) -> Path:
    pytest.importorskip("av")
    room = BoxRoom()
    writers.write_video(folder, room.frames(room.walk(3, width=32, height=24)), fps=2)
    return folder


def link(file: Path, target: Path) -> None:
    """Move a file or folder elsewhere, and leave a link in its place."""
    target.parent.mkdir(parents=True, exist_ok=True)
    file.rename(target)
    file.symlink_to(target)


# -- nothing leads out ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ABSOLUTE", "../private/0.png", "a/../../private/0.png"])
def test_names_in_a_file_do_not_lead_out(tmp_path: Path, outside: Path, name: str) -> None:
    name = name.replace("ABSOLUTE", str(outside / "0.png"))
    sets = (
        transforms(tmp_path / "nerfstudio", {"file_path": name}),
        transforms(tmp_path / "sizes", {"file_path": name}, w=None),
        transforms(tmp_path / "depth", {"depth_file_path": name}),
        tum(tmp_path / "tum", name, name),
        colmap(tmp_path / "colmap", (name if name[0] == "/" else f"../{name}").encode()),
    )
    image(tmp_path / "depth" / "0.png")
    about = json.loads((tmp_path / "sizes" / "transforms.json").read_text())
    del about["w"]
    (tmp_path / "sizes" / "transforms.json").write_text(json.dumps(about))
    for folder in sets:
        with pytest.raises(FormatError, match=HINT):
            _ = open_walk(folder)[0]


@posix
@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (plain, ["images", "images/1.png", "depth", "depth/0.png", "poses.txt", "K.txt"]),
        (scenes, ["frame-000001.color.png", "frame-000000.depth.png", "frame-000000.pose.txt"]),
        (lambda to: transforms(to, {}), ["transforms.json"]),
        (lambda to: tum(to, "0.png"), ["rgb.txt", "groundtruth.txt"]),
        (colmap, ["sparse", "sparse/images.bin", "sparse/cameras.bin", "images/0.png"]),
        (lerobot, ["meta/info.json", "data", "meta/episodes", "videos"]),
        (video, ["video.mp4", "video.json"]),
    ],
    ids=["folders", "7scenes", "nerfstudio", "tum", "colmap", "lerobot", "video"],
)
def test_links_do_not_lead_out(
    make: Callable[[Path], Path], parts: list[str], tmp_path: Path
) -> None:
    for i, part in enumerate(parts):
        folder = make(tmp_path / f"walk-{i}")
        image(folder / "0.png")
        link(folder / part, tmp_path / f"elsewhere-{i}" / part)
        with pytest.raises(FormatError, match=HINT):
            list(open_walk(folder, **({"format": "lerobot"} if make is lerobot else {})))


@posix
def test_links_inside_and_to_the_whole_are_followed(tmp_path: Path) -> None:
    folder = plain(tmp_path / "walk")
    link(folder / "images", folder / "colour" / "all")
    link(folder / "depth" / "1.png", folder / "colour" / "1.depth.png")
    (tmp_path / "by-name").symlink_to(folder, target_is_directory=True)
    for named in (folder, tmp_path / "by-name"):
        assert [frame.depth is not None for frame in open_walk(named)] == [True, True]


@posix
def test_a_file_that_the_user_names_may_be_a_link(tmp_path: Path) -> None:
    folder = video(tmp_path / "walk")
    link(folder / "video.mp4", tmp_path / "elsewhere" / "clip.mp4")
    assert len(list(open_walk(folder / "video.mp4"))) == 3
    (tmp_path / "path.txt").write_text(POSES)
    (tmp_path / "named.txt").symlink_to(tmp_path / "path.txt")
    assert len(read_cameras(tmp_path / "named.txt", W, H)) == 2


def test_folders_that_the_user_names_may_lie_anywhere(tmp_path: Path, outside: Path) -> None:
    folder = colmap(tmp_path / "colmap")
    assert len(list(open_walk(folder, images=outside))) == 1


def test_templates_of_a_lerobot_set_are_paths_and_no_programs(tmp_path: Path) -> None:
    folder = lerobot(tmp_path / "walk")
    info = json.loads((folder / "meta" / "info.json").read_text())
    for template, problem in (
        ("{chunk_index:999999999999}", "missing|no name|cannot"),
        ("{chunk_index.__class__}", "missing"),
        ("{secret}", "unknown field"),
        ("../{chunk_index}", HINT),
        ("/etc/passwd", HINT),
    ):
        (folder / "meta" / "info.json").write_text(json.dumps(info | {"data_path": template}))
        with pytest.raises(FormatError, match=problem):
            read_lerobot(folder)


def test_a_playlist_is_no_video(tmp_path: Path) -> None:
    folder, other = video(tmp_path / "walk"), video(tmp_path / "other")
    other.joinpath("video.mp4").rename(folder / "secret.mp4")
    for script in ("ffconcat version 1.0\nfile secret.mp4\n", "#EXTM3U\nsecret.mp4\n"):
        (folder / "video.mp4").write_text(script)
        with pytest.raises(FormatError, match="is not a readable video"):
            open_walk(folder / "video.mp4")


def test_postscript_is_no_image(tmp_path: Path) -> None:
    """Pillow hands it to Ghostscript, which runs it."""
    folder = plain(tmp_path / "walk")
    with Image.open(folder / "images" / "0.png") as picture:
        picture.save(folder / "images" / "0.eps")
    (folder / "images" / "0.eps").replace(folder / "images" / "0.png")
    with pytest.raises(FormatError, match="is not a readable image"):
        open_walk(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes there")
def test_pipes_are_refused_at_once(tmp_path: Path) -> None:
    sets = {
        transforms(tmp_path / "n", {}, {}): "0.png",
        tum(tmp_path / "t", "0.png", "0.png"): "0.png",
        colmap(tmp_path / "c"): "images/0.png",
        plain(tmp_path / "f"): "images/1.png",
        scenes(tmp_path / "s"): "frame-000001.depth.png",
        lerobot(tmp_path / "l"): "data/chunk-000/file-000.parquet",
        video(tmp_path / "v"): "video.mp4",
    }
    for folder, name in sets.items():
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)
        with pytest.raises(FormatError):
            list(open_walk(folder))


def test_only_one_function_opens_files() -> None:
    """No reader has another way to a file; what it is given was opened there."""
    readers = Path(__file__).parents[2] / "integrations" / "readers"
    ways = {"read_text", "read_bytes", "iterdir", "glob", "rglob", "listdir", "scandir", "fromfile", "load", "memmap"}  # fmt: skip
    found = []
    for source in readers.glob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                if name in ("open", "os.open") or ("." in name and name.split(".")[-1] in ways):
                    found.append((source.name, name))
    assert sorted(found) == [("files.py", "os.listdir"), ("files.py", "os.open")]


# -- nothing grows ----------------------------------------------------------------------------------


def png(width: int, height: int) -> bytes:
    """Black pixels, packed a thousandfold."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))  # fmt: skip

    pack = zlib.compressobj(1)
    body = b"".join(pack.compress(bytes(3 * width + 1)) for _ in range(height)) + pack.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")  # fmt: skip


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_small_png_of_many_pixels(tmp_path: Path, frugal: None) -> None:
    folder = transforms(tmp_path / "walk", {})
    (folder / "0.png").write_bytes(png(13_000, 13_000))
    about = json.loads((folder / "transforms.json").read_text())
    for side, problem in ((W, "0.png: is 13000x13000; the limit is 134,217,728"), (13_000, "limit is 134,217,728")):  # fmt: skip
        about |= {"w": side, "h": side}
        (folder / "transforms.json").write_text(json.dumps(about))
        with pytest.raises(FormatError, match=problem):
            _ = open_walk(folder)[0]


def npy(shape: object, kind: str = "'<f4'") -> bytes:
    header = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (npy((1 << 25, 1 << 20)), "claims 140,737,488,355,328 bytes of an array, of which 0"),
        (npy((60_000, 100_000)), "claims 24,000,000,000"),
        (npy((4, 4), "'|O'"), "no numbers"),
        (npy((4, 4), "[" * 3000), "is not a readable array"),
        (npy((-4, -4)), "is not a readable array"),
        (npy((2, 2), "'<U100000000'"), "no numbers"),
        (npy("(2**70,)"), "is not a readable array"),
        (b"\x93NUMPY\x03\x00\xff\xff\xff\xff" + b"{" * 1000, "is not a readable array"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b"{" * 1000, "is not a readable array"),
    ],
)
def test_arrays_that_claim_more_than_their_file(
    tmp_path: Path, content: bytes, problem: str, frugal: None
) -> None:
    folder = transforms(tmp_path / "walk", {"depth_file_path": "d.npy"})
    image(folder / "0.png")
    (folder / "d.npy").write_bytes(content)
    with pytest.raises(FormatError, match=rf"d\.npy: .*{problem}"):
        _ = open_walk(folder)[0]


@pytest.mark.parametrize("name", ["c2w", "K"])
def test_an_archive_of_zeros(tmp_path: Path, name: str, frugal: None) -> None:
    folder = video(tmp_path / "walk")
    (folder / "video.json").unlink()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        if name == "K":
            archive.writestr("c2w.npy", npy((3, 4, 4)) + np.eye(4, dtype="<f4").tobytes() * 3)
        with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
            file.write(npy((1 << 22, 4, 4)))
            for _ in range(16):
                file.write(bytes(1 << 24))
    (folder / "poses.npz").write_bytes(packed.getvalue())
    with pytest.raises(FormatError, match=rf"poses\.npz: {name} is float32 .*; wanted .*3 frames"):
        open_walk(folder)


@pytest.mark.parametrize(
    ("claims", "problem"),
    [
        ({"cameras": 1 << 60}, r"cameras\.bin: claims"),
        ({"images": 1 << 60}, r"images\.bin: claims"),
        ({"points2D": 1 << 60}, r"images\.bin: claims"),
        ({"points2D": 1 << 28}, r"images\.bin: claims 6,442,450,944 bytes"),
        ({"width": 1 << 62, "height": 1 << 62}, "limit is 134,217,728 pixels"),
        ({"model": 9999}, "which is unknown"),
        ({"model": -1}, "which is unknown"),
    ],
)
def test_colmap_models_that_claim_more_than_their_files(
    tmp_path: Path, claims: dict[str, int], problem: str
) -> None:
    with pytest.raises(FormatError, match=problem):
        open_walk(colmap(tmp_path / "walk", **claims))


def test_points_of_a_colmap_model_are_not_read(tmp_path: Path) -> None:
    assert len(list(open_walk(colmap(tmp_path / "walk", points=1 << 60)))) == 1


BOXES = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts"}


def with_tables(content: bytes, tables: dict[bytes, bytes]) -> bytes:
    """An MP4 file in which some tables are others."""
    out, start = b"", 0
    while start + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, start)
        body = content[start + 8 : start + length]
        body = with_tables(body, tables) if kind in BOXES else tables.get(kind, body)
        out += struct.pack(">I4s", len(body) + 8, kind) + body
        start += length
    return out


def of_one_size(count: int) -> dict[bytes, bytes]:
    """Tables of so many frames of a byte each."""
    return {
        b"stsz": struct.pack(">III", 0, 1, count),
        b"stsc": struct.pack(">IIIII", 0, 1, 1, count, 1),
        b"stts": struct.pack(">IIII", 0, 1, count, 512),
    }


@pytest.mark.parametrize(
    ("tables", "problem"),
    [
        (of_one_size(1 << 26), "claims 67,108,864 frames"),
        (
            of_one_size(4000) | {b"elst": struct.pack(">II", 0, 20_000) + struct.pack(">Iihh", 2_000_000, 0, 1, 0) * 20_000},
            "claims 19,998 edits of 4,000 frames",
        ),
        ({b"stss": b"", b"udta": struct.pack(">I4s", 12, b"cmov") + bytes(4)}, "compressed header"),
    ],
    ids=["frames", "edits", "packed"],
)  # fmt: skip
def test_videos_that_claim_more_frames_than_their_bytes(
    tmp_path: Path, tables: dict[bytes, bytes], problem: str, frugal: None
) -> None:
    folder = video(tmp_path / "walk")
    content = (folder / "video.mp4").read_bytes()
    (folder / "video.mp4").write_bytes(with_tables(content, tables))
    with pytest.raises(FormatError, match=problem):
        open_walk(folder)


def motion_jpeg(file: Path, sizes: list[tuple[int, int]]) -> None:
    """Images of 64x48, each of which says of itself that it is of another size."""
    av = pytest.importorskip("av")
    with av.open(str(file), "w") as container:
        stream = container.add_stream("mjpeg", rate=2)
        stream.width, stream.height, stream.pix_fmt = W, H, "yuvj420p"
        for _ in sizes:
            grey = av.VideoFrame.from_ndarray(np.full((H, W, 3), 90, np.uint8), format="rgb24")
            container.mux(stream.encode(grey))
        container.mux(stream.encode())
    mark = b"\xff\xc0\x00\x11\x08"
    first, *rest = file.read_bytes().split(mark + struct.pack(">HH", H, W))
    parts = zip(sizes, rest, strict=True)
    told = (mark + struct.pack(">HH", height, width) + part for (width, height), part in parts)
    file.write_bytes(first + b"".join(told))


@pytest.mark.parametrize(
    ("sizes", "problem"),
    [
        ([(16_000, 16_000)] * 3, "limit is 134,217,728 pixels|cannot be decoded"),
        ([(W, H), (16_000, 16_000), (W, H)], "frame 1 cannot be decoded"),
        ([(W, H), (W, H), (W // 2, H // 2)], "frame 2 is 32x24, the video 64x48"),
    ],
    ids=["all", "one", "another size"],
)
def test_a_small_video_of_many_pixels(
    tmp_path: Path, sizes: list[tuple[int, int]], problem: str, frugal: None
) -> None:
    motion_jpeg(tmp_path / "video.avi", sizes)
    transforms(tmp_path, *[{"file_path": "video.avi"}] * 3)
    (tmp_path / "transforms.json").rename(tmp_path / "video.json")
    with pytest.raises(FormatError, match=rf"video\.avi: .*({problem})"):
        list(open_walk(tmp_path / "video.avi"))


def parquet(file: Path, columns: dict[str, Any], times: int = 8) -> None:
    """Columns several times over, packed, and without Arrow's own notes."""
    import pyarrow as pa
    from pyarrow import parquet as pq

    table = pa.table(columns)
    with pq.ParquetWriter(file, table.schema, compression="zstd", store_schema=False) as writer:
        for _ in range(times):
            writer.write_table(table, row_group_size=len(table))


def test_a_small_table_of_many_rows(tmp_path: Path, frugal: None) -> None:
    folder = lerobot(tmp_path / "walk")
    zeros = np.zeros(1 << 22, np.int64)
    file = folder / "data" / "chunk-000" / "file-000.parquet"
    parquet(file, dict.fromkeys(("episode_index", "timestamp", "a", "b"), zeros))
    with pytest.raises(FormatError, match=r"claims [\d,]+ bytes of columns, of which"):
        read_lerobot(folder)


def test_words_of_a_table_are_not_unpacked(tmp_path: Path, frugal: None) -> None:
    folder = lerobot(tmp_path / "walk")
    import pyarrow as pa

    same = pa.DictionaryArray.from_arrays(np.zeros(1200, np.int32), ["x" * (1 << 20)])
    rows = {"episode_index": [0] * 1200, "timestamp": [0.0] * 1200, "words": same}
    parquet(folder / "data" / "chunk-000" / "file-000.parquet", rows)
    with pytest.raises(FormatError, match="has 9600 rows of episode 0"):
        read_lerobot(folder)
    tasks = {"episode_index": [0], "tasks": pa.ListArray.from_arrays([0, 1200], same)}
    parquet(next((folder / "meta" / "episodes").rglob("*.parquet")), tasks, times=1)
    with pytest.raises(FormatError, match="has 1,200 tasks"):
        read_lerobot(folder)


# -- odd numbers and names --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"fl_x": 10**400}, "fl_x is 1000.*wanted a finite number"),
        ({"w": 1e30}, "limit is 134,217,728 pixels"),
        ({"w": 0.5}, "positive integers"),
        ({"fl_x": None}, "fl_x is None"),
        ({"k1": [1]}, "k1 is"),
        ({"depth_unit_scale_factor": "1"}, "depth_unit_scale_factor is '1'"),
    ],
)
def test_numbers_that_are_none(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    with pytest.raises(FormatError, match=problem):
        open_walk(transforms(tmp_path / "walk", {}, **change))


@pytest.mark.parametrize("angle", [0, -1.0, math.pi, 10**400])
def test_angles_that_no_camera_has(tmp_path: Path, angle: float) -> None:
    folder = transforms(tmp_path / "walk", {}, camera_angle_x=angle)
    about = json.loads((folder / "transforms.json").read_text())
    del about["fl_x"]
    (folder / "transforms.json").write_text(json.dumps(about))
    with pytest.raises(FormatError, match="camera_angle_x is"):
        open_walk(folder)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"fl_x": ' + "9" * 5000 + "}", "\ufeff{}", "{", "[]", "1"])  # fmt: skip
def test_json_that_nobody_reads(tmp_path: Path, text: str) -> None:
    (tmp_path / "transforms.json").write_text(text)
    with pytest.raises(FormatError, match=r"transforms\.json: "):
        open_walk(tmp_path)


@pytest.mark.parametrize(
    "name", ["/", "", ".", "..", "a\0b.png", "a" * 5000, "1" * 6000 + ".png", "\ud800.png", ["a"], 7]
)  # fmt: skip
def test_names_that_no_file_has(tmp_path: Path, name: Any) -> None:
    frames = [{"file_path": name}, {"file_path": "2.png"}]
    with pytest.raises(FormatError) as raised:
        list(open_walk(transforms(tmp_path / "walk", *frames)))
    assert str(raised.value).encode()  # it can be printed
