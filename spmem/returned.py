"""What parts of other hands return, checked like input: shape, dtype, device, finite values, range.

One function a seam calls the part and checks what came. Nothing is stored when one raises.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from spmem.camera import LARGEST, Camera
from spmem.errors import CameraError, DeviceError, DTypeError, FrameError, InputError, SpmemError
from spmem.query import Query, Selection
from spmem.torch_modes import kept
from spmem.types import Frame, Pointmaps, Projection
from spmem.views import Views

if TYPE_CHECKING:
    from spmem.protocols import (
        DepthEstimator,
        DynamicSegmenter,
        Memory,
        PointmapEstimator,
        PoseTracker,
        Renderer,
        Retriever,
    )

UNIT = 1e-2
"""How far the length of a unit vector may be from 1 (half precision has three digits)."""


def depth_from(
    estimator: DepthEstimator,
    rgb: Float[Tensor, "t h w 3"],
    cameras: Camera,
    known: Projection | None = None,
) -> Float[Tensor, "t h w"]:
    """What a depth estimator returns, as float32.

    Raises:
        FrameError: Another shape than ``[T, H, W]``, values that are not finite, negative, or above 1e9.
        DTypeError: No float tensor.
        DeviceError: Another device than the frames'.
    """
    who = f"depth estimator {name_of(estimator)}"
    wanted = [len(cameras), cameras.height, cameras.width]
    return checked_depth(estimator(rgb, cameras, known), wanted, rgb.device, who)


def checked_depth(
    depth: Any, wanted: list[int], device: torch.device, who: str
) -> Float[Tensor, "t h w"]:
    """Depth that ``who`` returned, as float32; raises as :func:`depth_from` does."""
    floats: Tensor = _floats(depth, wanted, device, who, "depth", FrameError)
    _require_between(floats, 0.0, LARGEST, f"{who} returned depth", ", 0 for none")
    return floats


def moving_from(
    segmenter: DynamicSegmenter, frames: Sequence[Frame], known: Projection | None = None
) -> Bool[Tensor, "t h w"]:
    """What a segmenter returns.

    Raises:
        FrameError: Another shape than ``[T, H, W]``.
        DTypeError: No tensor of bool.
        DeviceError: Another device than the frames'.
    """
    who, camera = f"dynamic segmenter {name_of(segmenter)}", frames[0].camera
    found = segmenter(frames, known)
    if not isinstance(found, Tensor) or found.dtype != torch.bool:
        raise DTypeError(f"{who} returned {_kind(found)}, wanted a bool tensor [T, H, W]")
    _require_shape(found, [len(frames), camera.height, camera.width], who, "", FrameError)
    _require_device(found, camera.device, who)
    return found


def vectors_from(returned: Any, count: int, dim: int, who: str) -> NDArray[np.float32]:
    """Descriptors ``[count, dim]`` that an embedder returned, of unit length.

    Raises:
        InputError: Another shape, values that are not finite, or vectors of another length.
        DTypeError: No float tensor.
    """
    device = returned.device if isinstance(returned, Tensor) else torch.device("cpu")
    vectors = _floats(returned, [count, dim], device, who, "descriptors", InputError)
    array: NDArray[np.float32] = vectors.cpu().numpy()
    length = np.linalg.norm(array, axis=1)
    if not (np.abs(length - 1) <= UNIT).all():  # NaN fails
        raise InputError(
            f"{who} returned descriptors of length {length.min():g} to {length.max():g}, wanted unit "
            "length: torch.nn.functional.normalize(vectors, dim=-1)"
        )
    return array


def selection_from(rule: Retriever, query: Query, views: Views, k: int) -> Selection:
    """What a rule of retrieval answers.

    Raises:
        InputError: Not a :class:`spmem.query.Selection` of at most k ids of ``views``, each once, none of
            ``query.exclude``, with as many scores that are not NaN.
    """
    chosen, who = rule.select(query, views, k), f"retrieval rule {name_of(rule)}"
    if not isinstance(chosen, Selection):
        raise InputError(f"{who} answered {_kind(chosen)}, wanted a spmem.query.Selection")
    ids, scores = np.asarray(chosen.ids), np.asarray(chosen.scores)
    if ids.ndim != 1 or scores.shape != ids.shape or (ids.size and ids.dtype.kind not in "iu"):
        raise InputError(
            f"{who} answered ids {list(ids.shape)} of {ids.dtype} and scores {list(scores.shape)}, "
            "wanted whole numbers [m] and as many scores"
        )
    if len(ids) > k or len(np.unique(ids)) != len(ids):
        raise InputError(f"{who} answered {_some(ids)}, wanted at most {k} ids, each once")
    wrong = ids[~np.isin(ids, views.ids) | np.isin(ids, query.exclude)]
    if len(wrong):
        raise InputError(
            f"{who} answered {_some(wrong)}, which is no keyframe or may not be answered"
        )
    if scores.dtype.kind not in "iufb" or np.isnan(scores.astype(np.float64)).any():
        raise InputError(f"{who} answered scores that are NaN or no numbers: {_some(scores)}")
    return Selection(ids.astype(np.int64), scores.astype(np.float32))


def dropped_from(named: Any, ids: NDArray[np.int64], count: int, who: str) -> NDArray[np.int64]:
    """The keyframes that a retention policy named: ``count`` of ``ids``, each once. Raises InputError."""
    found = named.detach().cpu().numpy() if isinstance(named, Tensor) else np.asarray(named)
    if (
        found.shape != (count,)
        or found.dtype.kind not in "iu"
        or len(np.unique(found)) != count
        or not np.isin(found, ids).all()
    ):
        raise InputError(
            f"retention policy {who} was to name {count} of the {len(ids)} keyframes it was given, "
            f"each once, got {_some(found)}"
        )
    return found.astype(np.int64)


def camera_from(
    tracker: PoseTracker,
    rgb: Float[Tensor, "h w 3"],
    depth: Float[Tensor, "h w"] | None,
    guess: Camera,
    memory: Memory,
) -> Camera:
    """The camera that a tracker finds. Raises CameraError: no single camera of the guess's size, or no rigid pose."""
    found, who = tracker(rgb, depth, guess, memory), f"pose tracker {name_of(tracker)}"
    if not isinstance(found, Camera) or found.shape:
        raise CameraError(f"{who} returned {_kind(found)}, wanted a single spmem.Camera")
    if (found.width, found.height) != (guess.width, guess.height):
        raise CameraError(
            f"{who} returned a camera of {found.width}x{found.height}, wanted {guess.width}x{guess.height}"
        )
    _require_device(found.K, guess.device, who)
    return _rightly(found, who)


