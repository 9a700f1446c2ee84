"""Verifying: flaws are found and named; what can be made again is."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import spmem
from spmem import Frame, KeyframeConfig, MemoryConfig
from spmem.cli import app
from spmem.errors import CorruptMemoryError
from spmem.parts.cache import digest
from spmem.stores.keyframes.zarr import ZarrKeyframes
from spmem.testing.box import BoxRoom
from spmem.verification import flaws

EVERY = MemoryConfig(recent=1, keyframes=KeyframeConfig(novelty=0.0, commit_every=0))

INDEX = "rule.covisibility"
"""The group of the default rule's index."""


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    room = BoxRoom()
    return room.frames(room.walk(4, width=64, height=48, sweep=3.0), time=0.0)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, frames: list[Frame]) -> Path:
    path = tmp_path_factory.mktemp("whole") / "walk.spmem"
    with spmem.open(path, config=EVERY) as memory:
        for frame in frames:
            memory.store(frame)
        memory.retrieve(frames[0].camera)
    return path


@pytest.fixture
def path(tmp_path: Path, written: Path) -> Path:
    """A copy, to be damaged."""
    return shutil.copytree(written, tmp_path / "walk.spmem")


def found(path: Path) -> list[tuple[str, int | None]]:
    bank = ZarrKeyframes.open(path, "r")
    told = [(f.part, f.keyframe) for f in flaws(bank) if f is not None]
    bank.close()
    return told


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.stdout


def change(path: Path, group: str, name: str, at: int, value: float) -> None:
    bank = ZarrKeyframes.open(path)
    stored = bank.read_arrays(group)
    assert stored is not None
    stored[0][name][at] = value
    bank.write_arrays(group, *stored)
    bank.commit("changed by other hands")
    bank.close()


def test_a_whole_memory_has_no_flaws(path: Path) -> None:
    assert found(path) == []
    assert run("verify", path)[0] == 0


@pytest.mark.parametrize(
    ("group", "name", "value"),
    [
        ("geometry", "posting_keyframe", 77),
        ("geometry", "posting_surfel", -5),
        ("views", "depth", 9.0),
        ("views", "ids", 5),
        ("free", "looks", -1),
        (INDEX, "slot", 99),
    ],
)
def test_what_does_not_fit_is_named(path: Path, group: str, name: str, value: float) -> None:
    change(path, group, name, 0, value)
    assert found(path) == [(group, None)]


def test_what_can_be_made_again_is_repaired(path: Path, frames: list[Frame]) -> None:
    with spmem.open(path, mode="r") as memory:
        before = memory.retrieve(frames[1].camera)
    change(path, "geometry", "posting_keyframe", 0, 77)
    change(path, "views", "ids", 0, 5)
    change(path, "free", "looks", 0, -1)
    change(path, INDEX, "slot", 0, 99)
    assert run("verify", path)[0] == 1
    code, said = run("verify", path, "--repair", "--json")
    assert code == 0
    for group in ("geometry", "views", "free", INDEX):
        assert group in said
    assert found(path) == []
    with spmem.open(path, mode="r") as memory:
        after = memory.retrieve(frames[1].camera)
    assert torch.equal(after.projection.mask, before.projection.mask)
    assert [one.id for one in after.keyframes] == [one.id for one in before.keyframes]


def largest(path: Path, count: int | None) -> list[Path]:
    """Of the files of chunks so many, or all."""
    files = sorted((path / "chunks").iterdir(), key=lambda file: -file.stat().st_size)
    return files[:count]


SOME_OR_ALL = pytest.mark.parametrize("count", [16, pytest.param(None, marks=pytest.mark.slow)])


