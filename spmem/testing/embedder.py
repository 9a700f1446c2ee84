"""Conformance of embedders: subclass, give the fixture, and pytest proves the embedder.

Needs pytest. Example::

    class TestMyEmbedder(EmbedderTests):
        @pytest.fixture(scope="class")
        def embedder(self):
            return MyEmbedder()
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from spmem.protocols import Embedder
from spmem.testing.box import BoxRoom


class EmbedderTests:
    """What every :class:`spmem.protocols.Embedder` does."""

    width: int = 96
    height: int = 72

    @pytest.fixture
    def embedder(self) -> Embedder:
        """Override: the embedder."""
        raise AssertionError("subclasses give the fixture `embedder`")

    @pytest.fixture
    def images(self) -> Tensor:
        """``[6, H, W, 3]`` views that turn through the room."""
        room = BoxRoom()
        return room.render(room.walk(6, width=self.width, height=self.height, sweep=5.0)).rgb

    def test_is_an_embedder(self, embedder: Embedder) -> None:
        assert isinstance(embedder, Embedder)

    def test_gives_unit_vectors(self, embedder: Embedder, images: Tensor) -> None:
        found = embedder(images)
        assert found.shape == (6, embedder.dim)
        assert found.dtype == torch.float32
        assert found.device == images.device
        assert (found.norm(dim=-1) - 1).abs().max() < 1e-4

    def test_an_image_without_anything_has_a_unit_vector_too(self, embedder: Embedder) -> None:
        found = embedder(torch.zeros(1, self.height, self.width, 3))
        assert torch.isfinite(found).all()
        assert (found.norm(dim=-1) - 1).abs().max() < 1e-4

    def test_each_image_is_described_by_itself(self, embedder: Embedder, images: Tensor) -> None:
        together = embedder(images)
        alone = torch.cat([embedder(image[None]) for image in images])
        assert (together - alone).abs().max() < 1e-3

    def test_a_noisy_image_is_most_like_itself(self, embedder: Embedder, images: Tensor) -> None:
        noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(0)) - 0.5
        alike = embedder((images + 0.1 * noise).clamp(0, 1)) @ embedder(images).mT
        assert torch.equal(alike.argmax(-1), torch.arange(6))

    def test_likeness_falls_as_the_view_turns_away(self, embedder: Embedder) -> None:
        room = BoxRoom()
        turning = room.walk(5, width=self.width, height=self.height, sweep=1.2)
        alike = embedder(room.render(turning).rgb)
        near, far = float(alike[0] @ alike[1]), float(alike[0] @ alike[4])
        assert near > far
