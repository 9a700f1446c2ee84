"""Damaged files, many at random: what comes out is what was stored, or an error that spmem documents."""

from __future__ import annotations

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
    assert refused > (0 if count else len(names) // 3)


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


@MANY
@given(at=WHERE, damage=damages())
def test_a_damaged_file_of_a_data_set(
    data: tuple[Path, Callable[[Path], Sized], dict[Path, bytes]],
    at: float,
    damage: Callable[[bytes], bytes],
) -> None:
    folder, read, files = data
    file = list(files)[int(at * len(files))]
    file.write_bytes(damage(files[file]))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read(folder)
    except SpmemError:
        pass
    finally:
        file.write_bytes(files[file])