def pointmaps_from(
    estimator: PointmapEstimator, rgb: Float[Tensor, "t h w 3"], cameras: Camera | None = None
) -> Pointmaps:
    """What a pointmap estimator returns, as float32.

    Raises:
        FrameError: Not a map a frame, values that are not finite, negative, or above 1e9.
        CameraError: Cameras of another number or size than the maps, or that no camera is.
        InputError: No :class:`spmem.Pointmaps`.
    """
    found, who = estimator(rgb, cameras), f"pointmap estimator {name_of(estimator)}"
    if not isinstance(found, Pointmaps):
        raise InputError(f"{who} returned {_kind(found)}, wanted spmem.Pointmaps")
    own = found.cameras
    if not isinstance(own, Camera) or own.shape != (len(rgb),):
        raise CameraError(f"{who} returned {own!r}, wanted cameras [{len(rgb)}], one a frame")
    wanted = [len(rgb), own.height, own.width]
    depth = checked_depth(found.depth, wanted, own.device, who)
    sure = _floats(found.confidence, wanted, own.device, who, "confidence", FrameError)
    _require_between(sure, 0.0, LARGEST, f"{who} returned confidence", "")
    return Pointmaps(_rightly(own, who), depth, sure)


def projection_from(renderer: Renderer, surfels: Any, cameras: Camera) -> Projection:
    """What a renderer draws.

    Raises:
        InputError: No :class:`spmem.Projection` of these cameras, or images of other shapes or dtypes.
        DeviceError: Another device than the cameras'.
    """
    seen, who = renderer(surfels, cameras), f"renderer {name_of(renderer)}"
    if not isinstance(seen, Projection):
        raise InputError(f"{who} returned {_kind(seen)}, wanted a spmem.Projection")
    size = [len(cameras), cameras.height, cameras.width]
    for name, channels, kind in _IMAGES:
        image = getattr(seen, name)
        _require_shape(image, [*size, *channels], who, f"{name} ", InputError)
        if image.dtype != kind:
            raise DTypeError(f"{who} returned {name} of {image.dtype}, wanted {kind}")
        _require_device(image, cameras.device, who)
    return seen


_IMAGES: tuple[tuple[str, tuple[int, ...], torch.dtype], ...] = (
    ("rgb", (3,), torch.float32),
    ("depth", (), torch.float32),
    ("normal", (3,), torch.float32),
    ("mask", (), torch.bool),
    ("surfel_ids", (), torch.int64),
)


def name_of(part: Any) -> str:
    """What to call a part: its function's name or its class's."""
    return str(getattr(part, "__qualname__", None) or type(part).__name__)


def _floats(
    value: Any,
    wanted: list[int],
    device: torch.device,
    who: str,
    what: str,
    error: type[SpmemError],
) -> Tensor:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise DTypeError(f"{who} returned {_kind(value)}, wanted a float tensor {wanted} of {what}")
    _require_shape(value, wanted, who, f"{what} ", error)
    _require_device(value, device, who)
    return kept(value).to(torch.float32)


def _require_shape(
    value: Any, wanted: list[int], who: str, what: str, error: type[SpmemError]
) -> None:
    if not isinstance(value, Tensor) or list(value.shape) != wanted:
        got = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise error(f"{who} returned {what}{got}, wanted {wanted}")


def _require_device(value: Tensor, device: torch.device, who: str) -> None:
    if value.device != device:
        raise DeviceError(
            f"{who} returned a tensor on {value.device}, what it was given is on {device}"
        )


def _require_between(value: Tensor, least: float, most: float, what: str, more: str) -> None:
    if not value.numel():
        return
    low, high = torch.stack(torch.aminmax(value)).tolist()
    if not (least <= low and high <= most):  # NaN fails
        raise FrameError(
            f"{what} from {low:g} to {high:g}, wanted finite values from {least:g} to {most:g}{more}"
        )


def _rightly(camera: Camera, who: str) -> Camera:
    try:
        return camera.checked()
    except CameraError as error:
        raise CameraError(f"{who} returned a camera of which {error}") from error


def _kind(value: Any) -> str:
    return f"a tensor of {value.dtype}" if isinstance(value, Tensor) else type(value).__name__


def _some(values: NDArray[Any]) -> str:
    shown = ", ".join(map(str, values.reshape(-1)[:8].tolist()))
    return f"[{shown}{', …' if values.size > 8 else ''}]"
