"""What feed-forward reconstruction networks answer, as cameras and depth; and placed in the memory's world.

VGGT, MapAnything and Depth Anything 3 are projects with their own code, which is not called here: these functions take the
answers that their documentation describes. A :class:`spmem.protocols.PointmapEstimator` of one of them is a function of
three lines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from spmem import geometry
from spmem.camera import Camera
from spmem.errors import CameraError, FrameError, InputError
from spmem.integrations.depth.alignment import ENOUGH
from spmem.integrations.depth.network import InverseDepth
from spmem.protocols import PointmapEstimator
from spmem.returned import pointmaps_from
from spmem.types import Pointmaps, Projection

STANDING = 0.01
"""Cameras that keep within this share of the median depth give no scale."""


def from_vggt(predictions: Mapping[str, Any]) -> Pointmaps:
    """The answer of VGGT (arXiv 2503.11651; github.com/facebookresearch/vggt, README "Quick Start").

    Args:
        predictions: What ``model(images)`` returns for one scene: ``pose_enc [1, S, 9]`` (translation and quaternion x y z w
            of world-to-camera, fields of view in height and width in radians), ``depth [1, S, H, W, 1]`` and
            ``depth_conf [1, S, H, W]``. The leading 1 may be left out.

    Raises InputError where a key is missing or has another shape.
    """
    pose = _read_entry(predictions, "pose_enc", "VGGT", 2)
    depth = _read_entry(predictions, "depth", "VGGT", 4)
    if pose.shape[-1] != 9 or depth.shape[-1] != 1:
        raise InputError(
            f"VGGT gives pose_enc [S, 9] and depth [S, H, W, 1], got {list(pose.shape)} and {list(depth.shape)}"
        )
    height, width = depth.shape[1:3]
    w2c = torch.eye(4).repeat(len(pose), 1, 1)
    w2c[:, :3, :3] = geometry.matrix_from_quaternion(pose[:, [6, 3, 4, 5]])
    w2c[:, :3, 3] = pose[:, :3]
    K = torch.eye(3).repeat(len(pose), 1, 1)
    K[:, 0, 0] = width / 2 / torch.tan(pose[:, 8] / 2)
    K[:, 1, 1] = height / 2 / torch.tan(pose[:, 7] / 2)
    K[:, 0, 2], K[:, 1, 2] = width / 2, height / 2
    confidence = _read_entry(predictions, "depth_conf", "VGGT", 3)
    return _make_pointmaps(K, geometry.inverse(w2c), depth[..., 0], confidence)


def from_mapanything(predictions: Sequence[Mapping[str, Any]]) -> Pointmaps:
    """The answer of MapAnything (arXiv 2509.13414; github.com/facebookresearch/map-anything, README "Image-Only Inference").

    Args:
        predictions: What ``model.infer(views)`` returns: for each view ``depth_z [1, H, W, 1]``, ``intrinsics [1, 3, 3]``,
            ``camera_poses [1, 4, 4]`` (camera-to-world, OpenCV axes), ``conf [1, H, W]`` and ``mask [1, H, W, 1]``; a pixel
            outside the mask has no depth.

    Raises InputError where a key is missing or has another shape.
    """
    if not predictions:
        raise InputError("MapAnything gives one dictionary a view, got none")
    name = "MapAnything"
    K = torch.stack([_read_entry(view, "intrinsics", name, 2) for view in predictions])
    c2w = torch.stack([_read_entry(view, "camera_poses", name, 2) for view in predictions])
    depth = torch.stack([_read_entry(view, "depth_z", name, 3)[..., 0] for view in predictions])
    confidence = torch.stack([_read_entry(view, "conf", name, 2) for view in predictions])
    if all("mask" in view for view in predictions):
        mask = torch.stack([_read_entry(view, "mask", name, 3)[..., 0] for view in predictions])
        depth = torch.where(mask > 0.5, depth, 0.0)
    return _make_pointmaps(K, c2w, depth, confidence)


def from_depth_anything_3(prediction: Any) -> Pointmaps:
    """The answer of Depth Anything 3 (arXiv 2511.10647; github.com/ByteDance-Seed/Depth-Anything-3, README "Basic Usage").

    Args:
        prediction: What ``model.inference(images)`` returns, with ``depth [N, H, W]``, ``conf [N, H, W]``, ``extrinsics
            [N, 3, 4]`` (world-to-camera, OpenCV axes) and ``intrinsics [N, 3, 3]`` as attributes, or a mapping of these.

    Raises InputError where one is missing or has another shape.
    """
    names = ("depth", "conf", "extrinsics", "intrinsics")
    found = prediction if isinstance(prediction, Mapping) else {
        name: getattr(prediction, name) for name in names if getattr(prediction, name, None) is not None
    }  # fmt: skip
    depth, confidence, w2c, K = (_read_entry(found, name, "Depth Anything 3", 3) for name in names)
    bottom = torch.tensor([0.0, 0.0, 0.0, 1.0]).expand(len(w2c), 1, 4)
    return _make_pointmaps(
        K, geometry.inverse(torch.cat([w2c[:, :3], bottom], 1)), depth, confidence
    )


def align_to_cameras(pointmaps: Pointmaps, cameras: Camera) -> Pointmaps:
    """Pointmaps in the world of cameras ``[T]`` whose poses are known, by the similarity that fits best.

    Rotation from the cameras' rotations, so that any way will do; scale and translation from their positions (Umeyama,
    PAMI 1991, with the rotation given). The poses become the known ones, the depth is scaled; intrinsics stay.

    Raises:
        CameraError: Not as many cameras.
        InputError: The cameras stand still, which gives no scale.
    """
    found = pointmaps.cameras
    if cameras.shape != found.shape:
        raise CameraError(f"wanted {len(found)} cameras, one a map, got {list(cameras.shape)}")
    p, q = found.position.double(), cameras.position.to(found.device).double()
    p, q = p - p.mean(0), q - q.mean(0)
    turns = cameras.c2w[:, :3, :3].to(found.device).double() @ found.c2w[:, :3, :3].double().mT
    R = geometry.nearest_rotation(turns.mean(0))
    spread = float(p.square().sum())
    depth = pointmaps.depth
    there = depth > 0
    reach = STANDING * float(depth[there].median()) if bool(there.any()) else 0.0
    if spread <= len(p) * reach**2:
        raise InputError(
            "the cameras stand still, which gives no scale; take frames from a moving camera, or fit the depth to a map"
        )
    scale = float(((p @ R.mT) * q).sum()) / spread
    if not scale > 0:
        raise InputError("the estimated cameras move otherwise than the known ones")
    moved = Camera(
        found.K,
        cameras.c2w.to(found.device),
        width=found.width,
        height=found.height,
        validate=False,
    )
    return replace(pointmaps, cameras=moved, depth=depth * scale)


class PointmapDepth:
    """A pointmap estimator as a depth estimator: only its depth is taken, in the scale of the memory.

    Where memory covers the frames, each frame's depth is fitted to what memory renders and refused where it does not fit
    (:class:`spmem.integrations.depth.network.InverseDepth`); elsewhere the scale comes from the cameras' motion
    (:func:`align_to_cameras`). Maps of another size than the frames, but the same aspect, are sampled at the nearest pixel.

    Args:
        estimator: Any :class:`spmem.protocols.PointmapEstimator`.
        tolerance: As in :func:`spmem.integrations.depth.alignment.align_inverse`.
        agreement: Likewise.
    """

    def __init__(
        self, estimator: PointmapEstimator, *, tolerance: float = 0.1, agreement: float = 0.5
    ) -> None:
        self.estimator = estimator
        self._fitted = InverseDepth(self._inverse_depth, tolerance=tolerance, agreement=agreement)

    @torch.no_grad()
    def __call__(
        self, rgb: Float[Tensor, "t h w 3"], cameras: Camera, known: Projection | None = None
    ) -> Float[Tensor, "t h w"]:
        """z-depth in world units, 0 = none.

        Raises:
            FrameError: Not a map a frame, or of another aspect.
            DepthMisfitError: The depth does not fit the map.
            InputError: Memory covers nothing and the cameras stand still.
        """
        if known is not None and float(known.mask.float().mean()) >= ENOUGH:
            return self._fitted(rgb, cameras, known)
        return _sample_depth(
            align_to_cameras(pointmaps_from(self.estimator, rgb, cameras), cameras).depth, rgb
        )

    def _inverse_depth(
        self, rgb: Float[Tensor, "t h w 3"], cameras: Camera
    ) -> Float[Tensor, "t h w"]:
        depth = _sample_depth(pointmaps_from(self.estimator, rgb, cameras).depth, rgb)
        return torch.where(depth > 0, 1 / depth.clamp(min=1e-12), 0.0)


def _read_entry(found: Mapping[str, Any], name: str, network: str, ndim: int) -> Tensor:
    """A value as float tensor of ``ndim`` dims, without a leading batch dim of 1."""
    if name not in found:
        raise InputError(f"{network}'s answer lacks {name!r}; it has {', '.join(sorted(found))}")
    value = torch.as_tensor(found[name]).detach().float()
    if value.ndim == ndim + 1 and value.shape[0] == 1:
        value = value[0]
    if value.ndim != ndim:
        hint = "; one scene at a time" if value.ndim == ndim + 1 else ""
        raise InputError(f"{network}'s {name} is {list(value.shape)}, wanted {ndim} dims{hint}")
    return value


def _make_pointmaps(
    K: Tensor, c2w: Tensor, depth: Float[Tensor, "t h w"], confidence: Float[Tensor, "t h w"]
) -> Pointmaps:
    if confidence.shape != depth.shape or len(K) != len(depth) or len(c2w) != len(depth):
        raise InputError(
            f"depth is {list(depth.shape)}, confidence {list(confidence.shape)}, for {len(K)} intrinsics and {len(c2w)} poses"
        )
    height, width = depth.shape[1:]
    clean = geometry.nearest_rotation(c2w).to(depth.device)  # networks answer in half precision
    depth = torch.where(torch.isfinite(depth) & (depth > 0), depth, 0.0)
    sure = torch.nan_to_num(confidence.clamp(min=0), 0, 0, 0)
    there = depth > 0
    typical = sure[there].median() if bool(there.any()) else sure.new_ones(())
    cameras = Camera(K.to(depth.device), clean, width=width, height=height)
    return Pointmaps(cameras, depth, sure / typical.clamp(min=1e-6))


def _sample_depth(
    depth: Float[Tensor, "t a b"], rgb: Float[Tensor, "t h w 3"]
) -> Float[Tensor, "t h w"]:
    """The map's depth at the frames' pixels."""
    (t, a, b), (n, h, w) = depth.shape, rgb.shape[:3]
    if t != n or abs(b / a * h / w - 1) > 0.05:
        raise FrameError(f"the estimator gave maps {[t, a, b]} of frames {[n, h, w]}")
    y = ((torch.arange(h) + 0.5) * a / h).long().to(depth.device)
    x = ((torch.arange(w) + 0.5) * b / w).long().to(depth.device)
    return depth[:, y[:, None], x[None, :]].to(rgb.device)
