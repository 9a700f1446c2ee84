"""Asking a memory: by camera, image, text, time, place, and by several at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import spmem
from spmem import Camera, Frame, SpatialMemory, Where
from spmem.errors import FrameError, InputError, StoreError, UnknownNameError
from spmem.finding import joined
from spmem.integrations.embedding.colour_layout import ColourLayout
from spmem.testing.box import BoxRoom
from spmem.types import Match
from spmem.views import Views

ROOM = BoxRoom()
FRAMES = ROOM.frames(ROOM.walk(8, width=64, height=48, sweep=5.0), time=0.0)
ALL = spmem.MemoryConfig(keyframes=spmem.KeyframeConfig(novelty=0))
NAMES = ("red", "green", "blue")


class Colours:
    """The mean colour as a unit vector; it reads the names of colours, and counts the images that it was shown."""

    dim = 3

    def __init__(self) -> None:
        self.shown = 0

    def __call__(self, rgb: Tensor) -> Tensor:
        self.shown += len(rgb)
        return torch.nn.functional.normalize(rgb.mean((1, 2)) + 1e-3, dim=-1)

    def text(self, texts: Sequence[str]) -> Tensor:
        asked = torch.tensor([[float(name in text) for name in NAMES] for text in texts])
        return torch.nn.functional.normalize(asked + 1e-3, dim=-1)


def filled(path: Path | None = None, **parts: Any) -> SpatialMemory:
    memory = spmem.open(path, config=ALL, **parts)
    for frame in FRAMES:
        memory.store(frame)
    return memory


@pytest.fixture
def memory() -> Iterator[SpatialMemory]:
    with filled() as opened:
        yield opened


def ids(found: list[Match]) -> list[int]:
    return [one.keyframe.id for one in found]


def unread(memory: SpatialMemory) -> list[int]:
    """Counts from now on which keyframes are read."""
    read, seen = memory._state.bank.read, list[int]()

    def counted(id: int) -> Frame:
        seen.append(id)
        return read(id)

    memory._state.bank.read = counted  # type: ignore[method-assign]
    return seen


# -- by one thing -------------------------------------------------------------------------------------


def test_by_camera_the_score_is_the_share_that_was_seen(memory: SpatialMemory) -> None:
    camera = FRAMES[3].camera
    found = memory.find(camera=camera, k=8)
    assert ids(found)[0] == 3
    shares = [one.score for one in found]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] > 0
    told = memory.retrieve(camera, k=8, given=()).explain()
    assert {one.id: one.sees for one in told} == pytest.approx(
        {one.keyframe.id: one.by["camera"] for one in found}, abs=1e-6
    )


def test_cameras_of_a_trajectory_are_asked_together(memory: SpatialMemory) -> None:
    cameras = Camera.stack([FRAMES[0].camera, FRAMES[4].camera])
    assert set(ids(memory.find(camera=cameras, k=2))) == {0, 4}


def test_an_unknown_place_finds_nothing(memory: SpatialMemory) -> None:
    c2w = FRAMES[0].camera.c2w.clone()
    c2w[:3, 3] += 500.0
    away = Camera(FRAMES[0].camera.K, c2w, width=64, height=48)
    assert memory.find(camera=away) == []
    assert memory.find(camera=away, image=FRAMES[0]) == []


@pytest.mark.parametrize("kind", [lambda f: f, lambda f: f.rgb, lambda f: f.rgb_uint8().numpy()])
def test_by_image_the_same_picture_comes_first(
    memory: SpatialMemory, kind: Callable[[Frame], Any]
) -> None:
    found = memory.find(image=kind(FRAMES[5]), k=3)
    assert ids(found)[0] == 5
    assert found[0].score == found[0].by["image"] == pytest.approx(1, abs=1e-3)
    assert (found[0].keyframe.frame.rgb_float() - FRAMES[5].rgb_float()).abs().max() < 0.1
    assert len(found) == 3


def test_by_text_the_words_decide() -> None:
    camera = Camera.from_fov(1.0, torch.eye(4), width=16, height=12)
    with spmem.open(config=ALL, embedder=Colours()) as memory:
        for i in range(3):
            rgb = torch.full((12, 16, 3), 0.1)
            rgb[..., i] = 0.9
            memory.store(Frame(rgb, torch.full((12, 16), 2.0), camera))
        found = memory.find(text="a green wall", k=2)
        assert ids(found)[0] == 1
        assert found[0].by == {"text": found[0].score}
        both = memory.find(text="a green wall", image=memory.keyframes[1].frame)
        assert ids(both)[0] == 1
        assert both[0].by.keys() == {"image", "text"}


def test_by_where_alone_the_latest_come_first(memory: SpatialMemory) -> None:
    found = memory.find(where=Where(time=(2, 5), exclude=(4,)))
    assert ids(found) == [5, 3, 2]
    assert [one.score for one in found] == [5.0, 3.0, 2.0]
    point = FRAMES[2].camera.unproject(FRAMES[2].depth)[24, 32].tolist()
    around = (tuple(v - 0.1 for v in point), tuple(v + 0.1 for v in point))
    there = memory.find(where=Where(region=around))
    assert 2 in ids(there)
    assert len(there) < len(FRAMES)


# -- by several ---------------------------------------------------------------------------------------


def test_all_that_is_asked_must_hold(memory: SpatialMemory) -> None:
    seen = set(ids(memory.find(camera=FRAMES[3].camera)))
    found = memory.find(camera=FRAMES[3].camera, image=FRAMES[6], where=Where(time=(1, 4)))
    assert found
    assert set(ids(found)) == seen & {1, 2, 3, 4}
    for one in found:
        assert one.by.keys() == {"camera", "image"}
        assert one.by["camera"] > 0


def test_what_all_agree_on_comes_first(memory: SpatialMemory) -> None:
    found = memory.find(camera=FRAMES[3].camera, image=FRAMES[3])
    assert ids(found)[0] == 3
    assert found[0].score == pytest.approx(2 / 61)


ROWS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12)


@given(ROWS)
def test_a_keyframe_better_in_all_is_better_in_sum(rows: list[tuple[int, int]]) -> None:
    a, b = (np.array(column, np.float64) for column in zip(*rows, strict=True))
    total = joined({"image": a, "text": b}, np.arange(len(rows), dtype=np.float64))
    for i in range(len(rows)):
        assert (total[i] > total[(a < a[i]) & (b < b[i])]).all()
    assert joined({"image": a}, np.zeros(len(rows))).tolist() == a.tolist()


# -- descriptors --------------------------------------------------------------------------------------


def test_an_embedder_given_at_opening_spares_reading() -> None:
    embedder = Colours()
    with filled(embedder=embedder) as memory:
        read, before = unread(memory), embedder.shown
        memory.find(image=FRAMES[1])
        assert (read, embedder.shown - before) == ([], 1)


def test_without_one_each_keyframe_is_read_once(memory: SpatialMemory) -> None:
    read = unread(memory)
    memory.find(camera=FRAMES[1].camera, where=Where(time=(0, 3)))
    assert read == []
    memory.find(image=FRAMES[1])
    memory.find(image=FRAMES[2])
    assert read == list(range(8))
    memory.store(FRAMES[0].replace(time=20.0))
    assert 8 in ids(memory.find(image=FRAMES[0], k=2))
    assert read == list(range(9))


def test_descriptors_are_kept_and_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "room.spmem"
    with filled(path) as memory:
        before = memory.find(image=FRAMES[4])
    with spmem.open(path, mode="r") as memory:
        read = unread(memory)
        after = memory.find(image=FRAMES[4])
        assert read == []
        assert [(one.keyframe.id, one.score) for one in after] == [
            (one.keyframe.id, one.score) for one in before
        ]
    with spmem.open(path) as memory:  # nobody asks, and what was kept stays
        memory.store(FRAMES[0].replace(time=30.0))
    with spmem.open(path, mode="r") as memory:
        read = unread(memory)
        memory.find(image=FRAMES[4])
        assert read == [8]


class Tilted(ColourLayout):
    """Of one class with itself, and different by what it was made with, as networks are by their weights."""

    def __init__(self, tilt: int) -> None:
        self.tilt = tilt

    def __call__(self, rgb: Tensor) -> Tensor:
        return super().__call__(rgb).roll(self.tilt, -1)


@pytest.mark.parametrize(("tilt", "again"), [(0, False), (7, True)])
def test_another_embedder_describes_anew(tmp_path: Path, tilt: int, again: bool) -> None:
    path = tmp_path / "room.spmem"
    filled(path, embedder=Tilted(0)).close()
    with spmem.open(path, mode="r", embedder=Tilted(tilt)) as memory:
        read = unread(memory)
        assert ids(memory.find(image=FRAMES[4], k=1)) == [4]
        assert bool(read) == again


def test_another_length_describes_anew_too(tmp_path: Path) -> None:
    path = tmp_path / "room.spmem"
    filled(path, embedder="colour-layout").close()
    with spmem.open(path, embedder=Colours()) as memory:
        assert len(memory.find(text="red")) == 8


def test_keyframes_that_are_gone_are_not_found(memory: SpatialMemory) -> None:
    memory.find(image=FRAMES[4])
    memory.views.remove(np.array([4]))
    asked: list[dict[str, Any]] = [
        {"image": FRAMES[4]},
        {"camera": FRAMES[4].camera},
        {"where": Where()},
        {"camera": FRAMES[4].camera, "image": FRAMES[4]},
    ]
    for one in asked:
        assert 4 not in ids(memory.find(**one, k=20))


def test_images_of_several_sizes_are_described() -> None:
    with spmem.open(config=ALL) as memory:
        for i, (width, height) in enumerate([(64, 48), (80, 60), (80, 60), (64, 48)]):
            memory.store(ROOM.frames(ROOM.walk(4, width=width, height=height, sweep=5.0))[i])
        small = ROOM.frames(ROOM.walk(4, width=64, height=48, sweep=5.0))
        assert [ids(memory.find(image=frame, k=1)) for frame in small] == [[0], [1], [2], [3]]


# -- what cannot be asked -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        ({}, InputError, "asked nothing.*camera=Camera.*image=.*text=.*where="),
        ({"text": "red"}, InputError, "ColourLayout describes images only.*siglip"),
        ({"text": " "}, InputError, "text is what to look for"),
        ({"camera": torch.eye(4)}, InputError, "find takes a Camera"),
        ({"where": (0, 3)}, InputError, "where is a spmem.Where"),
        ({"where": Where(), "k": -1}, InputError, "k must be an integer"),
        ({"image": torch.zeros(3, 48, 64)}, FrameError, "channels first"),
        ({"image": torch.zeros(0, 64, 3)}, FrameError, "no pixels"),
    ],
)
def test_what_cannot_be_asked(
    memory: SpatialMemory, asked: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        memory.find(**asked)


def test_an_empty_memory_finds_nothing() -> None:
    with spmem.open() as memory:
        assert memory.find(image=FRAMES[0]) == []
        assert memory.find(camera=FRAMES[0].camera, image=FRAMES[0]) == []
        assert memory.find(where=Where()) == []


def test_a_closed_memory_is_not_asked(memory: SpatialMemory) -> None:
    memory.close()
    with pytest.raises(StoreError, match="closed"):
        memory.find(where=Where())


def test_an_embedder_goes_by_name() -> None:
    with pytest.raises(UnknownNameError, match=r"no embedder is called 'colour'.*siglip"):
        spmem.open(embedder="colour")


def test_a_large_bank_finds_as_a_small_one_does(memory: SpatialMemory) -> None:
    from spmem.query import Query
    from spmem.retrieval.rules.covisibility import Covisibility

    camera = FRAMES[3].camera[None]
    query = Query(camera, memory.retrieve(camera).projection, Views(), np.array([3]))
    config = spmem.RetrievalConfig(candidates=2)
    small, large = Covisibility(config), Covisibility(config, scan=1)
    for rule in (small, large):
        rule.observe(memory.views, slice(0, 8))
    whole, some = small.rank(query, memory.views, 8), large.rank(query, memory.views, 8)
    assert some.ids.tolist() == whole.ids.tolist()
    assert 3 not in whole.ids
    assert whole.scores.tolist() == some.scores.tolist()
    assert large.rank(query, memory.views, 0).ids.tolist() == []
