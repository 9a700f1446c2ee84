"""Memories within a budget: what each policy lets go, and what stays known without it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import spmem
from spmem import Frame, KeyframeConfig, MemoryConfig, RetentionConfig
from spmem.errors import InputError, UnknownNameError
from spmem.registry import SHIPPED, find
from spmem.retention import RetentionCandidates, choose
from spmem.stores.maps.surfels import SurfelMap
from spmem.stores.retention import recency, reservoir, uniform
from spmem.testing.box import BoxRoom

EVERY = KeyframeConfig(novelty=0.0, commit_every=3)


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    room = BoxRoom()
    return room.frames(room.walk(24, width=48, height=36, sweep=6.0), time=0.0)


def held(times: list[float]) -> RetentionCandidates:
    ids = np.arange(len(times), dtype=np.int64) * 3
    return RetentionCandidates(
        ids, np.array(times, np.float64), np.full(len(times), 1000), SurfelMap()
    )


@pytest.mark.parametrize(
    ("where", "policy"), [*(("ram", name) for name in SHIPPED["retention"]), ("disk", "coverage")]
)
def test_no_more_keyframes_than_the_budget(
    policy: str, where: str, tmp_path: Path, frames: list[Frame]
) -> None:
    path = None if where == "ram" else tmp_path / "walk.spmem"
    config = MemoryConfig(keyframes=EVERY, retention=RetentionConfig(8, policy))
    with spmem.open(path, config=config) as memory:
        for frame in frames:
            memory.store(frame)
            assert len(memory.keyframes) <= 8
        assert len(memory.keyframes) >= 7
        seen = memory.retrieve(frames[2].camera[None])
        assert float(seen.coverage[0]) > 0.9  # the surface stays, whoever saw it
        _, observers = memory.geometry.observers(memory.geometry.surfels().ids)
        assert set(observers.tolist()) <= set(memory.keyframes)
        kept = list(memory.keyframes)
    if path is not None:
        with spmem.open(path, mode="r") as again:
            assert list(again.keyframes) == kept
            same = again.retrieve(frames[2].camera[None])
            assert torch.equal(same.projection.mask, seen.projection.mask)


def test_a_budget_in_bytes_is_kept_on_the_disk_too(tmp_path: Path, frames: list[Frame]) -> None:
    path = tmp_path / "walk.spmem"
    config = MemoryConfig(recent=1, keyframes=KeyframeConfig(novelty=0.0, commit_every=12))
    with spmem.open(path, config=config) as memory:
        for frame in frames[:3]:
            memory.store(frame)
        memory.flush()
        one = int(memory._state.bank.sizes().mean())
    grown = {}
    for budget in (None, f"{6 * one} B"):
        with spmem.open(path, mode="w", config=config, budget=budget) as memory:
            for _ in range(2):
                for frame in frames:
                    memory.store(frame.replace(time=None))
            memory.commit("all")
        chunks = [file.stat().st_size for file in (path / "chunks").iterdir()]
        grown[budget] = sum(size for size in chunks if size > 0.5 * one)
        with spmem.open(path, mode="r") as again:
            assert (len(again.keyframes) == 48) == (budget is None)
            assert again.config.retention.budget == budget
    small = grown[f"{6 * one} B"]
    assert small < 0.5 * grown[None]


def test_recency_keeps_the_latest() -> None:
    assert recency(held([4, 1, 3, 2, 0]), 2).tolist() == [12, 3]


def test_uniform_thins_where_it_is_dense() -> None:
    assert uniform(held([0, 1, 1.1, 1.2, 5, 9]), 2).tolist() == [6, 3]
    assert len(uniform(held([0, 1]), 2)) == 2


def test_reservoir_is_a_fair_sample_that_only_shrinks() -> None:
    whole, part = held([0.0] * 400), held([0.0] * 300)
    kept = set(whole.ids) - set(reservoir(whole, 300))
    assert kept & set(part.ids) <= set(part.ids) - set(reservoir(part, 200))
    assert 30 < sum(id < 600 for id in kept) < 70


def test_coverage_drops_what_others_saw(frames: list[Frame]) -> None:
    """Of two views that are the same and one that is alone, one of the two goes."""
    store = SurfelMap()
    for id, frame in enumerate([frames[0], frames[12], frames[0]]):
        store.observe(id, store.fuse(frame).reshape(-1))
    three = RetentionCandidates(np.arange(3), np.arange(3.0), np.full(3, 1000), store)
    assert find("retention", "coverage")(three, 1).tolist() == [0]
    assert set(find("retention", "coverage")(three, 2).tolist()) in ({0, 1}, {0, 2})


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(0, 100, width=32), min_size=1, max_size=40),
    st.integers(1, 30),
    st.sampled_from(["recency", "reservoir", "uniform"]),
)
def test_what_is_chosen_is_enough_and_not_all(times: list[float], budget: int, name: str) -> None:
    some = held(times)
    for one, left in ((budget, budget), (f"{budget} kB", budget)):
        gone = choose(some, one, find("retention", name))
        assert len(np.unique(gone)) == len(gone)
        assert np.isin(gone, some.ids).all()
        assert 1 <= len(times) - len(gone) <= max(left, 1)
        assert len(gone) == 0 or len(times) > left


def test_a_policy_of_ones_own(frames: list[Frame]) -> None:
    with spmem.open(
        config=MemoryConfig(keyframes=EVERY),
        budget=4,
        retention=lambda held, count: held.ids[-count:],
    ) as memory:
        for frame in frames[:10]:
            memory.store(frame)
        assert list(memory.keyframes)[:3] == [0, 1, 2]
    with spmem.open(
        config=MemoryConfig(keyframes=EVERY), budget=4, retention=lambda held, count: held.ids[:0]
    ) as memory:
        for frame in frames[:4]:
            memory.store(frame)
        with pytest.raises(InputError, match="policy"):
            memory.store(frames[4])


@pytest.mark.parametrize("budget", [0, -1, "much", "2 XB", 1.5, True, "0 GB"])
def test_budgets_are_checked(budget: object) -> None:
    with pytest.raises(InputError, match="budget"):
        spmem.open(budget=budget)  # type: ignore[arg-type]


def test_policies_are_found_by_name() -> None:
    with pytest.raises(UnknownNameError, match="coverage"):
        spmem.open(budget=3, retention="covrage")


@pytest.mark.parametrize("where", ["ram", "disk"])
def test_an_id_that_the_budget_drops_at_once_is_not_returned(
    where: str, tmp_path: Path, frames: list[Frame]
) -> None:
    def latest(held: RetentionCandidates, count: int) -> np.ndarray:
        return held.ids[-count:]

    path = None if where == "ram" else tmp_path / "walk.spmem"
    config = MemoryConfig(keyframes=EVERY)
    with spmem.open(path, config=config, budget=3, retention=latest) as memory:
        ids = [memory.store(frame) for frame in frames[:6]]
        assert ids == [0, 1, 2, None, None, None]
        assert list(memory.keyframes) == [0, 1, 2]
        assert memory.remove(2) is None
        assert memory.store(frames[6]) == 6


def test_snapshots_in_ram_stay_what_they_were_through_budgets(frames: list[Frame]) -> None:
    memory = spmem.open(config=MemoryConfig(keyframes=EVERY), budget=4, retention="recency")
    memory.store(frames[0])
    memory.tag("first")
    for n, frame in enumerate(frames[1:12]):
        memory.store(frame)
        memory.commit(str(n))
    ids = [one.id for one in memory.snapshots()]
    assert len(set(ids)) == len(ids)
    with memory.at(tag="first") as first:
        assert list(first.keyframes) == [0]
