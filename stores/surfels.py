"""The surfel map: incremental, confidence-weighted fusion of posed depth into oriented discs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from spmem.camera import Camera
from spmem.config import FusionConfig
from spmem.errors import DeviceError, FrameError, InputError
from spmem.kernels import fuse, raster
from spmem.kernels.fuse_torch import COARSE, FINER, MERGED, NEW, Observed
from spmem.stores.columns import WIDTHS, Columns
from spmem.stores.postings import Postings
from spmem.types import Frame, Projection, Surfels

EDITABLE = ("position", "normal", "radius", "colour", "confidence", "features")
CARVED = 0.6
"""A surfel is carved when rays pass through more than this share of its pixels."""
CARVE = 2.0
"""Confidence that a carved surfel loses in a frame; seeing it adds at most 1."""
FORGET = 0.98
"""Per frame, what is left of the claim of the view that gave a surfel its colour."""


class SurfelMap:
    """One surfel for each voxel-sized patch of surface; a GeometryStore on CPU or CUDA.

    A pixel merges with the surfel that it shows: the most central of the discs within
    ``config.merge`` of its depth that face alike. The surfel moves along its normal only, by a
    weighted running mean of point-to-plane distances (the averaging of a truncated signed distance
    volume, Curless and Levoy 1996, at one surfel). Its colour follows the views with the most
    pixels on it, which are slowly forgotten: a mean over all views is a blur where colour and depth
    are not registered to the pixel. Pixels that show nothing known become new surfels, one for each
    voxel and main direction. A surfel much coarser than the pixels that now see it gives way to
    finer ones; one that rays pass through loses confidence and goes.

    Sources: Keller et al. 2013, Real-time 3D Reconstruction in Dynamic Scenes using Point-based
    Fusion, sections 4 and 5 (association, averaging, free-space violations).

    A surfel is 56 bytes (and 4 a feature channel), a posting 8. Ids are row numbers and never
    change.
    """

    averages = True

    def __init__(self, config: FusionConfig | None = None, *, kernel: str | None = None) -> None:
        self.config = config or FusionConfig()
        self.voxel = self.config.voxel
        self._kernel = kernel
        self._frames = 0
        self._columns: Columns | None = None
        self._postings = Postings(torch.device("cpu"))

    def __len__(self) -> int:
        return 0 if self._columns is None else int((self._columns.confidence > 0).sum())

    # -- fusion -------------------------------------------------------------------------------------

    def fuse(self, frame: Frame) -> Int[Tensor, "h w"]:
        """Merge a frame; the surfel id of each pixel, -1 where the pixel went into none.

        Raises:
            FrameError: No depth, or feature channels other than the map's.
            DeviceError: Frame and map on different devices.
        """
        columns, depth = self._accept(frame)
        camera, config = frame.camera, self.config
        ids = torch.full((camera.height * camera.width,), -1, device=columns.device)
        if self.voxel is None:  # no depth seen yet
            return ids.reshape(depth.shape)
        time = float(self._frames if frame.time is None else frame.time)
        self._frames += 1
        normal, weight = fuse.prepare(
            depth,
            frame.confidence,
            camera,
            edge=config.edge,
            grazing=config.grazing,
            reference=self.voxel * float(camera.K[0, 0]),
            kernel=self._kernel,
        )
        seen = Observed(
            depth,
            normal,
            weight,
            frame.rgb_float(),
            frame.features,
            camera.K,
            camera.c2w,
            self.voxel,
        )
        shown, through = fuse.match(
            columns, camera, depth, normal, weight, merge=config.merge, kernel=self._kernel
        )
        kind = fuse.classify(seen, shown, columns.radius, kernel=self._kernel)
        shown, through = shown.reshape(-1), through.reshape(-1)
        old = (kind == MERGED).nonzero()[:, 0]
        new = (kind >= NEW).nonzero()[:, 0]
        ids[old] = shown[old]
        self._merge(columns, seen, old, shown[old], time)
        self._retire(columns, shown[old], shown[kind == FINER], through[through >= 0])
        ids[new] = self._create(columns, seen, new, time)
        return ids.reshape(depth.shape)

    def _accept(self, frame: Frame) -> tuple[Columns, Float[Tensor, "h w"]]:
        if frame.depth is None:
            raise FrameError("the frame has no depth to fuse; give it, or a depth estimator")
        if self._columns is None:
            self._columns = Columns(frame.camera.device)
            self._postings = Postings(frame.camera.device)
        if self._columns.device != frame.camera.device:
            raise DeviceError(
                f"the map is on {self._columns.device}, the frame on {frame.camera.device}; "
                "move the frame with .to(...)"
            )
        features, known = frame.features, self._columns.features
        if features is not None and known is not None and features.shape[-1] != known.shape[-1]:
            raise FrameError(
                f"features have {features.shape[-1]} channels, the map's {known.shape[-1]}"
            )
        valid = frame.depth[frame.depth > 0]
        if self.voxel is None and len(valid):
            pixel = float(valid.median()) / float(frame.camera.K[0, 0])
            self.voxel = self.config.voxel_pixels * pixel
        return self._columns, frame.depth

    def _merge(
        self, columns: Columns, seen: Observed, pixels: Tensor, rows: Tensor, time: float
    ) -> None:
        """Running means of the surfels that pixels show."""
        if not len(rows):
            return
        surfel, segment = self._grouped(rows)
        columns.last_seen[surfel] = time
        if not self.averages:
            return
        weight, mean = self._means(seen, pixels, segment, len(surfel))
        before, normal = columns.confidence[surfel], columns.normal[surfel]
        share = (weight / (before + weight))[:, None]
        off = ((mean[:, :3] - columns.position[surfel]) * normal).sum(-1, keepdim=True)
        columns.position[surfel] += normal * off * share
        normal = torch.nn.functional.normalize(normal + (mean[:, 3:6] - normal) * share, dim=-1)
        columns.normal[surfel] = normal
        detail, remembered = mean[:, 10], columns.detail[surfel] * FORGET
        columns.detail[surfel] = torch.maximum(detail, remembered)
        sharper = ((detail / remembered - 0.7) / 0.6).clamp(0, 1)[:, None]
        columns.colour[surfel] += (mean[:, 6:9] - columns.colour[surfel]) * sharper
        if columns.features is not None and seen.features is not None:
            columns.features[surfel] += (mean[:, 11:] - columns.features[surfel]) * share
        columns.confidence[surfel] = (before + weight).clamp(max=self.config.max_confidence)

    def _retire(self, columns: Columns, merged: Tensor, finer: Tensor, through: Tensor) -> None:
        """Take away coarse surfels that finer ones replace, and confidence where rays pass through."""
        surfel, _ = self._grouped(torch.cat([finer, through]))
        merged, finer, through = (
            torch.bincount(rows, minlength=columns.n)[surfel] for rows in (merged, finer, through)
        )
        total = merged + finer + through
        share = through / total
        loss = torch.where(share > CARVED, CARVE * share, torch.zeros_like(share))
        left = (columns.confidence[surfel] - loss).clamp(min=0)
        columns.confidence[surfel] = left * (finer <= COARSE * total)

    def _create(
        self, columns: Columns, seen: Observed, pixels: Tensor, time: float
    ) -> Int[Tensor, " p"]:
        """New surfels, the weighted means of the pixels of one voxel and main direction."""
        if not len(pixels):
            return pixels
        cell = fuse.cells(seen, pixels, kernel=self._kernel)
        count, segment = fuse.group(cell, kernel=self._kernel)
        weight, mean = self._means(seen, pixels, segment, count)
        when = torch.full((count,), time, device=columns.device)
        rows = {
            "position": mean[:, :3],
            "normal": torch.nn.functional.normalize(mean[:, 3:6], dim=-1),
            "colour": mean[:, 6:9],
            "radius": mean[:, 9],
            "detail": mean[:, 10],
            "confidence": weight,
            "first_seen": when,
            "last_seen": when,
        }
        if seen.features is not None:
            rows["features"] = mean[:, 11:]
        start = columns.n
        columns.append(rows)
        return start + segment

    def _grouped(self, rows: Int[Tensor, " p"]) -> tuple[Int[Tensor, " s"], Int[Tensor, " p"]]:
        """The distinct rows, and the place of each among them."""
        count, segment = fuse.group(rows[:, None], kernel=self._kernel)
        distinct = torch.empty(count, dtype=torch.long, device=rows.device)
        distinct[segment] = rows
        return distinct, segment

    def _means(
        self, seen: Observed, pixels: Tensor, segment: Tensor, count: int
    ) -> tuple[Float[Tensor, " s"], Float[Tensor, "s c"]]:
        """Mean weight of each segment, and its point, normal, colour, radius, detail (and features)."""
        total = fuse.sums(seen, pixels, segment, count, kernel=self._kernel)
        return total[:, 1] / total[:, 0], total[:, 2:] / total[:, 1:2]

    # -- rendering ----------------------------------------------------------------------------------

    def render(self, cameras: Camera) -> Projection:
        """The scene along a trajectory ``[T]``; an empty map renders nothing, coverage 0.

        Raises:
            InputError: Not a trajectory.
            DeviceError: Cameras and map on different devices.
        """
        if len(cameras.shape) != 1:
            raise InputError(
                f"render takes a trajectory [T] of cameras, got {list(cameras.shape)}; camera[None]"
            )
        columns = self._columns or Columns(cameras.device)
        if columns.device != cameras.device:
            raise DeviceError(
                f"the map is on {columns.device}, the cameras on {cameras.device}; .to(...) one"
            )
        shape = (len(cameras), cameras.height, cameras.width)
        rgb, normal = (torch.zeros(*shape, 3, device=columns.device) for _ in range(2))
        depth = torch.zeros(shape, device=columns.device)
        ids = torch.full(shape, -1, device=columns.device)
        for t, camera in enumerate(cameras):
            rgb[t], depth[t], normal[t], ids[t] = raster.rasterize(
                columns, camera, kernel=self._kernel
            )
        features = None
        if columns.features is not None and columns.n:
            features = columns.features[ids.clamp(min=0)] * (ids >= 0)[..., None]
        return Projection(cameras, rgb, depth, normal, ids >= 0, ids, features)

    # -- what saw what ------------------------------------------------------------------------------

    def observe(self, keyframe: int, surfel_ids: Int[Tensor, " n"]) -> None:
        """Note that a keyframe saw these surfels; -1 and repetitions are skipped."""
        ids = torch.unique(surfel_ids)
        self._postings.append(keyframe, ids[ids >= 0])

    def observers(
        self, surfel_ids: Int[Tensor, " n"]
    ) -> tuple[Int[Tensor, " n_plus_1"], Int[Tensor, " m"]]:
        """The keyframes that saw each surfel, as CSR: offsets ``[n + 1]`` and keyframes, ascending."""
        return self._postings.of(surfel_ids)

    # -- the surfels themselves ---------------------------------------------------------------------

    def surfels(self) -> Surfels:
        """All living surfels, by ascending id (copies)."""
        columns = self._columns or Columns(torch.device("cpu"))
        ids = (columns.confidence > 0).nonzero()[:, 0]
        named = {name: getattr(columns, name)[ids] for name in WIDTHS if name != "detail"}
        features = None if columns.features is None else columns.features[ids]
        return Surfels(ids=ids, features=features, **named)

    def edit(self, surfel_ids: Int[Tensor, " n"], **fields: Tensor) -> None:
        """Overwrite position, normal, radius, colour, confidence or features of surfels.

        Raises:
            InputError: A field or id that does not exist, a wrong shape, values that are not finite.
        """
        columns = self._known(surfel_ids)
        for name, value in fields.items():
            column = getattr(columns, name) if name in EDITABLE else None
            if column is None:
                raise InputError(f"surfels have no editable field {name!r}; there are {EDITABLE}")
            wanted = (len(surfel_ids), *column.shape[1:])
            if value.shape != wanted or not bool(torch.isfinite(value).all()):
                raise InputError(
                    f"{name} must be finite and {list(wanted)}, got {list(value.shape)}"
                )
            column[surfel_ids] = value.to(column)

    def remove(self, surfel_ids: Int[Tensor, " n"]) -> None:
        """Delete surfels; other ids stay valid.

        Raises:
            InputError: An id that does not exist.
        """
        self._known(surfel_ids).confidence[surfel_ids] = 0

    def _known(self, surfel_ids: Tensor) -> Columns:
        columns = self._columns or Columns(surfel_ids.device)
        if len(surfel_ids) and not bool(((surfel_ids >= 0) & (surfel_ids < columns.n)).all()):
            raise InputError(f"surfel ids run from 0 to {columns.n - 1}; got others")
        return columns

    # -- checkpoint ---------------------------------------------------------------------------------

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Columns, postings and the voxel size; empty before the first frame."""
        if self._columns is None:
            return {}
        scalars = np.array([self.voxel or 0.0, self._frames], np.float64)
        return {**self._columns.arrays(), **self._postings.arrays(), "scalars": scalars}

    def restore(self, arrays: Mapping[str, NDArray[Any]], device: torch.device) -> None:
        """Take back, onto a device, what :meth:`arrays` gave."""
        if not arrays:
            return
        self._columns = Columns.restore(arrays, device)
        self._postings = Postings.restore(arrays, device)
        self.voxel, self._frames = float(arrays["scalars"][0]) or None, int(arrays["scalars"][1])
