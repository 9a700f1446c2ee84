"""Columns of many worlds in one, each world's rows together, for kernels that take all worlds at once."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from spmem.camera import Camera
from spmem.kernels import triton_jit
from spmem.kernels.columns import AHEAD, WIDTHS
from spmem.kernels.fuse_torch import Fusing
from spmem.kernels.raster import NEAR, SLAB
from spmem.types import Surfels


class Packed:
    """B worlds with ``room`` rows each: row i of world w is row w x room + i of every column.

    taken: Rows in use of each world, [b] on the device, which kernels add to; voxels: edges [b], world units, 0 = not
    known yet.
    """

    def __init__(self, worlds: int, device: torch.device) -> None:
        self.taken = torch.zeros(worlds, dtype=torch.long, device=device)
        self.voxels = torch.zeros(worlds, device=device)
        self.room = 0
        self._most = 0  # no world has taken more
        self._columns = {name: torch.zeros(0, *width, device=device) for name, width in WIDTHS.items()}  # fmt: skip

    def fuse(
        self,
        rgb: Tensor,
        depth: Tensor,
        confidence: Tensor | None,
        cameras: Camera,
        how: Fusing,
    ) -> Int[Tensor, "b h w"]:
        """Merge a frame into each world, with ``voxels`` for ``how.voxel``; the row of each pixel, or -1."""
        from spmem.kernels import fuse_triton

        self._reserve(-(-cameras.width // how.by) * -(-cameras.height // how.by))
        confidence = None if confidence is None else confidence.float()
        batch = fuse_triton.Batch(rgb, depth, confidence, cameras.K, cameras.c2w)
        with triton_jit.on(self.taken.device):
            return fuse_triton.fuse(self._columns, self.taken, batch, self.voxels, how, near=NEAR)

    def render(self, cameras: Camera) -> tuple[Tensor, ...]:
        """Colour, depth, normal, mask and row of cameras [b, t]."""
        from spmem.kernels import raster_triton

        with triton_jit.on(self.taken.device):
            images = raster_triton.rasterize(
                self._columns, self.taken, cameras.K.reshape(-1, 3, 3), cameras.c2w.reshape(-1, 4, 4),
                cameras.width, cameras.height, near=NEAR, slab=SLAB,
            )  # fmt: skip
        return tuple(image.unflatten(0, cameras.shape) for image in images)

    def surfels(self, world: int) -> Surfels:
        """The living surfels of a world, by ascending row (copies)."""
        world = range(len(self.taken))[world]
        own = {name: column[world * self.room :][: self.room] for name, column in self._columns.items()}  # fmt: skip
        ids = (own["confidence"] > 0).nonzero()[:, 0]
        return Surfels(ids=ids, **{name: own[name][ids] for name in WIDTHS if name != "detail"})

    def _reserve(self, count: int) -> None:
        """Room for so many rows more in each world; waits for the device only where it might not suffice."""
        if self._most + count > self.room:
            self._most = int(self.taken.max())
            room, worlds = max(self._most + AHEAD * count, self.room), len(self.taken)
            for name, column in self._columns.items():
                wider = column.new_zeros(worlds, room, *WIDTHS[name])
                wider[:, : self.room] = column.unflatten(0, (worlds, self.room))
                self._columns[name] = wider.flatten(0, 1)
            self.room = room
        self._most += count
