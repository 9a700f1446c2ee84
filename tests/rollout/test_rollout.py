"""The autoregressive loop, end to end with the simplest generator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import spmem
from spmem.camera import Camera
from spmem.errors import FrameError, InputError, UnknownNameError
from spmem.rollout import confident_only_in_new, rollout
from spmem.testing.box import BoxRoom
from spmem.testing.projection_generator import ProjectionGenerator
from spmem.testing.recorder import Recorder
from spmem.testing.room_memory import RoomMemory
from spmem.types import Projection

WIDTH, HEIGHT = 64, 48


@pytest.fixture
def room() -> BoxRoom:
    return BoxRoom()


@pytest.fixture
def cameras(room: BoxRoom) -> Camera:
    return room.walk(10, width=WIDTH, height=HEIGHT)


class Altered(ProjectionGenerator):
    """Returns something else than the frames."""

    def __init__(self, made: Any) -> None:
        self.made = made

    def generate(self, conditioning: Projection, cameras: Camera, *, seed: int = 0) -> Tensor:
        altered: Tensor = self.made(super().generate(conditioning, cameras, seed=seed))
        return altered


def test_every_camera_gets_its_frame_in_order(room: BoxRoom, cameras: Camera) -> None:
    memory = RoomMemory(room)
    chunks = list(rollout(ProjectionGenerator(), memory, cameras, chunk=4))
    assert [len(chunk.frames) for chunk in chunks] == [4, 4, 2]
    frames = [frame for chunk in chunks for frame in chunk.frames]
    truth = room.render(cameras)
    for i, frame in enumerate(frames):
        assert torch.equal(frame.camera.c2w, cameras[i].c2w)
        assert torch.allclose(frame.rgb, truth.rgb[i])
        assert frame.depth is not None
        assert torch.allclose(frame.depth, truth.depth[i])
    assert memory.stored == frames
    assert [id for chunk in chunks for id in chunk.keyframes] == list(range(10))
    assert chunks[0].rgb.shape == (4, HEIGHT, WIDTH, 3)


def test_chunks_are_made_when_asked_for(room: BoxRoom, cameras: Camera) -> None:
    memory = RoomMemory(room)
    made = rollout(ProjectionGenerator(), memory, cameras, chunk=4)
    assert not memory.stored
    next(made)
    assert len(memory.stored) == 4


def test_each_chunk_is_conditioned_on_what_the_ones_before_left(
    room: BoxRoom, cameras: Camera
) -> None:
    generator = Recorder(ProjectionGenerator())
    list(rollout(generator, RoomMemory(room), cameras, prompt="dusk", chunk=4, seed=5, k=6))
    assert [len(context.keyframes) for context in generator.contexts] == [0, 4, 6]
    assert [call.prompt for call in generator.calls] == ["dusk"] * 3
    assert [call.given for call in generator.calls] == [{"seed": 5}, {"seed": 9}, {"seed": 13}]


def test_the_same_seed_gives_the_same_video(room: BoxRoom, cameras: Camera) -> None:
    videos = [
        torch.cat(
            [
                chunk.rgb
                for chunk in rollout(
                    ProjectionGenerator(), RoomMemory(room, unknown=0.2), cameras, seed=seed
                )
            ]
        )
        for seed in (1, 1, 2)
    ]
    assert torch.equal(videos[0], videos[1])
    assert not torch.equal(videos[0], videos[2])


def test_a_depth_estimator_of_your_own_lifts_the_frames(room: BoxRoom, cameras: Camera) -> None:
    def flat(rgb: Tensor, cameras: Camera, known: Projection | None = None) -> Tensor:
        return torch.full(rgb.shape[:-1], 2.5)

    (chunk,) = rollout(
        ProjectionGenerator(), RoomMemory(room, unknown=1.0), cameras[:3], depth=flat
    )
    depths = [frame.depth for frame in chunk.frames]
    assert all(depth is not None and bool((depth == 2.5).all()) for depth in depths)


def test_gradients_of_the_generator_stay_out_of_memory(room: BoxRoom, cameras: Camera) -> None:
    gain = torch.ones(1, requires_grad=True)
    (chunk,) = rollout(Altered(lambda rgb: rgb * gain), RoomMemory(room), cameras[:2], k=0)
    assert not chunk.rgb.requires_grad


def test_a_memory_that_knows_nothing_is_said(room: BoxRoom, cameras: Camera) -> None:
    memory = RoomMemory(room, unknown=1.0)
    with pytest.raises(InputError, match="store a frame with depth"):
        next(rollout(ProjectionGenerator(), memory, cameras))
    assert not memory.stored


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda rgb: rgb.movedim(-1, 1), r"returned \[8, 3, 48, 64\].*move the channels last"),
        (lambda rgb: rgb[:2], r"returned \[2, 48, 64, 3\], wanted \[8, 48, 64, 3\]"),
        (lambda rgb: (rgb * 255).byte(), "torch.uint8"),
        (lambda rgb: rgb.numpy(), "returned ndarray"),
        (lambda rgb: rgb * 255, r"value_range=\(0, 255\)"),
        (lambda rgb: rgb * 2 - 1, r"or \(-1, 1\)"),
        (lambda rgb: rgb * torch.nan, "nan"),
    ],
)
def test_a_generator_that_returns_something_else_is_told(
    room: BoxRoom, cameras: Camera, made: Any, words: str
) -> None:
    memory = RoomMemory(room)
    with pytest.raises(FrameError, match=words):
        next(rollout(Altered(made), memory, cameras))
    assert not memory.stored


def test_a_depth_estimator_that_returns_something_else_is_told(
    room: BoxRoom, cameras: Camera
) -> None:
    def half(rgb: Tensor, cameras: Camera, known: Projection | None = None) -> Tensor:
        return torch.ones(rgb.shape[:-1])[:, ::2]

    with pytest.raises(FrameError, match=r"depth estimator .*half returned depth \[8, 24, 64\]"):
        next(rollout(ProjectionGenerator(), RoomMemory(room), cameras, depth=half))


def test_bad_arguments_are_refused_at_once(room: BoxRoom, cameras: Camera) -> None:
    memory = RoomMemory(room)
    with pytest.raises(InputError, match="trajectory"):
        rollout(ProjectionGenerator(), memory, cameras[0])
    with pytest.raises(InputError, match="at least 1 camera"):
        rollout(ProjectionGenerator(), memory, cameras, chunk=0)
    with pytest.raises(UnknownNameError, match="projection-depth"):
        rollout(ProjectionGenerator(), memory, cameras, depth="projection")


def test_no_cameras_give_no_chunks(room: BoxRoom, cameras: Camera) -> None:
    assert list(rollout(ProjectionGenerator(), RoomMemory(room), cameras[:0])) == []


def test_a_rollout_that_turns_away_and_back_finds_the_room_as_it_was(room: BoxRoom) -> None:
    walk = room.walk(9, width=96, height=72, sweep=0.6)
    there_and_back = Camera.stack([*walk, *list(walk)[::-1]])
    with spmem.open() as memory:
        memory.store(room.frames(walk)[0])
        chunks = list(rollout(ProjectionGenerator(), memory, there_and_back, chunk=3))
        seen = torch.cat([chunk.rgb for chunk in chunks])
        coverage = torch.cat([chunk.context.coverage for chunk in chunks])
    assert coverage[:9].min() < 0.8  # it went where memory knew little
    assert coverage[9:].min() > 0.9  # and on the way back knew what it had made
    drift = (seen[:9] - seen[9:].flip(0)).abs().mean((1, 2, 3))
    assert drift.max() < 0.05


def test_what_is_generated_of_known_places_is_no_memory(room: BoxRoom, cameras: Camera) -> None:
    wrong = Altered(lambda rgb: torch.zeros_like(rgb))
    rendered = {}
    for rewrite in (False, True):
        with spmem.open() as memory:
            memory.store(room.frames(cameras[:1])[0])
            before = memory.retrieve(cameras[:1]).projection
            list(rollout(wrong, memory, cameras[:4], chunk=4, rewrite=rewrite))
            after = memory.retrieve(cameras[:1])
            assert all(not frame.rgb.any() for frame in after.recent[-3:]), "the last frames are"
            known = before.mask & after.projection.mask
            rendered[rewrite] = (after.projection.rgb - before.rgb)[known].abs().mean()
    assert rendered[False] < 0.02
    assert rendered[True] > 0.1


def test_of_a_generated_frame_memory_takes_what_is_new_or_elsewhere(
    room: BoxRoom, cameras: Camera
) -> None:
    frame = room.frames(cameras[:1])[0]
    assert frame.depth is not None
    known = frame.depth.clone()
    known[:, :20] = 0  # memory does not know this
    nearer = frame.depth.clone()
    nearer[:, 40:] *= 0.5  # something stands there now
    told = confident_only_in_new(frame.replace(depth=nearer), known)
    assert told.confidence is not None
    assert told.confidence[:, :20].all()
    assert not told.confidence[:, 20:40].any()
    assert told.confidence[:, 40:].all()
    assert torch.equal(told.believed_depth()[:, 20:40], torch.zeros(HEIGHT, 20))
    assert torch.equal(told.rgb, frame.rgb)


def test_a_keyframe_saw_only_what_is_believed(room: BoxRoom, cameras: Camera) -> None:
    frame = room.frames(cameras[:1])[0]
    half = torch.ones(HEIGHT, WIDTH)
    half[:, WIDTH // 2 :] = 0
    with spmem.open() as memory:
        memory.store(frame.replace(confidence=half))
        told = memory.retrieve(cameras[:1]).explain()
        depth = memory.views.depth[0]
    assert (depth[:, :32] > 0).all()
    assert not depth[:, 32:].any()
    assert told[0].sees < 0.55


def test_each_chunk_can_be_a_commit(room: BoxRoom, cameras: Camera, tmp_path: Path) -> None:
    memory = spmem.open(tmp_path / "room.spmem")
    memory.store(room.frames(cameras[:1])[0])
    made = rollout(ProjectionGenerator(), memory, cameras, chunk=4, commit=True)
    next(made)
    next(made)
    with spmem.open(tmp_path / "room.spmem", mode="r") as other:  # as after a crash
        assert [one.message for one in other.snapshots()[:2]] == [
            "cameras 4 to 7",
            "cameras 0 to 3",
        ]
        assert len(other.keyframes) == len(memory.keyframes)
    memory.close()
    with pytest.raises(InputError, match="has no commit"):
        rollout(ProjectionGenerator(), RoomMemory(room), cameras, commit=True)
