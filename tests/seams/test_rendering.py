"""Renderers: ours by the conformance tests, on its own and in a map; found by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch

from spmem.stores.rendering import DiscRenderer
from spmem.stores.surfels import SurfelMap
from spmem.testing.box import BoxRoom
from spmem.testing.renderer import RendererTests


class TestDiscRenderer(RendererTests):
    depth_error = 0.005

    @pytest.fixture
    def make(self) -> Callable[[], DiscRenderer]:
        return DiscRenderer


class TestDiscRendererInTorch(RendererTests):
    depth_error = 0.005

    @pytest.fixture
    def make(self) -> Callable[[], DiscRenderer]:
        return partial(DiscRenderer, kernel="torch")


def test_a_map_draws_with_the_renderer_it_is_given() -> None:
    room = BoxRoom()
    cameras = room.walk(2, width=64, height=48)
    plain, handed = SurfelMap(), SurfelMap(renderer=DiscRenderer())
    for frame in room.frames(cameras):
        plain.fuse(frame)
        handed.fuse(frame)
    a, b = plain.render(cameras), handed.render(cameras)
    assert torch.equal(a.mask, b.mask)
    assert (
        a.surfel_ids == b.surfel_ids
    ).float().mean() > 0.99  # equals may be mixed in another order
    assert torch.allclose(a.depth, b.depth, rtol=1e-5)


def test_an_empty_map_is_drawn_as_nothing() -> None:
    assert (
        not SurfelMap(renderer=DiscRenderer())
        .render(BoxRoom().walk(1, width=8, height=6))
        .mask.any()
    )
