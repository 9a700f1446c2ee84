"""What survives closing: the map, views, edits, settings; a crash, and another process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import spmem
from spmem import Camera, Frame, KeyframeConfig, MemoryConfig, Retrieval, SpatialMemory
from spmem.errors import InputError, ReadOnlyError, StoreError
from spmem.testing.box import BoxRoom

WIDTH, HEIGHT = 80, 60
ROOM = BoxRoom()


def walk(n: int = 24) -> list[Frame]:
    """A turn around in the room."""
    return ROOM.frames(ROOM.walk(n, width=WIDTH, height=HEIGHT, sweep=6.0), time=0.0)


def fill(memory: SpatialMemory, frames: list[Frame]) -> None:
    for frame in frames:
        memory.store(frame)


def same(a: Retrieval, b: Retrieval) -> bool:
    return (
        [k.id for k in a.keyframes] == [k.id for k in b.keyframes]
        and torch.equal(a.scores, b.scores)
        and torch.equal(a.projection.rgb, b.projection.rgb)
        and torch.equal(a.projection.surfel_ids, b.projection.surfel_ids)
        and a.explain() == b.explain()
        and len(a.recent) == len(b.recent)
        and all(torch.equal(x.rgb, y.rgb) for x, y in zip(a.recent, b.recent, strict=True))
    )


def test_reopened_memory_answers_the_same(tmp_path: Path) -> None:
    frames = walk()
    cameras = Camera.stack([frames[i].camera for i in (2, 3, 9)])
    with spmem.open(tmp_path / "m.spmem") as memory:
        fill(memory, frames)
        before = memory.retrieve(cameras)
        before.explain()
    with spmem.open(tmp_path / "m.spmem", mode="r") as memory:
        again = memory.retrieve(cameras)
        assert same(before, again)
        for keyframe, frame in zip(again.keyframes, again.frames(), strict=True):
            assert torch.equal(frame.rgb, keyframe.frame.rgb)
            assert torch.equal(frame.camera.c2w, keyframe.camera.c2w)
        with pytest.raises(ReadOnlyError, match='mode="a"'):
            memory.store(frames[0])
        with pytest.raises(ReadOnlyError):
            memory.commit()
    with spmem.open(tmp_path / "m.spmem") as memory:  # and goes on
        assert memory.store(frames[5].replace(time=99.0)) is None
        assert memory.recent[-1].time == 99.0


def test_a_new_process_answers_the_same_and_says_nothing_else(tmp_path: Path) -> None:
    frames = walk(12)
    with spmem.open(tmp_path / "m.spmem") as memory:
        fill(memory, frames)
        found = memory.retrieve(frames[4].camera)
    script = (
        "import spmem, sys; from spmem.testing.box import BoxRoom; r = BoxRoom()\n"
        f"camera = r.walk(12, width={WIDTH}, height={HEIGHT}, sweep=6.0)[4]\n"
        'f = spmem.open(sys.argv[1], mode="r").retrieve(camera)\n'
        "print([k.id for k in f.keyframes], f.scores.tolist(), float(f.projection.rgb.sum()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "m.spmem")],
        capture_output=True,
        text=True,
        env=dict(os.environ),
        check=True,
    )
    ids = [k.id for k in found.keyframes]
    assert done.stderr == ""
    assert (
        done.stdout.strip() == f"{ids} {found.scores.tolist()} {float(found.projection.rgb.sum())}"
    )


def test_views_are_a_cache(tmp_path: Path) -> None:
    """Without the stored views (and index) the same keyframes come back."""
    from spmem.stores.keyframes.zarr import ZarrKeyframes

    frames = walk()
    with spmem.open(tmp_path / "m.spmem") as memory:
        fill(memory, frames)
        before = memory.retrieve(frames[3].camera)
        before.explain()
    bank = ZarrKeyframes.open(tmp_path / "m.spmem")
    stored = bank.read_arrays("views")
    assert stored is not None
    bank.write_arrays("views", {name: array[:0] for name, array in stored[0].items()}, {})
    bank.commit("no views")
    bank.close()
    with spmem.open(tmp_path / "m.spmem", mode="r") as memory:
        assert same(before, memory.retrieve(frames[3].camera))


def test_a_crash_keeps_what_was_committed(tmp_path: Path) -> None:
    """Keyframes commit themselves; the map is made again from those that it does not hold yet."""
    config = MemoryConfig(keyframes=KeyframeConfig(novelty=0.0, commit_every=4))
    memory = spmem.open(tmp_path / "m.spmem", config=config)
    frames = walk(10)
    fill(memory, frames)
    memory.flush()
    del memory  # as a killed process would: neither closed nor committed
    with spmem.open(tmp_path / "m.spmem") as memory:
        assert memory.config == config
        assert len(memory.keyframes) == 8
        assert memory.retrieve(frames[6].camera).coverage[0] > 0.9
        assert memory.keyframes[7].frame.time == 7.0


def test_snapshots_and_double_close(tmp_path: Path) -> None:
    memory = spmem.open(tmp_path / "m.spmem")
    memory.store(walk(1)[0])
    snapshot = memory.commit("after one")
    assert memory.snapshots()[0].id == snapshot
    assert memory.snapshots()[0].message == "after one"
    assert memory.commit("nothing new") is None
    memory.close()
    memory.close()
    with pytest.raises(StoreError, match="closed"):
        memory.store(walk(1)[0])


def test_edits_of_the_map_are_kept(tmp_path: Path) -> None:
    with spmem.open(tmp_path / "m.spmem") as memory:
        memory.store(walk(1)[0])
    with spmem.open(tmp_path / "m.spmem") as memory:
        ids = memory.geometry.surfels().ids
        memory.remove_surfels(ids[::2])
    with spmem.open(tmp_path / "m.spmem", mode="r") as memory:
        assert torch.equal(memory.geometry.surfels().ids, ids[1::2])


def test_the_stored_quality_goes_on(tmp_path: Path) -> None:
    config = MemoryConfig(keyframes=KeyframeConfig(quality=10, novelty=0.0))
    frames = walk(3)
    with spmem.open(tmp_path / "m.spmem", config=config) as memory:
        fill(memory, frames[:1])
    with spmem.open(tmp_path / "m.spmem") as memory:
        fill(memory, [frames[0].replace(time=5.0)])
        first, second = (memory.keyframes[i].frame.rgb for i in (0, 1))
    assert torch.equal(first, second)


def test_a_map_is_not_reopened_under_another_fusion(tmp_path: Path) -> None:
    with spmem.open(tmp_path / "m.spmem") as memory:
        memory.store(walk(1)[0])
    with pytest.raises(InputError, match="was built with"):
        spmem.open(tmp_path / "m.spmem", config=MemoryConfig(geometry="points"))
    other = MemoryConfig(retrieval=spmem.RetrievalConfig(method="recent"))
    with spmem.open(tmp_path / "m.spmem", config=other) as memory:
        assert memory.retrieve(walk(1)[0].camera).method == "recent"


@pytest.mark.parametrize("config", [None, MemoryConfig(recent=7)])
def test_a_memory_closed_empty_keeps_its_configuration(
    tmp_path: Path, config: MemoryConfig | None
) -> None:
    spmem.open(tmp_path / "m.spmem", config=config).close()
    with spmem.open(tmp_path / "m.spmem") as memory:
        assert memory.config == (config or MemoryConfig())
        assert memory.commit() is None  # nothing is new any more


def test_a_new_memory_commits_and_reclaims(tmp_path: Path) -> None:
    config = MemoryConfig(recent=7)
    for path in (None, tmp_path / "m.spmem"):
        with spmem.open(path, config=config) as memory:
            assert memory.commit("empty") is not None
            assert [one.keyframes for one in memory.snapshots()] == [0]
            assert memory.commit() is None
    with spmem.open(tmp_path / "n.spmem", config=config) as memory:
        assert memory.reclaim() >= 0
        memory.store(walk(1)[0])
        assert memory.reclaim(keep=1) > 0
    with spmem.open(tmp_path / "n.spmem") as memory:
        assert memory.config == config
        assert len(memory.keyframes) == 1


def test_another_configuration_is_kept_though_nothing_is_stored(tmp_path: Path) -> None:
    with spmem.open(tmp_path / "m.spmem") as memory:
        memory.store(walk(1)[0])
    other = MemoryConfig(retrieval=spmem.RetrievalConfig(method="recent"))
    spmem.open(tmp_path / "m.spmem", config=other).close()
    with spmem.open(tmp_path / "m.spmem", mode="r") as memory:
        assert memory.config == other


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_working_memory_keeps_all_that_frames_hold(tmp_path: Path, dtype: torch.dtype) -> None:
    """Confidence, features and latent, after closing and on a fork."""
    draw = torch.Generator().manual_seed(0)
    latent = torch.randn(4, 3, 5, generator=draw).to(dtype)
    latent[0, 0, 0] = float("nan")  # nobody but the generator reads it
    frames = [
        frame.replace(
            confidence=torch.rand(HEIGHT, WIDTH, generator=draw),
            features=torch.rand(HEIGHT, WIDTH, 2, generator=draw),
            latent=latent,
        )
        for frame in walk(3)
    ]
    path = tmp_path / "m.spmem"
    with spmem.open(path, config=MemoryConfig(recent=2)) as memory:
        fill(memory, frames)
        with memory.fork("other") as fork:
            forked = fork.recent
    with spmem.open(path, mode="r") as memory:
        for kept in (forked, memory.recent):
            assert len(kept) == 2
            for one, frame in zip(kept, frames[1:], strict=True):
                assert one.tensors().keys() == frame.tensors().keys()
                for name, part in frame.tensors().items():
                    mine = one.tensors()[name]
                    assert mine.dtype == part.dtype
                    assert torch.equal(mine.nan_to_num(), part.nan_to_num())
                assert one.time == frame.time
