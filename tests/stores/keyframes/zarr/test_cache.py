"""The keyframes that are kept in RAM: within a budget, and never other than what the bank holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from spmem.config import KeyframeConfig
from spmem.errors import CorruptMemoryError, InputError, KeyframeNotFoundError
from spmem.stores.keyframes.zarr import ZarrKeyframes
from spmem.testing.keyframe_store import KeyframeStoreTests
from spmem.testing.sample_frames import sample_frame

BYTES = 64 * 48 * (3 + 4)
"""Of one sample frame."""
check_same = KeyframeStoreTests().check_same


@pytest.fixture
def bank(tmp_path: Path) -> Callable[..., ZarrKeyframes]:
    """Opens a bank of four committed frames with some cache."""

    def opened(cache: str | None) -> ZarrKeyframes:
        path = tmp_path / "walk.spmem"
        store = ZarrKeyframes.open(path, config=KeyframeConfig(cache=cache))
        for number in range(4 - len(store)):
            store.append(sample_frame(number))
        store.commit("four")
        return store

    return opened


def lose_chunks(tmp_path: Path) -> None:
    """Leave nothing to read but what is in RAM."""
    for file in (tmp_path / "walk.spmem" / "chunks").iterdir():
        file.unlink()


def kept(store: ZarrKeyframes) -> list[int]:
    """The keyframes that can be read still."""
    found = []
    for id in store.ids().tolist():
        try:
            check_same(store.read(id), sample_frame(id))
            found.append(id)
        except CorruptMemoryError:
            pass
    return found


def test_what_is_read_twice_is_kept(bank: Callable[..., ZarrKeyframes], tmp_path: Path) -> None:
    store = bank("1 MB")
    store.read_many([0, 1, 1, 3])
    store.read_many([0, 2])
    store.read(0).rgb.zero_()  # a copy
    lose_chunks(tmp_path)
    assert kept(store) == [0, 1]


@pytest.mark.parametrize("cache", [None, f"{BYTES - 1} B"])
def test_nothing_is_kept_without_room(
    bank: Callable[..., ZarrKeyframes], tmp_path: Path, cache: str | None
) -> None:
    store = bank(cache)
    for _ in range(3):
        store.read_many([0, 1])
    lose_chunks(tmp_path)
    assert kept(store) == []


def test_the_one_not_read_for_longest_goes(
    bank: Callable[..., ZarrKeyframes], tmp_path: Path
) -> None:
    store = bank(f"{2 * BYTES} B")
    for id in (0, 0, 1, 1, 0, 2, 2):
        store.read(id)
    lose_chunks(tmp_path)
    assert kept(store) == [0, 2]


def test_corrections_and_history_are_seen(bank: Callable[..., ZarrKeyframes]) -> None:
    store = bank("1 MB")
    for _ in range(2):
        store.read_many([0, 1, 2, 3])
    first = store.snapshots()[0].id
    moved = sample_frame(9).camera.c2w
    store.move(np.array([1]), moved.numpy()[None])
    assert torch.equal(store.read(1).camera.c2w, moved)
    store.remove(np.array([3]))
    with pytest.raises(KeyframeNotFoundError):
        store.read(3)
    check_same(store.at(first).read(1), sample_frame(1))
    fork = store.fork("left")
    assert torch.equal(fork.read(1).camera.c2w, moved)
    store.rollback(first)
    store.remove(np.array([3]))
    other = sample_frame(20)
    id = store.append(other)
    store.commit("another")
    for _ in range(3):
        check_same(store.read(1), sample_frame(1))
        check_same(store.read(id), other)
    store.rollback(first)
    again = store.append(sample_frame(21))
    assert again == id  # the branch never had it
    check_same(store.read(again), sample_frame(21))
    fork.close()


@pytest.mark.parametrize("cache", ["", "many", "-1 MB", "1.2.3 kB", "0"])
def test_sizes_that_are_none(cache: str) -> None:
    with pytest.raises(InputError, match=r"keyframes\.cache.*'2 GB'"):
        KeyframeConfig(cache=cache)
