"""What goes in and what comes out: frames, keyframes, surfels, projections, retrievals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from spmem.camera import LARGEST, Camera
from spmem.device import as_device
from spmem.errors import DeviceError, DTypeError, FrameError
from spmem.torch_modes import bound, kept

__all__ = [
    "Camera",
    "Contribution",
    "Frame",
    "Keyframe",
    "Match",
    "Pointmaps",
    "Projection",
    "Retrieval",
    "Snapshot",
    "Surfels",
]


class Frame:
    """One posed image with depth: what a camera saw, or a generator made.

    Args:
        rgb: ``[H, W, 3]``, uint8 or float in [0, 1]; a tensor, an array or a PIL image.
        depth: ``[H, W]`` z-depth in world units as float, at most 1e9, 0 = none; or None if a depth estimator is to fill it in.
        camera: A single :class:`Camera` of the same size.
        time: Seconds, at most 3.4e38 (what float32 holds), or None: the memory then counts frames.
        confidence: ``[H, W]`` weights of the depth values, 0 to 1e9, or None.
        features: ``[H, W, C]`` per-pixel descriptions to attach to the surfels, or None.
        latent: What a generator's autoencoder made of this frame, floats of any shape, or None; kept with the keyframe bit
            for bit, and looked at by nobody.
        validate: Check the values (a host-device copy on CUDA); shapes and dtypes are always checked.

    Raises:
        FrameError: A shape that does not fit, NaN, infinite, negative or too large depth, float rgb outside [0, 1], a
            time that is no finite number.
        DTypeError: Integer depth (its scale is unknown), rgb of another dtype, a latent that is not of floats.
        DeviceError: Tensors on different devices.
    """

    __slots__ = ("camera", "confidence", "depth", "features", "latent", "rgb", "time")
    rgb: Tensor
    depth: Tensor | None
    camera: Camera
    time: float | None
    confidence: Tensor | None
    features: Tensor | None
    latent: Tensor | None

    def __init__(
        self,
        rgb: Any,
        depth: Any,
        camera: Camera,
        time: float | None = None,
        *,
        confidence: Any = None,
        features: Any = None,
        latent: Any = None,
        validate: bool = True,
    ) -> None:
        if not isinstance(camera, Camera):
            raise FrameError(f"camera must be a spmem.Camera, got {type(camera).__name__}")
        if camera.shape:
            raise FrameError(
                f"a frame has a single camera, got a trajectory of {list(camera.shape)}; index it"
            )
        self.camera = camera
        self.rgb = _rgb(rgb, camera, validate)
        self.depth = None if depth is None else _depth(depth, camera)
        self.time = _time(time)
        self.confidence = None if confidence is None else _confidence(confidence, camera)
        self.features = None if features is None else _features(features, camera)
        self.latent = None if latent is None else _latent(latent)
        parts = self.tensors()
        for name, tensor in parts.items():
            if tensor.device != camera.device:
                raise DeviceError(
                    f"{name} is on {tensor.device}, the camera on {camera.device}; move one with .to(...)"
                )
        if validate:
            _check_values({name: part for name, part in parts.items() if name != "rgb"})

    def __repr__(self) -> str:
        return f"Frame({self.camera.width}x{self.camera.height}, time={self.time}, {self.camera.device})"

    def tensors(self) -> dict[str, Tensor]:
        """What it holds besides its camera, by name; parts that it has not are not there."""
        parts = {name: getattr(self, name) for name in self.__slots__}
        return {name: part for name, part in parts.items() if isinstance(part, Tensor)}

    def to(self, device: torch.device | str) -> Frame:
        """The same frame on another device. Raises DeviceError, and DTypeError for a dtype: frames keep theirs."""
        device = as_device(device)
        moved = {name: tensor.to(device) for name, tensor in self.tensors().items()}
        return self.replace(camera=self.camera.to(device), **moved)

    def replace(self, **changes: Any) -> Frame:
        """A copy with some fields changed (values are not checked again)."""
        fields = {name: getattr(self, name) for name in self.__slots__} | changes
        return Frame(**fields, validate=False)

    def checked(self) -> Frame:
        """The frame as a memory takes it: values checked as on construction, tensors without graph or inference mode.

        Frames made with ``validate=False``, by :meth:`replace` or by :meth:`moved` get their check here. If all is
        well, it waits for the device once.

        Raises:
            FrameError: As on construction.
            CameraError: As on the construction of its camera.
        """
        camera, parts = self.camera.checked(), self.tensors()
        _check_values(parts)
        if camera is self.camera and not any(map(bound, parts.values())):
            return self
        return self.replace(camera=camera, **{name: kept(part) for name, part in parts.items()})

    def moved(self, c2w: Any) -> Frame:
        """A copy at another pose ``[4, 4]`` (not checked)."""
        old = self.camera
        pose = torch.as_tensor(c2w, dtype=torch.float32, device=old.device)
        camera = Camera(old.K, pose, width=old.width, height=old.height, validate=False)
        return self.replace(camera=camera)

    def believed_depth(self) -> Float[Tensor, "h w"]:
        """Depth, and 0 where it is not believed (confidence 0) or not there at all: what a keyframe is known to have seen."""
        if self.depth is None:
            size = self.rgb.shape[:2]
            return torch.zeros(size, dtype=torch.float32, device=self.rgb.device)
        return self.depth if self.confidence is None else self.depth * (self.confidence > 0)

    def rgb_float(self) -> Float[Tensor, "h w 3"]:
        """Colour as float32 in [0, 1]."""
        return self.rgb.float() / 255 if self.rgb.dtype == torch.uint8 else self.rgb.float()

    def rgb_uint8(self) -> Int[Tensor, "h w 3"]:
        """Colour as uint8."""
        return (
            self.rgb if self.rgb.dtype == torch.uint8 else (self.rgb * 255).round().to(torch.uint8)
        )


@dataclass(frozen=True, eq=False)
class Keyframe:
    """A frame kept in the episodic bank; pixels are read from storage when asked for.

    It is on its camera's device: on the cameras' that were asked about if it comes from ``retrieve``, else on the CPU.
    """

    id: int
    camera: Camera
    time: float
    _read: Callable[[int], Frame] = field(repr=False)

    @property
    def frame(self) -> Frame:
        """The stored frame (read again at each access; depth within the bank's stated error)."""
        return self._read(self.id).to(self.camera.device)

    def to(self, device: torch.device | str) -> Keyframe:
        """The same keyframe on another device."""
        device = as_device(device)
        return (
            self if device == self.camera.device else replace(self, camera=self.camera.to(device))
        )

    def __reduce__(self) -> tuple[object, ...]:
        """A keyframe travels to another process with its frame."""
        frames = CarriedFrames({self.id: self.frame})
        return Keyframe, (self.id, self.camera, self.time, frames.read)


@dataclass(frozen=True)
class CarriedFrames:
    """Frames by id, in RAM: what keyframes read from once they have travelled to another process."""

    frames: Mapping[int, Frame]

    def read(self, id: int) -> Frame:
        """A copy of a frame."""
        frame = self.frames[id]
        return frame.replace(**{name: part.clone() for name, part in frame.tensors().items()})

    def read_many(self, ids: Sequence[int]) -> list[Frame]:
        """Copies of frames, in the order of ids."""
        return [self.read(id) for id in ids]


@dataclass(frozen=True, eq=False)
class Match:
    """A keyframe that matches what memory was asked, and how well."""

    keyframe: Keyframe
    score: float
    """Higher is better; comparable within one answer."""
    by: Mapping[str, float]
    """The score by each thing asked: ``camera`` (a share in 0..1), ``image`` and ``text`` (inner products in -1..1)."""


@dataclass(frozen=True, eq=False)
class Surfels:
    """Oriented discs, as a structure of arrays in world units.

    position ``[N, 3]``; normal ``[N, 3]`` unit; radius ``[N]``; colour ``[N, 3]`` in [0, 1]; confidence ``[N]`` > 0;
    first_seen, last_seen ``[N]`` in seconds; features ``[N, C]`` or None. ``ids`` are the surfels' stable names:
    indices that renderings and edits speak of.
    """

    ids: Int[Tensor, " n"]
    position: Float[Tensor, "n 3"]
    normal: Float[Tensor, "n 3"]
    radius: Float[Tensor, " n"]
    colour: Float[Tensor, "n 3"]
    confidence: Float[Tensor, " n"]
    first_seen: Float[Tensor, " n"]
    last_seen: Float[Tensor, " n"]
    features: Float[Tensor, "n c"] | None = None

    def __len__(self) -> int:
        return len(self.position)


@dataclass(frozen=True, eq=False)
class Projection:
    """The scene rendered along cameras ``[T]``.

    rgb ``[T, H, W, 3]`` in [0, 1]; depth ``[T, H, W]`` z-depth, 0 = none; normal ``[T, H, W, 3]`` unit, world axes;
    mask ``[T, H, W]`` what memory covers; surfel_ids ``[T, H, W]`` int64, -1 = none; features ``[T, H, W, C]`` or None.
    A surface seen from behind hides what lies beyond it and is not covered: its mask is False, its depth kept.
    """

    cameras: Camera
    rgb: Float[Tensor, "t h w 3"]
    depth: Float[Tensor, "t h w"]
    normal: Float[Tensor, "t h w 3"]
    mask: Bool[Tensor, "t h w"]
    surfel_ids: Int[Tensor, "t h w"]
    features: Float[Tensor, "t h w c"] | None = None

    @property
    def coverage(self) -> Float[Tensor, " t"]:
        """Share of each camera's pixels that memory covers."""
        return self.mask.float().mean((-2, -1))

    @property
    def points(self) -> Float[Tensor, "t h w 3"]:
        """World points of the pixels; meaningful where ``mask``."""
        return self.cameras.unproject(self.depth)

    def uncovered(self) -> Bool[Tensor, "t h w"]:
        """Pixels that memory does not know: what the generator must invent."""
        return ~self.mask


@dataclass(frozen=True, eq=False)
class Pointmaps:
    """Geometry and cameras that were estimated of frames together, in a world and a scale of their own.

    cameras ``[T]``, of the size of the maps; depth ``[T, H, W]`` z-depth, 0 = none; confidence ``[T, H, W]`` >= 0, around 1.
    """

    cameras: Camera
    depth: Float[Tensor, "t h w"]
    confidence: Float[Tensor, "t h w"]

    @property
    def points(self) -> Float[Tensor, "t h w 3"]:
        """World points of the pixels; meaningful where there is depth."""
        return self.cameras.unproject(self.depth)


@dataclass(frozen=True)
class Contribution:
    """What one retrieved keyframe brings to the cameras asked about; shares of all their pixels, in 0..1."""

    id: int
    time: float
    score: float
    sees: float
    """Share of the pixels that this keyframe saw."""
    alone: float
    """Share that it saw and no other retrieved keyframe did: what would be lost without it."""


@dataclass(frozen=True, eq=False)
class Retrieval:
    """Everything that must stay consistent when these cameras are generated."""

    cameras: Camera
    projection: Projection
    keyframes: tuple[Keyframe, ...]
    scores: Float[Tensor, " k"]
    recent: tuple[Frame, ...]
    method: str
    _explain: Callable[[], list[Contribution]] = field(repr=False)
    _read: Callable[[Sequence[int]], list[Frame]] | None = field(default=None, repr=False)

    @property
    def coverage(self) -> Float[Tensor, " t"]:
        """[T] in 0..1: the share of each camera's pixels that memory covers; low means "I don't know this place"."""
        return self.projection.coverage

    def frames(self) -> list[Frame]:
        """The frames of the keyframes, in their order, on the cameras' device; read together, which is fast.

        Raises CorruptMemoryError if the stored pixels of one are damaged.
        """
        if self._read is None:
            return [keyframe.frame.to(self.cameras.device) for keyframe in self.keyframes]
        read = self._read([keyframe.id for keyframe in self.keyframes])
        return [frame.to(self.cameras.device) for frame in read]

    def explain(self) -> list[Contribution]:
        """Per keyframe what it sees of the query, and what it alone contributes, whatever the method."""
        return self._explain()

    def __reduce__(self) -> tuple[object, ...]:
        """A retrieval travels to another process whole: with the frames of its keyframes, and explained."""
        ids = [keyframe.id for keyframe in self.keyframes]
        places = [(keyframe.camera, keyframe.time) for keyframe in self.keyframes]
        carried = CarriedFrames(dict(zip(ids, self.frames(), strict=True)))
        whole = (self.cameras, self.projection, self.scores, self.recent, self.method)
        return _arrived, (*whole, list(zip(ids, places, strict=True)), carried, self.explain())


def _arrived(
    cameras: Camera,
    projection: Projection,
    scores: Tensor,
    recent: tuple[Frame, ...],
    method: str,
    places: list[tuple[int, tuple[Camera, float]]],
    carried: CarriedFrames,
    contributions: list[Contribution],
) -> Retrieval:
    """A retrieval that came from another process."""
    keyframes = tuple(Keyframe(id, *place, carried.read) for id, place in places)
    explain: Callable[[], list[Contribution]] = partial(list, contributions)
    return Retrieval(
        cameras, projection, keyframes, scores, recent, method, explain, carried.read_many
    )


@dataclass(frozen=True)
class Snapshot:
    """One committed state of a memory."""

    id: str
    message: str
    time: float
    """Seconds since 1970, of the commit."""
    keyframes: int
    until: float | None = None
    """Seconds, of the latest keyframe in it; None where there is none, or an older spmem committed."""


VALUES = {
    "rgb": (0.0, 1.0),
    "depth": (0.0, LARGEST),
    "confidence": (0.0, LARGEST),
    "features": (-LARGEST, LARGEST),
}
"""What the floats of a frame lie between."""


def _check_values(parts: Mapping[str, Tensor]) -> None:
    """Raises FrameError for values that no frame has; one wait for the device."""
    floats = {
        name: part.detach()
        for name, part in parts.items()
        if name in VALUES and part.is_floating_point() and part.numel()
    }
    if not floats:
        return
    if all(part.device.type == "cpu" for part in floats.values()):  # numpy's, on one thread
        arrays = [part.numpy() for part in floats.values()]
        ends = [[float(array.min()), float(array.max())] for array in arrays]
    else:
        ends = torch.stack([torch.stack(torch.aminmax(part)) for part in floats.values()]).tolist()
    for name, (low, high) in zip(floats, ends, strict=True):
        least, most = VALUES[name]
        if not (least <= low and high <= most):  # NaN fails
            raise FrameError(_outside(name, low, high))


def _outside(name: str, low: float, high: float) -> str:
    """What is wrong with values from ``low`` to ``high``."""
    if name != "depth":
        least, most = VALUES[name]
        return f"{name} must be finite, >= {least:g} and <= {most:g}, got values from {low:g} to {high:g}"
    if low < 0:
        return (
            f"depth has negative values (down to {low:g}): 0 means none; OpenGL's z points backward"
        )
    if LARGEST < high < float("inf"):
        return f"depth goes up to {high:g}, more than {LARGEST:g}: write 0 where nothing was seen"
    return (
        "depth has NaN or infinite values; write 0 where there is none: "
        "torch.nan_to_num(depth, 0, 0, 0)"
    )


def _tensor(value: Any, name: str) -> Tensor:
    if isinstance(value, Tensor):
        return value
    try:
        if isinstance(value, list | tuple) or hasattr(value, "__array_interface__"):
            # By way of an array, numbers come as they are, whatever torch's default dtype; so do PIL's images.
            value = value if isinstance(value, np.ndarray) else np.array(value)
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise FrameError(
            f"{name} must be a tensor or an array, got {type(value).__name__}: {error}"
        ) from error


def _rgb(value: Any, camera: Camera, validate: bool) -> Tensor:
    rgb, size = checked_rgb(value, validate=validate), (camera.height, camera.width)
    if rgb.shape[:2] != size:
        raise FrameError(
            f"rgb is {list(rgb.shape[:2])} (height, width), the camera {list(size)}; camera.resize() it"
        )
    return rgb


def checked_rgb(value: Any, *, validate: bool = True) -> Tensor:
    """Colour ``[H, W, 3]`` as a tensor, uint8 or float32 in [0, 1].

    Raises:
        FrameError: Another shape, no pixels, or float values outside [0, 1].
        DTypeError: Neither uint8 nor float.
    """
    rgb = _tensor(value, "rgb")
    if rgb.ndim == 3 and rgb.shape[0] == 3 and rgb.shape[-1] != 3:
        raise FrameError(
            f"rgb is channels first, {list(rgb.shape)}; spmem wants [H, W, 3]: rgb.permute(1, 2, 0)"
        )
    if rgb.ndim == 3 and rgb.shape[-1] == 4:
        raise FrameError("rgb has an alpha channel; composite it, or pass rgb[..., :3]")
    if rgb.ndim != 3 or rgb.shape[-1] != 3:
        raise FrameError(f"rgb must be [H, W, 3], got {list(rgb.shape)}")
    if not rgb.numel():
        raise FrameError(f"rgb has no pixels: {list(rgb.shape)}")
    if rgb.dtype == torch.uint8:
        return rgb
    if not rgb.is_floating_point():
        raise DTypeError(f"rgb must be uint8 or float in [0, 1], got {rgb.dtype}")
    if validate:
        low, high = (float(v) for v in torch.aminmax(rgb.detach()))
        if not (low >= -1e-3 and high <= 1 + 1e-3):  # NaN fails both
            hint = (
                "; divide by 255"
                if high > 2
                else "; from [-1, 1] take (rgb + 1) / 2"
                if low < -0.1
                else ""
            )
            raise FrameError(f"float rgb must lie in [0, 1], got {low:g} to {high:g}{hint}")
    return rgb.to(torch.float32).clamp(0, 1)


def _depth(value: Any, camera: Camera) -> Tensor:
    depth, size = _tensor(value, "depth"), (camera.height, camera.width)
    if not depth.is_floating_point():
        raise DTypeError(
            f"depth must be float in world units, got {depth.dtype}: its scale is unknown; millimetres are depth.float() / 1000"
        )
    if depth.ndim == 3 and 1 in (depth.shape[0], depth.shape[-1]):
        raise FrameError(f"depth must be [H, W], got {list(depth.shape)}; squeeze() it")
    if depth.shape != size:
        raise FrameError(
            f"depth must be {list(size)} (height, width) as the camera, got {list(depth.shape)}"
        )
    return depth.to(torch.float32)


def _time(value: float | None) -> float | None:
    if value is None:
        return None
    try:
        time = float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise FrameError(f"time must be finite seconds, got {value!r:.80} ({error})") from None
    if not abs(time) <= SECONDS:  # NaN fails
        raise FrameError(
            f"time must be finite seconds, at most {SECONDS:g} (what float32 holds), got {time:g}"
        )
    return time


SECONDS = float(torch.finfo(torch.float32).max)
"""The largest time: surfels keep theirs as float32."""


def _confidence(value: Any, camera: Camera) -> Tensor:
    confidence = _tensor(value, "confidence").to(torch.float32)
    if confidence.shape != (camera.height, camera.width):
        raise FrameError(
            f"confidence must be {[camera.height, camera.width]} as the depth, got {list(confidence.shape)}"
        )
    return confidence


def _features(value: Any, camera: Camera) -> Tensor:
    features = _tensor(value, "features").to(torch.float32)
    if features.ndim != 3 or features.shape[:2] != (camera.height, camera.width):
        raise FrameError(
            f"features must be [{camera.height}, {camera.width}, C], got {list(features.shape)}"
        )
    return features


def _latent(value: Any) -> Tensor:
    latent = _tensor(value, "latent")
    if not latent.is_floating_point():
        raise DTypeError(f"a latent is of floats, got {latent.dtype}; latent.to(torch.float16)")
    return latent
