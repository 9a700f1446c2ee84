"""The weight-free image descriptor, by the embedders' conformance tests."""

from __future__ import annotations

import pytest
import torch

from spmem.errors import FrameError
from spmem.integrations.embedding.colour_layout import ColourLayout
from spmem.testing.embedder import EmbedderTests


class TestColourLayout(EmbedderTests):
    @pytest.fixture
    def embedder(self) -> ColourLayout:
        return ColourLayout()


def test_it_tells_colours_and_edge_directions_apart() -> None:
    stripes = (torch.arange(64) // 8 % 2).float().expand(48, 64)
    upright = stripes[..., None].expand(48, 64, 3)
    lying = (torch.arange(48) // 8 % 2).float()[:, None, None].expand(48, 64, 3)
    red = upright * torch.tensor([1.0, 0.2, 0.2])
    alike = ColourLayout()(torch.stack([upright, lying, red])) @ ColourLayout()(upright[None]).mT
    assert alike[0] > 0.999
    assert alike[1] < 0.7
    assert alike[2] < 0.9


def test_the_image_size_hardly_matters() -> None:
    y, x = torch.meshgrid(torch.linspace(0, 3, 240), torch.linspace(0, 4, 320), indexing="ij")
    large = torch.stack([x.sin(), y.cos(), (x + y).sin()], -1)[None] / 2 + 0.5
    small = torch.nn.functional.interpolate(large.movedim(-1, 1), (60, 80), mode="area")
    alike = ColourLayout()(large) @ ColourLayout()(small.movedim(1, -1)).mT
    assert alike.item() > 0.99


@pytest.mark.parametrize("shape", [(4, 5, 3), (1, 3, 48, 64)])
def test_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(FrameError, match="float \\[n, H, W, 3\\]"):
        ColourLayout()(torch.zeros(shape))
    with pytest.raises(FrameError, match="uint8"):
        ColourLayout()(torch.zeros(1, 48, 64, 3, dtype=torch.uint8))
