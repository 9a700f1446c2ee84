"""SAM 2 over the geometric rule: what it follows, what it forgets, on a tiny random model."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from spmem import Frame
from spmem.errors import FrameError, InputError
from spmem.integrations.segmentation.sam2 import Sam2, patches
from spmem.protocols import DynamicSegmenter
from spmem.testing.box import BoxRoom
from spmem.types import Projection

transformers = pytest.importorskip("transformers")

W, H, EDGE = 64, 48, 64
HIDDEN = 128


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    torch.manual_seed(0)
    hiera = {
        "model_type": "sam2_hiera_det_model", "hidden_size": 8, "image_size": [EDGE, EDGE],
        "window_positional_embedding_background_size": [4, 4], "blocks_per_stage": [1, 1, 1, 1],
        "embed_dim_per_stage": [8, 16, 32, 64], "num_attention_heads_per_stage": [1, 1, 1, 1],
        "window_size_per_stage": [4, 2, 4, 2], "global_attention_blocks": [], "num_attention_heads": 1,
    }  # fmt: skip
    vision = {
        "backbone_config": hiera, "backbone_channel_list": [64, 32, 16, 8], "fpn_hidden_size": HIDDEN,
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
    }  # fmt: skip
    config = transformers.Sam2VideoConfig(
        vision_config=vision,
        prompt_encoder_config={"hidden_size": HIDDEN, "image_size": EDGE, "mask_input_channels": 4},
        mask_decoder_config={"hidden_size": HIDDEN, "mlp_dim": 32, "num_attention_heads": 2},
        image_size=EDGE,
        num_maskmem=3,
        max_object_pointers_in_encoder=4,
        memory_attention_hidden_size=HIDDEN,
        memory_attention_num_layers=1,
        memory_attention_downsample_rate=1,
        memory_attention_feed_forward_hidden_size=32,
        memory_attention_rope_feat_sizes=[4, 4],
        memory_encoder_hidden_size=HIDDEN,
        memory_encoder_output_channels=64,
        mask_downsampler_embed_dim=HIDDEN,
        memory_fuser_embed_dim=HIDDEN,
        memory_fuser_intermediate_dim=32,
        memory_fuser_num_layers=1,
    )
    return transformers.Sam2VideoModel(config)


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    room = BoxRoom()
    return room.frames(room.walk(16, width=W, height=H, sweep=0.1))


class Plate:
    """Notices a plate that moves to the right, in the frames that it is told; stands for any segmenter."""

    def __init__(self, noticing: Sequence[bool]) -> None:
        self.noticing = list(noticing)
        self.count = 0

    def __call__(self, frames: Sequence[Frame], known: Projection | None = None) -> Tensor:
        masks = torch.zeros(len(frames), H, W, dtype=torch.bool)
        for mask in masks:
            left = 4 + 2 * self.count
            if self.noticing[self.count]:
                mask[10:26, left : left + 14] = True
            self.count += 1
        return masks


def test_it_is_a_segmenter_and_passes_on_what_is_noticed(
    model: torch.nn.Module, frames: list[Frame]
) -> None:
    noticed = Plate([True] * 16)
    segmenter = Sam2(model, noticed=noticed)
    assert isinstance(segmenter, DynamicSegmenter)
    moving = segmenter(frames[:6])
    assert moving.shape == (6, H, W)
    assert moving.dtype == torch.bool
    assert bool((moving | ~Plate([True] * 16)(frames[:6])).all())
    assert torch.equal(moving[0], Plate([True])(frames[:1])[0])  # where it begins, SAM 2 has no say
    assert 1 <= segmenter.following <= 4  # random weights lose it, and it is noticed anew


def test_in_pieces_it_answers_as_at_once(model: torch.nn.Module, frames: list[Frame]) -> None:
    whole = Sam2(model, noticed=Plate([True] * 16))(frames[:8])
    pieces = Sam2(model, noticed=Plate([True] * 16))
    assert torch.equal(whole, torch.cat([pieces(frames[i : i + 1]) for i in range(8)]))


def test_it_follows_while_nothing_is_noticed_and_gives_up_after_patience(
    model: torch.nn.Module, frames: list[Frame]
) -> None:
    segmenter = Sam2(model, noticed=Plate([True] * 2 + [False] * 14), patience=5)
    segmenter(frames[:2])
    counts = []
    for frame in frames[2:12]:
        segmenter([frame])
        counts.append(segmenter.following)
    assert min(counts[:3]) >= 1
    assert counts[-1] == 0
    assert not segmenter(frames[12:13]).any()


def test_memory_is_bounded(model: torch.nn.Module, frames: list[Frame]) -> None:
    segmenter = Sam2(model, noticed=Plate([True] * 200))
    held = []
    for i in range(20):
        segmenter([frames[i % len(frames)]])
        held.append(segmenter.remembered)
    assert max(held) <= 6  # of 20: those that SAM 2 looks back at, the prompted and the present one


def test_small_patches_and_too_many_are_left(model: torch.nn.Module, frames: list[Frame]) -> None:
    def squares(frames: Sequence[Frame], known: Projection | None = None) -> Tensor:
        mask = torch.zeros(len(frames), H, W, dtype=torch.bool)
        for i in range(4):
            mask[:, 4 : 14 + 4 * i, 2 + 16 * i : 12 + 16 * i] = True
        mask[:, 44, 2] = True
        return mask

    segmenter = Sam2(model, noticed=squares, objects=2)
    segmenter(frames[:1])
    assert segmenter.following == 2
    segmenter = Sam2(model, noticed=squares, objects=9)
    segmenter(frames[:1])
    assert segmenter.following == 4
    segmenter.reset()
    assert segmenter.following == segmenter.remembered == 0


def test_patches_are_the_connected_ones() -> None:
    spiral = torch.tensor(
        [[1, 1, 1, 1, 1], [0, 0, 0, 0, 1], [1, 1, 1, 0, 1], [1, 0, 0, 0, 1], [1, 1, 1, 1, 1]]
    ).bool()
    assert len(patches(spiral)) == 1
    apart = torch.zeros(6, 9).bool()
    apart[0, 0] = apart[2:4, 3:5] = apart[5, 8] = True
    found = patches(apart)
    assert [int(patch.sum()) for patch in found] == [1, 4, 1]
    assert torch.equal(torch.stack(found).any(0), apart)
    assert patches(torch.zeros(3, 3).bool()) == []


def test_bad_input_is_named(model: torch.nn.Module, frames: list[Frame]) -> None:
    small = BoxRoom().frames(BoxRoom().walk(1, width=32, height=24))
    with pytest.raises(FrameError, match="one size"):
        Sam2(model)([frames[0], small[0]])
    with pytest.raises(InputError, match="patience >= 1"):
        Sam2(model, patience=0)
    with pytest.raises(InputError, match="wanted a Sam2VideoModel"):
        Sam2(torch.nn.Linear(2, 2))