@SOME_OR_ALL
def test_damaged_bytes_are_found(path: Path, count: int | None) -> None:
    """Each file of a chunk in turn: what it damages is named, and nothing else is."""
    hit = set()
    for file in largest(path, count):
        content = file.read_bytes()
        changed = bytearray(content)
        changed[len(content) // 2] ^= 0x10
        file.write_bytes(changed)
        told = found(path)
        assert len(told) <= 1  # chunks of earlier commits are no part of this one
        hit |= set(told)
        file.write_bytes(content)
    assert hit >= {("keyframe", 0), ("keyframe", 3), ("geometry", None)}
    assert found(path) == []


@SOME_OR_ALL
def test_a_damaged_cache_does_not_keep_a_memory_from_opening(
    path: Path, frames: list[Frame], count: int | None
) -> None:
    with spmem.open(path, mode="r") as memory:
        before = memory.retrieve(frames[1].camera)
    made_anew = set()
    for file in largest(path, count):
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 0x10
        whole = file.read_bytes()
        file.write_bytes(content)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try:
                with spmem.open(path, mode="r") as memory:
                    after = memory.retrieve(frames[1].camera)
            except CorruptMemoryError:
                pass
            else:
                assert torch.equal(after.projection.mask, before.projection.mask)
                assert np.array_equal(after.scores, before.scores)
                words = "".join(str(one.message) for one in told)
                made_anew |= {part for part in ("views", "free", INDEX) if f"'{part}'" in words}
        file.write_bytes(whole)
    assert made_anew >= {"views", INDEX}


def test_the_index_is_kept_and_made_anew_where_it_is_of_other_views(
    path: Path, frames: list[Frame]
) -> None:
    def kept() -> tuple[dict[str, np.ndarray], dict[str, object]]:
        bank = ZarrKeyframes.open(path, "r")
        found = bank.read_arrays(INDEX)
        bank.close()
        assert found is not None
        return found

    def digest_of(memory: spmem.SpatialMemory) -> object:
        return digest(memory.views, len(memory.views))

    assert kept()[1]["views"] == 4
    with spmem.open(path) as memory:
        memory.store(frames[0].moved(frames[1].camera.c2w))
    assert kept()[1]["views"] == 5
    with spmem.open(path) as memory:
        memory.update_poses({2: frames[3].camera.c2w})
        now = digest_of(memory)
    assert kept()[1] == {"views": 5, "digest": now}
    arrays, attributes = kept()
    bank = ZarrKeyframes.open(path)
    bank.write_arrays(INDEX, arrays, attributes | {"digest": "of others"})
    bank.commit("by other hands")
    bank.close()
    with spmem.open(path) as memory:
        memory.tag("again")
        memory.store(frames[2])
    made = kept()
    assert made[1]["views"] == 6
    assert made[1]["digest"] != "of others"
    for name, array in arrays.items():
        assert len(made[0][name]) >= len(array)


def test_rebuild_and_history_are_commands(path: Path) -> None:
    code, said = run("rebuild", path, "--json")
    assert code == 0
    assert '"keyframes": 4' in said
    with spmem.open(path) as memory:
        memory.tag("before")
        memory.fork("left").close()
    code, said = run("history", path)
    assert code == 0
    for word in ("before", "left", "main", "closed"):
        assert word in said
    assert run("history", path, "--branch", "left", "--json")[0] == 0
    assert run("history", path, "--branch", "right")[0] == 1


def test_what_a_segmenter_or_a_rollout_wrote_is_whole(tmp_path: Path, frames: list[Frame]) -> None:
    """Pixels that are not believed are no part of a keyframe's view; that is no flaw."""
    path, camera = tmp_path / "doubted.spmem", frames[0].camera
    doubt = torch.ones(camera.height, camera.width)
    doubt[10:30, 20:40] = 0.0
    with spmem.open(path, config=EVERY) as memory:
        for frame in frames:
            memory.store(frame.replace(confidence=doubt))
    assert found(path) == []
    assert run("verify", path)[0] == 0


@pytest.mark.parametrize(("name", "value"), [("depth_0", -1.0), ("K_0", np.nan), ("rgb_0", np.nan)])
def test_a_damaged_working_memory_is_dropped(
    path: Path, frames: list[Frame], name: str, value: float
) -> None:
    with spmem.open(path, mode="r") as memory:
        before = memory.retrieve(frames[1].camera)
    change(path, "recent", name, 0, value)
    with pytest.raises(CorruptMemoryError, match="verify --repair"):
        spmem.open(path)
    assert found(path) == [("recent", None)]
    assert run("verify", path, "--repair")[0] == 0
    assert found(path) == []
    with spmem.open(path) as memory:
        assert memory.recent == ()
        after = memory.retrieve(frames[1].camera, given=())
        assert torch.equal(after.projection.rgb, before.projection.rgb)
        memory.store(frames[0].replace(time=50.0))
        assert [frame.time for frame in memory.recent] == [50.0]


def test_repairing_commits_once_and_keeps_what_is_not_damaged(path: Path) -> None:
    with spmem.open(path, mode="r") as memory:
        commits, recent = len(memory.snapshots()), memory.recent
    change(path, "free", "looks", 0, -1)
    assert run("verify", path, "--repair")[0] == 0
    with spmem.open(path, mode="r") as memory:
        assert len(memory.snapshots()) == commits + 2  # the damage, and the repair
        assert [frame.time for frame in memory.recent] == [frame.time for frame in recent]


def test_a_damaged_keyframe_is_named_and_nothing_is_repaired_at_its_cost(path: Path) -> None:
    """What cannot be made again from whole keyframes stays as it is."""
    bank = ZarrKeyframes.open(path)
    damaged = [flaw for flaw in flaws(bank) if flaw is not None]
    assert damaged == []
    bank.close()
    change(path, "views", "ids", 0, 5)
    for file in largest(path, None):
        content = bytearray(file.read_bytes())
        whole = bytes(content)
        content[len(content) // 2] ^= 0x10
        file.write_bytes(content)
        if ("keyframe", 0) in found(path):
            break
        file.write_bytes(whole)
    code, _ = run("verify", path, "--repair")
    assert code == 1
    assert set(found(path)) == {("keyframe", 0), ("views", None)}
