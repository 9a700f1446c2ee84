"""Many surfel maps as one batch: a frame into each world, and views of each, in one call, for training loops."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from spmem.camera import Camera
from spmem.config import FusionConfig
from spmem.errors import DeviceError, DTypeError, FrameError, InputError
from spmem.kernels.fuse_torch import Fusing
from spmem.kernels.packed import Packed
from spmem.kernels.raster import kernel_for
from spmem.stores.maps.surfels import FocalLengths, SurfelMap, blocks
from spmem.types import Frame, Projection, Surfels


class SurfelMapBatch:
    """So many :class:`SurfelMap` that see frames of one size at the same steps.

    On CUDA, where Triton is installed, a call is a fixed number of kernel launches, whatever the number of worlds: rows
    of all worlds lie in one set of columns, each world's together. Elsewhere the worlds take turns, with the same
    results. SurfelMapBatch hold no features and no postings, and are not stored; a training loop makes new ones.

    The host waits for the device at the first frame, when a new tensor of intrinsics comes (pass the same one again),
    and where rows might run out, some eight frames apart.

    Args:
        count: Number of worlds, b.
        config: As a surfel map's. Without a ``voxel``, each world takes its own from its first depth image.
        kernel: ``numba``, ``torch`` or ``triton``; None takes the device's fast one. With ``triton`` all worlds average
            pixels in blocks of one size, the smallest that any of them would take.

    Raises:
        InputError: Less than one world.

    Example:
        >>> import torch
        >>> from spmem import Camera
        >>> from spmem.testing.box import BoxRoom
        >>> walk = BoxRoom().walk(2, width=48, height=36)
        >>> seen = BoxRoom().render(walk)
        >>> worlds = SurfelMapBatch(2)  # of the same room, each seen from another place
        >>> worlds.fuse(seen.rgb, seen.depth, walk).shape
        torch.Size([2, 36, 48])
        >>> views = Camera.stack([walk, walk])  # [b, t]
        >>> worlds.render(views).coverage.shape
        torch.Size([2, 2])
    """

    def __init__(
        self, count: int, config: FusionConfig | None = None, *, kernel: str | None = None
    ) -> None:
        if count < 1:
            raise InputError(f"there must be at least one world, got {count}")
        self.config = config or FusionConfig()
        self._kernel = kernel
        self._maps = [SurfelMap(self.config, kernel=kernel) for _ in range(count)]
        self._packed: Packed | None = None
        self._device: torch.device | None = None
        self._voxel, self._distance = [self.config.voxel or 0.0] * count, [0.0] * count
        self._focal, self._frames = FocalLengths(), 0

    def __len__(self) -> int:
        return len(self._maps)

    def __getitem__(self, world: int) -> Surfels:
        """The living surfels of a world, by ascending id (copies)."""
        return self._maps[world].surfels() if self._packed is None else self._packed.surfels(world)

    def fuse(
        self,
        rgb: Tensor,
        depth: Float[Tensor, "b h w"],
        cameras: Camera,
        *,
        confidence: Float[Tensor, "b h w"] | None = None,
        time: float | None = None,
    ) -> Int[Tensor, "b h w"]:
        """Merge a frame into each world; the surfel id in its world of each pixel, -1 where it went into none.

        Args:
            rgb: ``[b, h, w, 3]``, uint8 or float in [0, 1].
            depth: z-depth in world units, 0 = none.
            cameras: ``[b]``, of the images' size.
            confidence: Weights >= 0 of the depth values.
            time: Seconds, of all frames; None counts the calls.

        Values are not checked, as that would wait for the device; shapes and dtypes are.

        Raises:
            FrameError: A shape that does not fit.
            DTypeError: Depth that is not float, rgb neither uint8 nor float.
            DeviceError: Not all on one device, or not on the worlds'.
        """
        self._check(rgb, depth, confidence, cameras)
        when = float(self._frames if time is None else time)
        self._frames += 1
        if self._packs(cameras.device):
            return self._fuse(rgb, depth.float(), confidence, cameras, when)
        ids = []
        for world, part in enumerate(self._maps):
            sure = None if confidence is None else confidence[world]
            frame = Frame(rgb[world], depth[world], cameras[world], when, confidence=sure, validate=False)  # fmt: skip
            ids.append(part.fuse(frame))
        return torch.stack(ids)

    def render(self, cameras: Camera) -> Projection:
        """Views of each world: cameras and all images have leading dims ``[b, t]``, ids are those in the view's world.

        Raises:
            InputError: Cameras that are not ``[b, t]``.
            DeviceError: Cameras and worlds on different devices.
        """
        if len(cameras.shape) != 2 or cameras.shape[0] != len(self):
            raise InputError(f"render takes cameras [{len(self)}, t], got {list(cameras.shape)}")
        self._settle(cameras.device)
        if self._packs(cameras.device):
            images = self._packed_on(cameras.device).render(cameras)
        else:
            seen = [part.render(cameras[world]) for world, part in enumerate(self._maps)]
            names = ("rgb", "depth", "normal", "mask", "surfel_ids")
            images = tuple(torch.stack([getattr(view, name) for view in seen]) for name in names)
        return Projection(cameras, *images)

    def _fuse(
        self, rgb: Tensor, depth: Tensor, confidence: Tensor | None, cameras: Camera, time: float
    ) -> Int[Tensor, "b h w"]:
        packed, focal, config = self._packed_on(depth.device), self._focal(cameras.K), self.config
        if 0.0 in self._distance:
            self._measure(depth, focal)
            packed.voxels.copy_(torch.tensor(self._voxel))
        by = [
            blocks(voxel, distance / fx, cameras.width, cameras.height)
            for voxel, distance, fx in zip(self._voxel, self._distance, focal, strict=True)
            if distance > 0
        ]
        how = Fusing(
            voxel=0.0,
            by=min(by, default=1),
            edge=config.edge,
            grazing=config.grazing,
            merge=config.merge,
            max_confidence=config.max_confidence,
            averages=True,
            time=time,
        )
        return packed.fuse(rgb, depth, confidence, cameras, how)

    def _measure(self, depth: Float[Tensor, "b h w"], focal: list[float]) -> None:
        """Distance scale and voxel of the worlds that have seen no depth so far."""
        for world, known in enumerate(self._distance):
            valid = depth[world][depth[world] > 0]
            if not known and len(valid):
                distance = self._distance[world] = float(valid.median())
                own = self.config.voxel_pixels * distance / focal[world]
                self._voxel[world] = self._voxel[world] or own

    def _packs(self, device: torch.device) -> bool:
        return kernel_for(device, self._kernel) == "triton"

    def _packed_on(self, device: torch.device) -> Packed:
        if self._packed is None:
            self._packed = Packed(len(self), device)
        return self._packed

    def _settle(self, device: torch.device) -> None:
        """The worlds live where the first call's tensors are."""
        self._device = self._device or device
        if self._device != device:
            raise DeviceError(f"the worlds are on {self._device}, this is on {device}; .to(...) it")

    def _check(
        self, rgb: Tensor, depth: Tensor, confidence: Tensor | None, cameras: Camera
    ) -> None:
        wanted = (len(self), cameras.height, cameras.width)
        if cameras.shape != (len(self),):
            raise FrameError(
                f"cameras must be [{len(self)}], one a world, got {list(cameras.shape)}"
            )
        if rgb.shape != (*wanted, 3):
            raise FrameError(f"rgb must be {[*wanted, 3]}, got {list(rgb.shape)}")
        for name, image in (("depth", depth), ("confidence", confidence)):
            if image is not None and image.shape != wanted:
                raise FrameError(f"{name} must be {list(wanted)}, got {list(image.shape)}")
            if image is not None and not image.is_floating_point():
                raise DTypeError(f"{name} must be float, got {image.dtype}")
        if rgb.dtype != torch.uint8 and not rgb.is_floating_point():
            raise DTypeError(f"rgb must be uint8 or float in [0, 1], got {rgb.dtype}")
        for part in (rgb, depth, confidence, cameras.K):
            if part is not None:
                self._settle(part.device)
