"""Damaged files, many at random: what comes out is what was stored, or an error that spmem documents."""

from __future__ import annotations

import json
import re
import struct
import warnings
from collections.abc import Callable, Iterator, Sized
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import spmem
from spmem import Frame, KeyframeConfig, MemoryConfig
from spmem.errors import SpmemError
from spmem.integrations import writers
from spmem.integrations.readers import open_walk
from spmem.integrations.writers import LeRobotEpisode
from spmem.stores.keyframes.zarr import ZarrKeyframes
from spmem.stores.maps.surfels import SurfelMap
from spmem.testing.box import BoxRoom

pytestmark = pytest.mark.filterwarnings("ignore:.*made anew")
FEW = settings(max_examples=12, suppress_health_check=list(HealthCheck))
MANY = settings(FEW, max_examples=60)
WHERE = st.floats(0, 1, exclude_max=True)


@st.composite
def damages(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """A change of some bytes: flipped, put in, cut off, cut out, swapped or repeated."""
    kind = draw(st.sampled_from(["flip", "insert", "truncate", "delete", "swap", "fill"]))
    at, other = draw(st.floats(0, 1)), draw(st.floats(0, 1))
    some = draw(st.binary(min_size=1, max_size=16))

    def damage(content: bytes) -> bytes:
        a, b = sorted((int(at * len(content)), int(other * len(content))))
        middle = {
            "flip": bytes(
                x ^ y or 1 for x, y in zip(content[a : a + len(some)], some, strict=False)
            ),
            "insert": some + content[a : a + len(some)],
            "truncate": b"",
            "delete": b"",
            "swap": content[b : b + len(some)],
            "fill": bytes([some[0]]) * len(content[a : a + 64]),
        }[kind]
        rest = {"truncate": b"", "delete": content[b:], "fill": content[a + 64 :]}
        return content[:a] + middle + rest.get(kind, content[a + len(some) :])

    return damage


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    room = BoxRoom()
    return room.frames(room.walk(4, width=16, height=12), time=0.0)


class Walk:
    """A memory on disk, what it answers, and its files to damage and to bring back."""

    def __init__(self, path: Path, frames: list[Frame]) -> None:
        self.path = path
        config = MemoryConfig(keyframes=KeyframeConfig(novelty=0.0, commit_every=2), recent=1)
        with spmem.open(path, config=config) as memory:
            for frame in frames:
                memory.store(frame)
        self.camera = frames[2].camera[None]
        self.files = {file: file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}
        with spmem.open(path, mode="r") as memory:
            self.keyframes = {id: memory.keyframes[id].frame for id in memory.keyframes}
            self.answer = memory.retrieve(self.camera)

    def restore(self) -> None:
        for file in set(self.path.rglob("*")) - set(self.files):
            if file.is_file():
                file.unlink()
        for file, content in self.files.items():
            if not file.exists() or file.read_bytes() != content:
                file.write_bytes(content)

    def check(self) -> None:
        """Read everything; what can be read is what was stored (or was as of an earlier commit)."""
        bank = ZarrKeyframes.open(self.path, "r")
        for id in bank.ids().tolist():
            try:
                frame = bank.read(id)
            except SpmemError:
                continue
            stored = self.keyframes[id]
            assert torch.equal(frame.rgb, stored.rgb)
            assert frame.depth is not None
            assert stored.depth is not None
            assert torch.equal(frame.depth, stored.depth)
            assert torch.equal(frame.camera.c2w, stored.camera.c2w)
            assert torch.equal(frame.camera.K, stored.camera.K)
        bank.close()
        with spmem.open(self.path, mode="r") as memory:
            answer = memory.retrieve(self.camera)
            if len(memory.keyframes) == len(self.keyframes):
                assert torch.equal(answer.projection.rgb, self.answer.projection.rgb)
                assert torch.equal(answer.projection.depth, self.answer.projection.depth)
                assert [one.id for one in answer.keyframes] == [
                    one.id for one in self.answer.keyframes
                ]


@pytest.fixture(scope="module")
def walk(frames: list[Frame], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a damaged cache is made anew
        yield Walk(tmp_path_factory.mktemp("fuzz") / "walk.spmem", frames)


@FEW
@given(at=WHERE, damage=damages())
def test_a_damaged_file(walk: Walk, at: float, damage: Callable[[bytes], bytes]) -> None:
    check_damaged(walk, at, damage)


@pytest.mark.slow
@MANY
@given(at=WHERE, damage=damages())
def test_many_damaged_files(walk: Walk, at: float, damage: Callable[[bytes], bytes]) -> None:
    check_damaged(walk, at, damage)


def check_damaged(walk: Walk, at: float, damage: Callable[[bytes], bytes]) -> None:
    file = list(walk.files)[int(at * len(walk.files))]
    file.write_bytes(damage(walk.files[file]))
    try:
        walk.check()
    except SpmemError:
        pass
    finally:
        walk.restore()


@FEW
@given(at=WHERE, to=WHERE, gone=st.booleans())
def test_a_missing_file_and_swapped_ones(walk: Walk, at: float, to: float, gone: bool) -> None:
    check_misplaced(walk, at, to, gone)


@pytest.mark.slow
@MANY
@given(at=WHERE, to=WHERE, gone=st.booleans())
def test_many_missing_files_and_swapped_ones(walk: Walk, at: float, to: float, gone: bool) -> None:
    check_misplaced(walk, at, to, gone)


def check_misplaced(walk: Walk, at: float, to: float, gone: bool) -> None:
    names = list(walk.files)
    one, other = names[int(at * len(names))], names[int(to * len(names))]
    if gone:
        one.unlink()
    else:
        one.write_bytes(walk.files[other])
        other.write_bytes(walk.files[one])
    try:
        walk.check()
    except SpmemError:
        pass
    finally:
        walk.restore()


def test_snapshots_that_changed_places(walk: Walk) -> None:
    """Icechunk takes a snapshot's file for what its name says: an earlier state would be the present one."""
    tip = ZarrKeyframes.open(walk.path, "r").snapshots()[0].id
    names = [file for file in walk.files if file.parent.name == "snapshots" and file.name != tip]
    last = walk.path / "snapshots" / tip
    assert len(names) > 1
    for other in names:
        last.write_bytes(walk.files[other])
        try:
            with pytest.raises(
                SpmemError, match=f"snapshot {tip} is another one|not an spmem memory"
            ):
                spmem.open(walk.path, mode="r")
        finally:
            walk.restore()


@pytest.mark.parametrize("count", [12, pytest.param(None, marks=pytest.mark.slow)])
def test_lists_of_chunks_that_changed_places(walk: Walk, count: int | None) -> None:
    """What Icechunk does not find it takes for never written: zeros, which must not be believed."""
    names = [file for file in walk.files if file.parent.name == "manifests"]
    names = sorted(names, key=lambda file: -len(walk.files[file]))[:count]
    refused = 0
    for one, other in zip(names, names[1:] + names[:1], strict=True):
        one.write_bytes(walk.files[other])
        try:
            walk.check()
        except SpmemError:
            refused += 1
        finally:
            walk.restore()
    # Manifests of earlier commits and of small groups are read by nobody who opens the last commit.
    assert refused > (0 if count else len(names) // 4)


# -- data sets --------------------------------------------------------------------------------------


def write_7scenes(folder: Path, frames: list[Frame]) -> None:
    folder.mkdir()
    for n, frame in enumerate(frames):
        assert frame.depth is not None
        stem = f"{folder}/frame-{n:06d}"
        Image.fromarray(frame.rgb_uint8().numpy()).save(f"{stem}.color.png")
        Image.fromarray((1000 * frame.depth.numpy()).astype(np.uint16)).save(f"{stem}.depth.png")
        np.savetxt(f"{stem}.pose.txt", frame.camera.c2w.numpy())
    np.savetxt(folder / "camera-intrinsics.txt", frames[0].camera.K.numpy())


def write_folders(folder: Path, frames: list[Frame]) -> None:
    for kind in ("images", "depth"):
        (folder / kind).mkdir(parents=True)
    for n, frame in enumerate(frames):
        assert frame.depth is not None
        Image.fromarray(frame.rgb_uint8().numpy()).save(folder / "images" / f"{n}.png")
        np.save(folder / "depth" / f"{n}.npy", 1000 * frame.depth.numpy())
    np.savetxt(folder / "poses.txt", [frame.camera.c2w.numpy().reshape(16) for frame in frames])
    np.savetxt(folder / "K.txt", frames[0].camera.K.numpy())


def write_binary_colmap(folder: Path, frames: list[Frame]) -> None:
    writers.write_colmap(folder, frames)
    model, camera = folder / "sparse" / "0", frames[0].camera
    for file in model.iterdir():
        file.unlink()
    about = struct.pack("<QIiQQ4d", 1, 1, 1, camera.width, camera.height, 20, 20, 8, 6)
    (model / "cameras.bin").write_bytes(about)
    images = b"".join(
        struct.pack("<I7dI", n, 1, 0, 0, 0, n, 0, 0, 1) + b"frame_%05d.png\0" % n + struct.pack("<Q", 0)
        for n in range(len(frames))
    )  # fmt: skip
    (model / "images.bin").write_bytes(struct.pack("<Q", len(frames)) + images)
    (model / "points3D.bin").write_bytes(bytes(8))


def write_npz(folder: Path, frames: list[Frame]) -> None:
    writers.write_video(folder, frames, fps=1)
    (folder / "video.json").unlink()
    c2w = np.stack([frame.camera.c2w.numpy() for frame in frames])
    np.savez_compressed(folder / "video.npz", c2w=c2w, K=frames[0].camera.K.numpy())


def write_surfels(folder: Path, frames: list[Frame]) -> None:
    folder.mkdir()
    map = SurfelMap()
    map.fuse(frames[0])
    writers.write_ply(folder / "map.ply", map.surfels())


def opened(folder: Path, within: str = "", **options: Any) -> list[Frame]:
    told = {name: folder / path for name, path in options.items()}
    return list(open_walk(folder / within, **told))


@dataclass(frozen=True)
class Format:
    """Writes a data set of two frames, and reads all of it."""

    write: Callable[[Path, list[Frame]], object]
    read: Callable[[Path], Sized] = opened


FORMATS = {
    "7scenes": Format(write_7scenes),
    "folders": Format(write_folders),
    "binary-colmap": Format(write_binary_colmap),
    "npz": Format(write_npz),
    "tum": Format(writers.write_tum),
    "nerfstudio": Format(writers.write_nerfstudio),
    "colmap": Format(writers.write_colmap),
    "realestate10k": Format(
        partial(writers.write_realestate10k, url="https://example.org/video"),
        partial(opened, within="clip.txt", images="clip"),
    ),
    "lerobot": Format(
        lambda to, frames: writers.write_lerobot(to, [LeRobotEpisode(frames)], fps=1)
    ),
    "video": Format(partial(writers.write_video, fps=1), partial(opened, depth="depth")),
    "ply": Format(write_surfels, lambda folder: writers.read_ply(folder / "map.ply")),
}


@pytest.fixture(scope="module", params=FORMATS)
def data(
    request: pytest.FixtureRequest, frames: list[Frame], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Callable[[Path], Sized], dict[Path, bytes]]:
    folder, format = tmp_path_factory.mktemp("data") / "walk", FORMATS[request.param]
    format.write(folder, [frame.replace(time=float(n)) for n, frame in enumerate(frames[:2])])
    assert len(format.read(folder)) >= 2
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return folder, format.read, {file: file.read_bytes() for file in files}


ODD_WORDS = ("nan", "-inf", "1e999", "-1.#IND", "0", "-1", "1e308", "9" * 400, "9" * 5000, "x", "\0", "/", "..", "\u0663", '"')  # fmt: skip
ODD_VALUES = (
    None, True, "", "/", "..", "../x.png", "/etc/passwd", "a\0b", "\ud800", "x" * 5000, "1" * 6000, [], {}, [[1]], 0, -1, 0.5,
    1e308, -1e308, float("nan"), float("inf"), 1 << 31, 1 << 63, 10**400, "{chunk_index:99999999999}", "{x}",
)  # fmt: skip
ODD_NUMBERS = (0, 1, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 60, (1 << 63) - 1, (1 << 64) - 1)  # fmt: skip


@st.composite
def oddities(draw: st.DrawFn) -> Callable[[Path, bytes], bytes]:
    """A value of a file becomes one that nobody expects: a word of a text, a value of a JSON, a number among bytes."""
    at = draw(WHERE)
    word, value = draw(st.sampled_from(ODD_WORDS)), draw(st.sampled_from(ODD_VALUES))
    number, form = (
        draw(st.sampled_from(ODD_NUMBERS)),
        draw(st.sampled_from(["<Q", ">Q", "<I", ">I"])),
    )

    def change(file: Path, content: bytes) -> bytes:
        if file.suffix == ".txt":
            words = re.split(r"(\s+)", content.decode())
            words[2 * int(at * (len(words) // 2))] = word
            return "".join(words).encode()
        if file.suffix == ".json":
            found = json.loads(content)
            places: list[tuple[Any, Any]] = []
            todo = [found]
            while todo:
                one = todo.pop()
                keys = list(one) if isinstance(one, dict) else range(len(one))
                places += [(one, key) for key in keys]
                todo += [one[key] for key in keys if isinstance(one[key], dict | list)]
            holder, key = places[int(at * len(places))]
            holder[key] = value
            return json.dumps(found).encode()
        packed = struct.pack(form, number & ((1 << (8 * struct.calcsize(form))) - 1))
        start = int(at * len(content))
        return content[:start] + packed + content[start + len(packed) :]

    return change


@MANY
@given(at=WHERE, change=oddities())
def test_an_odd_value_in_a_data_set(
    data: tuple[Path, Callable[[Path], Sized], dict[Path, bytes]],
    at: float,
    change: Callable[[Path, bytes], bytes],
) -> None:
    file = list(data[2])[int(at * len(data[2]))]
    check_data(data, file, change(file, data[2][file]))


@MANY
@given(at=WHERE, damage=damages())
def test_a_damaged_file_of_a_data_set(
    data: tuple[Path, Callable[[Path], Sized], dict[Path, bytes]],
    at: float,
    damage: Callable[[bytes], bytes],
) -> None:
    file = list(data[2])[int(at * len(data[2]))]
    check_data(data, file, damage(data[2][file]))


def check_data(
    data: tuple[Path, Callable[[Path], Sized], dict[Path, bytes]], file: Path, content: bytes
) -> None:
    """Read a data set with one file changed: it is read, or a documented error says why not."""
    folder, read, files = data
    file.write_bytes(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read(folder)
    except SpmemError:
        pass
    finally:
        file.write_bytes(files[file])
