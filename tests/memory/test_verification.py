"""Verifying: flaws are found and named; what can be made again is."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import spmem
from spmem import Frame, KeyframeConfig, MemoryConfig, RetrievalConfig, checkpoint
from spmem.cli import app
from spmem.errors import CorruptMemoryError
from spmem.retrieval.covisibility import Covisibility
from spmem.stores.keyframes import ZarrKeyframes
from spmem.stores.surfels import SurfelMap
from spmem.testing.box import BoxRoom
from spmem.verification import flaws

EVERY = MemoryConfig(keyframes=KeyframeConfig(novelty=0.0, commit_every=0))


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    room = BoxRoom()
    return room.frames(room.walk(4, width=64, height=48, sweep=3.0), time=0.0)


@pytest.fixture
def path(tmp_path: Path, frames: list[Frame]) -> Path:
    path = tmp_path / "walk.spmem"
    with spmem.open(path, config=EVERY) as memory:
        for frame in frames:
            memory.store(frame)
        memory.retrieve(frames[0].camera)
    return path


def found(path: Path) -> list[tuple[str, int | None]]:
    bank = ZarrKeyframes.open(path, "r")
    told = [(f.part, f.keyframe) for f in flaws(bank, SurfelMap()) if f is not None]
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
        (checkpoint.GEOMETRY, "posting_keyframe", 77),
        (checkpoint.GEOMETRY, "posting_surfel", -5),
        (checkpoint.VIEWS, "depth", 9.0),
        (checkpoint.VIEWS, "ids", 5),
        (checkpoint.FREE, "looks", -1),
        (checkpoint.INDEX, "slot", 99),
    ],
)
def test_what_can_be_made_again_is_repaired(
    path: Path, frames: list[Frame], group: str, name: str, value: float
) -> None:
    with spmem.open(path, mode="r") as memory:
        before = memory.retrieve(frames[1].camera)
    change(path, group, name, 0, value)
    assert found(path) == [(group, None)]
    assert run("verify", path)[0] == 1
    code, said = run("verify", path, "--repair", "--json")
    assert code == 0
    assert group in said
    assert found(path) == []
    with spmem.open(path, mode="r") as memory:
        after = memory.retrieve(frames[1].camera)
    assert torch.equal(after.projection.mask, before.projection.mask)
    assert [one.id for one in after.keyframes] == [one.id for one in before.keyframes]


def test_damaged_bytes_are_found(path: Path, frames: list[Frame]) -> None:
    """Each file of a chunk in turn: what it damages is named, and nothing else is."""
    hit = set()
    for file in sorted((path / "chunks").iterdir()):
        content = file.read_bytes()
        changed = bytearray(content)
        changed[len(content) // 2] ^= 0x10
        file.write_bytes(changed)
        told = found(path)
        assert len(told) <= 1  # chunks of earlier commits are no part of this one
        hit |= set(told)
        file.write_bytes(content)
    assert hit >= {("keyframe", 0), ("keyframe", 3), (checkpoint.GEOMETRY, None)}
    assert found(path) == []


def test_a_damaged_cache_does_not_keep_a_memory_from_opening(
    path: Path, frames: list[Frame]
) -> None:
    with spmem.open(path, mode="r") as memory:
        before = memory.retrieve(frames[1].camera)
    views = ZarrKeyframes.open(path, "r").read_arrays(checkpoint.VIEWS)
    assert views is not None
    largest = views[0]["depth"].nbytes
    for file in (path / "chunks").iterdir():
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
                if any("'views'" in str(one.message) for one in told):
                    largest = 0
        file.write_bytes(whole)
    assert largest == 0  # one of the files was the views'


def test_the_index_is_kept_and_made_anew_where_it_is_of_other_views(
    path: Path, frames: list[Frame]
) -> None:
    def kept() -> tuple[Covisibility, int] | None:
        bank = ZarrKeyframes.open(path, "r")
        found = checkpoint.restore_index(bank, checkpoint.restore_views(bank), RetrievalConfig())
        bank.close()
        return found

    assert (kept() or (None, 0))[1] == 4
    with spmem.open(path) as memory:
        memory.store(frames[0].moved(frames[1].camera.c2w))
    assert (kept() or (None, 0))[1] == 5
    with spmem.open(path) as memory:
        memory.update_poses({2: frames[3].camera.c2w})
        before = memory.voxel_index()
    assert (kept() or (None, 0))[1] == 5
    assert before is not None
    bank = ZarrKeyframes.open(path)
    bank.write_arrays(checkpoint.INDEX, before[0], before[1] | {"digest": "of others"})
    bank.commit("by other hands")
    bank.close()
    assert kept() is None
    with spmem.open(path, mode="r") as memory:
        again = memory.voxel_index()
    assert again is not None
    assert again[1] == before[1]


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
