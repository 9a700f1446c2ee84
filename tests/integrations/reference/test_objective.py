"""Clips in a row: the model goes on from its own answers, and gradients are cut where they were asked to be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from spmem.integrations.reference.batches import Batch, batches
from spmem.integrations.reference.conditioning import frames_out, rescaled
from spmem.integrations.reference.config import NANO, ModelConfig
from spmem.integrations.reference.episodes import TrainingEpisode, in_house, record_episode
from spmem.integrations.reference.model import Conditions, WorldModel
from spmem.integrations.reference.objective import Handover, descend, hand_on, loss
from spmem.integrations.reference.training import TrainConfig
from spmem.testing.box import BoxRoom

TINY = replace(NANO, size=16, width=16, layers=2, heads=2, states=4, keyframes=2, block=2)
BACKBONES = ("attention", "state-space")


@pytest.fixture(scope="module")
def episode() -> TrainingEpisode:
    room = BoxRoom()
    return record_episode(room.frames(room.walk(24, width=16, height=16)))


def in_a_row(episode: TrainingEpisode, config: ModelConfig, count: int) -> list[Batch]:
    return batches([episode], config, 3, seed=4, step=0, chunks=count)


def shaken(config: ModelConfig) -> WorldModel:
    """A model whose zeros are none, so that everything counts."""
    torch.manual_seed(0)
    model, draw = WorldModel(config), torch.Generator().manual_seed(2)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.05 * torch.randn(value.shape, generator=draw))
    return model


class Seen(nn.Module):
    """A model that notes what it is given."""

    def __init__(self, model: WorldModel) -> None:
        super().__init__()
        self.model = model
        self.calls: list[tuple[Tensor, list[Tensor] | None, Tensor]] = []

    def forward(self, video: Tensor, level: Tensor, given: Conditions, *rest: Any) -> Any:
        answer = self.model(video, level, given, *rest)
        self.calls.append((video.detach(), rest[0] or None, answer[0].detach()))
        return answer


def gradients(
    model: WorldModel, config: ModelConfig, chunks: list[Batch], through: int
) -> list[Tensor]:
    model.zero_grad()
    descend(model, config, chunks, through=through)
    return [torch.zeros(1) if p.grad is None else p.grad.clone() for p in model.parameters()]


def test_chunks_of_a_clip_follow_each_other(episode: TrainingEpisode) -> None:
    """What one ends with, the next begins with: the same frames, mirrored or not, in the same colours."""
    first, second = in_a_row(episode, TINY, 2)
    ends, begins = (
        frames_out(one.clean, one.scale)[0][:, part]
        for one, part in ((first, slice(-2, None)), (second, slice(2)))
    )
    assert torch.allclose(ends, begins, atol=1e-6)
    assert not torch.equal(first.level, second.level)


def test_recent_frames_are_the_models_own_answers(episode: TrainingEpisode) -> None:
    chunks = [
        one._replace(level=one.level.index_fill(1, torch.tensor([0, 1]), 0.0))
        for one in in_a_row(episode, TINY, 3)
    ]
    seen = Seen(shaken(TINY))
    descend(seen, TINY, chunks)
    assert len(seen.calls) == 3
    assert torch.equal(seen.calls[0][0], chunks[0].noisy)  # there is nothing of its own yet
    for i in (1, 2):
        answer, (video, _, _) = seen.calls[i - 1][2][:, -2:], seen.calls[i]
        added = video[:, :2] - chunks[i].noisy[:, :2] + chunks[i].clean[:, :2]
        assert torch.allclose(added[:, :, :3], answer[:, :, :3].clamp(-1, 1), atol=1e-5)
        there = chunks[i - 1].given.projection[:, -2:, 4] > 0
        own, memory = (
            rescaled(frames.clamp(-1, 1), chunks[i - 1].scale, chunks[i].scale)[:, :, 3]
            for frames in (answer, chunks[i - 1].given.projection[:, -2:, :4])
        )
        assert there.any()
        assert torch.allclose(added[:, :, 3], torch.where(there, memory, own), atol=1e-5)
        assert torch.equal(video[:, 2:], chunks[i].noisy[:, 2:])


def test_scans_go_on_from_what_they_kept_of_the_answers(episode: TrainingEpisode) -> None:
    config = replace(TINY, backbone="state-space")
    seen = Seen(shaken(config))
    descend(seen, config, in_a_row(episode, config, 3))
    states = [state for _, state, _ in seen.calls]
    # each chunk but the last is looked at twice: as it is drawn, and for what is kept of the answer
    assert len(states) == 5
    assert states[0] is None
    assert states[2] is not None
    assert states[4] is not None
    assert not torch.equal(states[2][0], states[4][0])
    assert states[2][0].shape == states[4][0].shape


@pytest.mark.parametrize("backbone", BACKBONES)
def test_gradients_are_those_of_the_plain_sum(episode: TrainingEpisode, backbone: str) -> None:
    """Through all chunks: what autograd gives for the whole row at once. Through one: what it gives with cuts."""
    config = replace(TINY, backbone=backbone)
    model, chunks = shaken(config), in_a_row(episode, config, 3)
    found = {}
    for through in (1, 3):
        model.zero_grad()
        total, handed = torch.zeros(()), None
        for one in chunks:
            state = None
            if handed is not None:
                if through == 1:
                    state = [value.detach() for value in handed.state]
                    handed = Handover(handed.frames.detach(), handed.scale, state)
                own = rescaled(handed.frames[:, -2:], handed.scale, one.scale)
                share = 1 - one.level[:, :2, None, None, None]
                noisy = one.noisy.clone()
                noisy[:, :2] += share * (own - one.clean[:, :2])
                one = one._replace(noisy=noisy)
                state = handed.state
            drawn, _ = model(one.noisy, one.level, one.given, state)
            total = total + loss(drawn, one) / 3
            handed = hand_on(model, config, one, drawn, state)
        total.backward()
        wanted = [torch.zeros(1) if p.grad is None else p.grad.clone() for p in model.parameters()]
        found[through] = gradients(model, config, chunks, through)
        for one, other in zip(found[through], wanted, strict=True):
            assert torch.allclose(one, other, atol=1e-5, rtol=1e-3)
    far, near = (torch.cat([g.flatten() for g in found[through]]) for through in (3, 1))
    assert (far - near).norm() > 1e-3 * near.norm()


@pytest.mark.parametrize("backbone", BACKBONES)
def test_more_chunks_keep_no_more_for_the_backward_pass(
    episode: TrainingEpisode, backbone: str
) -> None:
    """The most bytes that autograd holds at once: the same for three chunks and for five, where gradients pass through one."""
    config = replace(TINY, backbone=backbone)
    model = shaken(config)

    def most(count: int, through: int) -> int:
        held, peak = 0, 0

        class Kept:
            def __init__(self, tensor: Tensor) -> None:
                nonlocal held, peak
                self.tensor, self.size = tensor, tensor.nbytes
                held += self.size
                peak = max(peak, held)

            def __del__(self) -> None:
                nonlocal held
                held -= self.size

        with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
            descend(model, config, in_a_row(episode, config, count), through=through)
        return peak

    assert most(5, 1) == most(3, 1)
    assert most(3, 3) > 2 * most(3, 1)


def test_frames_are_the_same_in_another_scale() -> None:
    draw = torch.Generator().manual_seed(0)
    frames = torch.rand(2, 3, 4, 8, 8, generator=draw) * 1.6 - 0.8
    some, other = torch.tensor([2.0, 3.0]), torch.tensor([2.5, 2.0])
    (rgb, depth), (same, also) = (
        frames_out(frames, some),
        frames_out(rescaled(frames, some, other), other),
    )
    assert depth is not None
    assert also is not None
    assert torch.allclose(rgb, same, atol=1e-6)
    assert torch.allclose(depth, also, rtol=1e-4)
    assert rescaled(frames[:, :, :3], some, other).shape == (2, 3, 3, 8, 8)


def test_stages_share_the_steps() -> None:
    config = TrainConfig(steps=9, stages=(1, 2, 4))
    assert [config.chunks(step) for step in range(11)] == [1] * 3 + [2] * 3 + [4] * 5


def test_houses_move_as_often_as_asked() -> None:
    """House 1003 stands still where one in six moves."""
    some = [in_house(1003, size=16, frames=8, moving=share) for share in (1 / 6, 0.0, 1.0)]
    drawn, still, moving = (one.rgb for one in some)
    assert np.array_equal(drawn, still)
    assert not np.array_equal(still, moving)
    with pytest.raises(ValueError, match="moving is a share"):
        in_house(1003, moving=2.0)
