"""Renderers: ours by the conformance tests, on its own and in a map; found by name."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import ClassVar

import pytest
import torch

import spmem
from spmem import registry
from spmem.camera import Camera
from spmem.errors import InputError, MissingExtraError, UnknownNameError
from spmem.integrations.renderers.pytorch3d import PointRenderer
from spmem.registry import SHIPPED
from spmem.stores.maps.rendering import DiscRenderer
from spmem.stores.maps.surfels import SurfelMap
from spmem.testing.box import BoxRoom
from spmem.testing.renderer import RendererTests
from spmem.types import Projection, Surfels


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


class Counting(DiscRenderer):
    """Notes how many surfels it is asked to draw."""

    drawn: ClassVar[list[int]] = []

    def __call__(self, surfels: Surfels, cameras: Camera) -> Projection:
        self.drawn.append(len(surfels))
        return super().__call__(surfels, cameras)


def test_a_renderer_goes_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    room = BoxRoom()
    cameras = room.walk(2, width=64, height=48)
    monkeypatch.setitem(SHIPPED["renderer"], "counting", f"{__name__}:Counting")
    for geometry in ("surfels", "points"):
        config = spmem.MemoryConfig(geometry=geometry, renderer="counting")
        with spmem.open(config=config) as memory:
            memory.store(room.frames(cameras)[0])
            Counting.drawn.clear()
            seen = memory.retrieve(cameras[:1])
            assert Counting.drawn == [len(memory.geometry)]
            assert seen.coverage.min() > 0.5


def test_another_renderer_opens_a_stored_map(tmp_path: Path) -> None:
    """What draws a map is no part of what it was built with."""
    room = BoxRoom()
    cameras = room.walk(1, width=64, height=48)
    with spmem.open(tmp_path / "m") as memory:
        memory.store(room.frames(cameras)[0])
    config = spmem.MemoryConfig(renderer="gsplat")
    with spmem.open(tmp_path / "m", config=config, mode="r") as memory:
        assert memory.config.renderer == "gsplat"


def test_what_cannot_draw_is_refused() -> None:
    with pytest.raises(
        UnknownNameError, match=r"no renderer is called 'disks'; did you mean 'discs'"
    ):
        spmem.open(config=spmem.MemoryConfig(renderer="disks"))


def test_a_store_that_draws_itself_takes_no_renderer(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = EntryPoint("theirs", "spmem.stores.maps.surfels:SurfelMap", "spmem.geometry_store")
    monkeypatch.setattr(registry, "_installed", lambda seam: [theirs])
    with pytest.raises(InputError, match="draws itself"):
        spmem.open(config=spmem.MemoryConfig(geometry="theirs", renderer="pytorch3d"))


def test_without_pytorch3d_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pytorch3d", "pytorch3d.renderer", "pytorch3d.structures"):
        monkeypatch.setitem(sys.modules, name, None)
    room = BoxRoom()
    cameras = room.walk(1, width=32, height=24)
    map = SurfelMap(renderer=PointRenderer())
    map.fuse(room.frames(cameras)[0])
    with pytest.raises(MissingExtraError, match=r"pip install .*pytorch3d"):
        map.render(cameras)
