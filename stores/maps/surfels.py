"""The surfel map: incremental, confidence-weighted fusion of posed depth into oriented discs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from spmem.arrays import ArraySchema, require
from spmem.camera import Camera
from spmem.config import FusionConfig
from spmem.errors import DeviceError, FrameError, InputError
from spmem.kernels.chunks import curve
from spmem.kernels.columns import SURFELS, WIDTHS, Columns
from spmem.kernels.fuse import fuse
from spmem.kernels.fuse_torch import Fusing
from spmem.kernels.raster import rasterize
from spmem.kernels.unfuse import Unfusing
from spmem.limits import FARTHEST, FINEST
from spmem.protocols import Renderer
from spmem.returned import projection_from
from spmem.stores.maps.postings import Postings
from spmem.types import Frame, Projection, Surfels

EDITABLE = ("position", "normal", "radius", "colour", "confidence", "features")
SCHEMA = {"scalars": ArraySchema("float64", "3", least=0, most=FARTHEST)}
"""Voxel, frames and distance; the columns and postings have schemas of their own."""
ENOUGH = 0.75
"""Pixels are averaged in blocks where these are no larger than this share of a voxel."""


class SurfelMap:
    """One surfel for each voxel-sized patch of surface; a GeometryStore on CPU or CUDA.

    What a frame does to the map is told by :mod:`spmem.kernels.fuse_torch`: pixels merge with the surfel that they
    show, by running means along its normal; what shows nothing known becomes new surfels, one for each voxel and main
    direction; a surfel much coarser than the pixels that now see it gives way to finer ones; one that rays pass through
    loses confidence and goes. Where pixels are much finer than voxels, they are averaged in blocks first.

    Sources: Keller et al. 2013, Real-time 3D Reconstruction in Dynamic Scenes using Point-based
    Fusion, sections 4 and 5 (association, averaging, free-space violations).

    A surfel is 56 bytes (and 4 a feature channel), 8 more where keyframes saw it, and 8 for each that did. Ids are row
    numbers and never change.

    ``renderer`` draws the map in :meth:`render`; None is the disc renderer, straight from the columns. Fusion always
    looks at discs.
    """

    averages = True

    def __init__(
        self,
        config: FusionConfig | None = None,
        *,
        kernel: str | None = None,
        renderer: Renderer | None = None,
    ) -> None:
        self.config = config or FusionConfig()
        self.voxel = self.config.voxel
        self._kernel, self._renderer = kernel, renderer
        self._frames = 0
        self._distance = 0.0
        self._columns: Columns | None = None
        self._postings = Postings(torch.device("cpu"))
        self._focal = FocalLengths()

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
        if self.voxel is None:  # no depth seen yet
            return torch.full(depth.shape, -1, device=columns.device)
        self._frames += 1
        how = self._how(frame)
        if frame.features is None:
            return fuse(columns, frame, how, kernel=self._kernel)
        before = columns.confidence.clone()
        named = fuse(columns, frame, how, kernel=self._kernel)
        self._learn(columns, frame.features, named, before)
        return named

    def unfuse(self, keyframes: Sequence[int], read: Callable[[int], Frame]) -> None:
        """Take back what keyframes gave, by :meth:`fuse` and :meth:`observe`; nothing changes where reading fails.

        Surfels that no other keyframe saw go. The others lose the keyframes' weight and become, along their normals,
        the means of what is left; colour stays until a view as sharp comes. What rays of these keyframes passed through
        does not come back. A map that does not average keeps the points that others saw, as they are.

        Args:
            keyframes: Ids given to :meth:`observe`; others are skipped.
            read: A keyframe's frame as it was fused, at the pose of then.

        Raises:
            DeviceError: Frame and map on different devices.
        """
        saw = {id: self._postings.saw(id) for id in dict.fromkeys(keyframes)}
        saw = {id: rows for id, rows in saw.items() if len(rows)}
        columns = self._columns
        if columns is None or self.voxel is None or not saw:
            return
        rows, count = list(saw.values()), self._postings.count
        unfusing = Unfusing(columns, rows, count, kernel=self._kernel)
        for id in saw if self.averages else ():
            frame = read(id)
            self._accept(frame)
            unfusing.add(saw[id], frame, self._how(frame))
        self._postings.drop(saw)
        unfusing.take(self.config.max_confidence)

    def _how(self, frame: Frame) -> Fusing:
        """How this frame is fused."""
        assert self.voxel is not None
        return Fusing(
            voxel=self.voxel,
            by=self._blocks(frame.camera),
            edge=self.config.edge,
            grazing=self.config.grazing,
            merge=self.config.merge,
            max_confidence=self.config.max_confidence,
            averages=self.averages,
            time=float(self._frames - 1 if frame.time is None else frame.time),
        )

    def _blocks(self, camera: Camera) -> int:
        """Side of the blocks of pixels that are averaged first."""
        assert self.voxel is not None
        pixel = self._distance / self._focal(camera.K)[0]
        return blocks(self.voxel, pixel, camera.width, camera.height)

    def _learn(
        self, columns: Columns, features: Tensor, ids: Int[Tensor, "h w"], before: Tensor
    ) -> None:
        """Running means of features, by the confidence that surfels gained."""
        column = columns.with_features(features.shape[-1])
        pixels = (ids.reshape(-1) >= 0).nonzero()[:, 0]
        rows, segment, counts = torch.unique(
            ids.reshape(-1)[pixels], return_inverse=True, return_counts=True
        )
        sums = features.new_zeros(len(rows), features.shape[-1])
        sums.index_add_(0, segment, features.flatten(0, 1)[pixels])
        before = torch.nn.functional.pad(before, (0, columns.n - len(before)))[rows]
        gain = (columns.confidence[rows] - before) / columns.confidence[rows]
        gain = gain.clamp(min=1 / self.config.max_confidence)[:, None]
        column[rows] += (sums / counts[:, None] - column[rows]) * gain

    def _begin(self, device: torch.device) -> Columns:
        """The columns; empty ones on this device where there are none."""
        if self._columns is None:
            self._columns, self._postings = (
                Columns(device, chunked=self._kernel != "triton"),
                Postings(device, self._kernel),
            )
        return self._columns

    def _accept(self, frame: Frame) -> tuple[Columns, Float[Tensor, "h w"]]:
        if frame.depth is None:
            raise FrameError("the frame has no depth to fuse; give it, or a depth estimator")
        columns = self._begin(frame.camera.device)
        if columns.device != frame.camera.device:
            raise DeviceError(
                f"the map is on {columns.device}, the frame on {frame.camera.device}; "
                "move the frame with .to(...)"
            )
        features, known = frame.features, columns.features
        if features is not None and known is not None and features.shape[-1] != known.shape[-1]:
            raise FrameError(
                f"features have {features.shape[-1]} channels, the map's {known.shape[-1]}"
            )
        if self._distance == 0:
            valid = frame.depth[frame.depth > 0]
            self._distance = float(valid.median()) if len(valid) else 0.0
        if self.voxel is None and self._distance > 0:
            voxel = self.config.voxel_pixels * self._distance / float(frame.camera.K[0, 0])
            self.voxel = min(max(voxel, FINEST), FARTHEST)
        return columns, frame.depth

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
        if self._renderer is not None:
            return projection_from(self._renderer, self.surfels(), cameras)
        rgb, depth, normal, mask, ids = rasterize(columns, cameras, kernel=self._kernel)
        features = None
        if columns.features is not None and columns.n:
            features = columns.features[ids.clamp(min=0)] * mask[..., None]
        return Projection(cameras, rgb, depth, normal, mask, ids, features)

    # -- what saw what ------------------------------------------------------------------------------

    def observe(self, keyframe: int, surfel_ids: Int[Tensor, " n"]) -> None:
        """Note that a keyframe saw these surfels; -1 and repetitions are skipped."""
        self._postings.append(keyframe, surfel_ids.reshape(-1))

    def unobserve(self, keyframes: Sequence[int]) -> None:
        """Forget that keyframes saw anything; their surfels stay, and novelty counts them as unseen where nobody else saw
        them.
        """
        self._postings.drop(keyframes)

    def observed(self, surfel_ids: Int[Tensor, "*b"]) -> Bool[Tensor, "*b"]:
        """Whether some keyframe saw these surfels; False for -1."""
        return self._postings.seen(surfel_ids)

    def observers(
        self, surfel_ids: Int[Tensor, " n"]
    ) -> tuple[Int[Tensor, " n_plus_1"], Int[Tensor, " m"]]:
        """The keyframes that saw each surfel, as CSR: offsets ``[n + 1]`` and keyframes, ascending."""
        return self._postings.of(surfel_ids)

    # -- the surfels themselves ---------------------------------------------------------------------

    def ids(self) -> Int[Tensor, " n"]:
        """The ids of all living surfels, ascending."""
        columns = self._columns or Columns(torch.device("cpu"))
        return (columns.confidence > 0).nonzero()[:, 0]

    def surfels(self) -> Surfels:
        """All living surfels, by ascending id (copies)."""
        columns, ids = self._columns or Columns(torch.device("cpu")), self.ids()
        named = {name: getattr(columns, name)[ids] for name in WIDTHS if name != "detail"}
        features = None if columns.features is None else columns.features[ids]
        return Surfels(ids=ids, features=features, **named)

    def add(self, surfels: Surfels) -> Int[Tensor, " n"]:
        """Take in surfels from elsewhere (a point cloud, another map); the ids that they get here.

        Raises:
            InputError: Values that are not finite, a radius or confidence that is not positive.
            DeviceError: Surfels and map on different devices.
        """
        columns = self._begin(surfels.position.device)
        if columns.device != surfels.position.device:
            raise DeviceError(
                f"the map is on {columns.device}, the surfels on {surfels.position.device}"
            )
        given = {name: getattr(surfels, name) for name in WIDTHS if name != "detail"}
        if surfels.features is not None:
            given["features"] = surfels.features
        _require_fields(given, n=len(surfels))
        if not len(surfels):
            return surfels.ids
        if bool((surfels.confidence <= 0).any()):
            raise InputError("surfels' confidence must be > 0")
        self.voxel = self.voxel or self.config.voxel or float(surfels.radius.median())
        cell = (surfels.position / self.voxel).floor().long()
        order = curve(cell).argsort(stable=True)
        if surfels.features is not None:
            columns.with_features(surfels.features.shape[-1])
        rows = torch.empty_like(order)
        rows[order] = columns.append(
            {name: values[order] for name, values in given.items()}, cell[order]
        )
        return rows

    def edit(self, surfel_ids: Int[Tensor, " n"], **fields: Tensor) -> None:
        """Overwrite position, normal, radius, colour, confidence or features of surfels.

        Raises:
            InputError: A field or id that does not exist, a wrong shape, values that no surfel has. Nothing changes then.
        """
        columns = self._known(surfel_ids)
        for name in fields:
            if name not in EDITABLE or getattr(columns, name) is None:
                raise InputError(f"surfels have no editable field {name!r}; there are {EDITABLE}")
        channels = {} if columns.features is None else {"c": columns.features.shape[-1]}
        _require_fields(fields, n=len(surfel_ids), **channels)
        for name, value in fields.items():
            column = getattr(columns, name)
            column[surfel_ids] = value.to(column)
        columns.widen(surfel_ids)

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
        scalars = np.array([self.voxel or 0.0, self._frames, self._distance], np.float64)
        return {**self._columns.arrays(), **self._postings.arrays(), "scalars": scalars}

    def restore(self, arrays: Mapping[str, NDArray[Any]], device: torch.device) -> None:
        """Take back, onto a device, what :meth:`arrays` gave.

        Raises:
            ValueError: Arrays that no map gives.
        """
        if not arrays:
            return
        require(arrays, SCHEMA)
        voxel, frames, distance = arrays["scalars"].tolist()
        if 0 < voxel < FINEST:
            raise ValueError(f"voxels of {voxel:g}, wanted {FINEST:g} or more")
        columns = Columns.restore(arrays, device, chunked=self._kernel != "triton")
        self._postings = Postings.restore(
            arrays, device, self._kernel, surfels=len(arrays["position"])
        )
        self._columns, self._distance = columns, distance
        self.voxel, self._frames = voxel or None, int(frames)


def _require_fields(fields: Mapping[str, Tensor], **sizes: int) -> None:
    """Raise InputError where these are no fields of so many surfels."""
    arrays = {name: value.detach().float().cpu().numpy() for name, value in fields.items()}
    try:
        require(arrays, {name: SURFELS[name] for name in fields}, **sizes)
    except ValueError as error:
        raise InputError(f"of surfels, {error}") from error
    if "radius" in arrays and not bool((arrays["radius"] >= FINEST).all()):
        raise InputError(f"of surfels, radius must be > 0, at least {FINEST:g}")


def blocks(voxel: float, pixel: float, width: int, height: int) -> int:
    """Side of the blocks of pixels that are averaged first: the largest power of two that loses no detail.

    voxel, pixel: World units across, the pixel's at the map's distance scale; 0 = not known.
    """
    by, most = 1, min(width, height) // 8 if pixel > 0 else 1
    while 2 * by * pixel <= ENOUGH * voxel and 2 * by <= most:
        by *= 2
    return by


class FocalLengths:
    """Horizontal focal lengths as numbers; those of a tensor on a GPU are read once, for as long as it is the one asked for."""

    def __init__(self) -> None:
        self._of: Tensor | None = None  # held, so that no other tensor can get its memory
        self._version, self._numbers = -1, [0.0]

    def __call__(self, K: Float[Tensor, "*b 3 3"]) -> list[float]:
        """Of each camera in order, pixels."""
        of = self._of
        if (
            of is None
            or K.device.type == "cpu"  # cheap to read, and may be a numpy array's memory
            or (K.data_ptr(), K.shape, K.stride()) != (of.data_ptr(), of.shape, of.stride())
            or K.is_inference()  # these do not count their changes
            or K._version != self._version
        ):
            self._of, self._version = K, -1 if K.is_inference() else K._version
            self._numbers = K[..., 0, 0].reshape(-1).tolist()
        return self._numbers
