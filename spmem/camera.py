"""Camera: intrinsics, pose and image size, one or a whole trajectory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from spmem import geometry
from spmem.device import CPU, as_device
from spmem.errors import CameraError, DeviceError, DTypeError
from spmem.geometry.conventions import ColmapCamera, GsplatCamera, Pytorch3dCamera
from spmem.torch_modes import bound, kept

RIGID_TOLERANCE = 1e-3
LARGEST = 1e9
"""The largest coordinate of a camera and the largest depth, in world units: sums of squares of them are float32 numbers."""
STEEPEST = 1e3
"""The most that a pixel's ray goes aside for a step ahead: 89.94 degrees."""
COARSEST = 2e-3
"""The largest relative step of a dtype that poses may come in: float16's is 0.001, bfloat16's 0.008."""


class Camera:
    """Pinhole cameras: OpenCV axes (+x right, +y down, +z forward), pixel centres at +0.5.

    Args:
        K: ``[..., 3, 3]`` intrinsics in pixels, no skew.
        c2w: ``[..., 4, 4]`` rigid camera-to-world transforms. The leading dims of K and c2w broadcast.
        width: Image width in pixels.
        height: Image height in pixels.
        validate: Check the values (a host-device copy on CUDA); shapes are always checked.

    Array-likes are converted; both tensors are float32, on ``c2w``'s device. Immutable: operations
    return new cameras. Leading dims are indexed, iterated and counted as a tensor's.

    Raises:
        CameraError: Wrong shape, not finite, K singular or skewed, a pose that is not rigid, a position beyond 1e9.
        DTypeError: bfloat16 or coarser, which puts a camera 5 m away off by up to 2 cm.
        DeviceError: K and c2w on different devices.

    Example:
        >>> camera = Camera.look_at([0, 0, 0], [0, 0, 1], up=[0, -1, 0], fov_x=1.2, width=64, height=48)
        >>> camera.rays().shape
        torch.Size([48, 64, 3])
    """

    __slots__ = ("K", "c2w", "height", "width")
    K: Float[Tensor, "*b 3 3"]
    c2w: Float[Tensor, "*b 4 4"]
    width: int
    height: int

    def __init__(self, K: Any, c2w: Any, *, width: int, height: int, validate: bool = True) -> None:
        K, c2w = _as_float(K, "K"), _as_float(c2w, "c2w")
        if K.shape[-2:] != (3, 3):
            raise CameraError(
                f"K must be [..., 3, 3], got {list(K.shape)}; of fx, fy, cx, cy build the matrix"
            )
        if c2w.shape[-2:] != (4, 4):
            hint = "; append the row 0 0 0 1" if c2w.shape[-2:] == (3, 4) else ""
            raise CameraError(f"c2w must be [..., 4, 4], got {list(c2w.shape)}{hint}")
        if K.device != c2w.device:
            raise DeviceError(f"K is on {K.device} and c2w on {c2w.device}; move one with .to(...)")
        width, height = _edge(width, "width"), _edge(height, "height")
        try:
            batch = np.broadcast_shapes(K.shape[:-2], c2w.shape[:-2])
        except ValueError as error:
            raise CameraError(
                f"leading dims of K {list(K.shape[:-2])} and c2w {list(c2w.shape[:-2])} do not broadcast"
            ) from error
        if validate:
            _check_intrinsics(K.detach(), width, height)
            _check_pose(c2w.detach())
        set_ = object.__setattr__
        set_(self, "K", K.expand(*batch, 3, 3))
        set_(self, "c2w", c2w.expand(*batch, 4, 4))
        set_(self, "width", width)
        set_(self, "height", height)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"Camera is immutable; build a new one instead of setting {name}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("Camera is immutable")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.K, self.c2w, self.width, self.height)

    def __repr__(self) -> str:
        batch = list(self.shape) or "one"
        return f"Camera({batch}, {self.width}x{self.height}, {self.device})"

    # -- as a sequence ------------------------------------------------------------------------------

    @property
    def shape(self) -> torch.Size:
        """The leading (batch) dims; empty for a single camera."""
        return self.K.shape[:-2]

    @property
    def device(self) -> torch.device:
        """Where K and c2w live."""
        return self.K.device

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a single Camera has no length; camera[None] is a trajectory of one")
        return self.shape[0]

    def __getitem__(self, index: Any) -> Camera:
        index = index if isinstance(index, tuple) else (index,)
        rest = () if any(part is Ellipsis for part in index) else (Ellipsis,)
        at = (*index, *rest, slice(None), slice(None))  # the matrices stay whole
        return self._with(self.K[at], self.c2w[at])

    def __iter__(self) -> Iterator[Camera]:
        return (self[i] for i in range(len(self)))

    @staticmethod
    def stack(cameras: Sequence[Camera]) -> Camera:
        """One trajectory ``[n, ...]`` of n cameras of one image size."""
        if not cameras:
            raise CameraError("stack needs at least one camera")
        first = cameras[0]
        for camera in cameras:
            if (camera.width, camera.height) != (first.width, first.height):
                raise CameraError(
                    f"cameras of one trajectory share an image size, got {first.width}x{first.height} "
                    f"and {camera.width}x{camera.height}; resize() them first"
                )
        K, c2w = torch.stack([c.K for c in cameras]), torch.stack([c.c2w for c in cameras])
        return first._with(K, c2w)

    def to(self, device: torch.device | str) -> Camera:
        """The same camera on another device. Raises DeviceError, and DTypeError for a dtype: cameras keep float32."""
        device = as_device(device)
        return self._with(self.K.to(device), self.c2w.to(device))

    def checked(self) -> Camera:
        """The camera, checked as on construction, its tensors without graph or inference mode. Raises CameraError.

        Cameras made with ``validate=False`` get their check here; it reads both matrices, once.
        """
        K, c2w = self.K.detach().to(CPU), self.c2w.detach().to(CPU)
        size = max(self.width, self.height)
        if self.shape or not _plainly_right(K.tolist(), c2w.tolist(), size):
            _check_intrinsics(K, self.width, self.height)
            _check_pose(c2w)
        free = not bound(self.K) and not bound(self.c2w)
        return self if free else self._with(kept(self.K), kept(self.c2w))

    def _with(self, K: Tensor, c2w: Tensor) -> Camera:
        return Camera(K, c2w, width=self.width, height=self.height, validate=False)

    # -- pose and pixels ----------------------------------------------------------------------------

    @property
    def w2c(self) -> Float[Tensor, "*b 4 4"]:
        """World-to-camera."""
        return geometry.inverse(self.c2w)

    @property
    def position(self) -> Float[Tensor, "*b 3"]:
        """The optical centre in the world."""
        return self.c2w[..., :3, 3]

    @property
    def forward(self) -> Float[Tensor, "*b 3"]:
        """The unit viewing direction in the world."""
        return self.c2w[..., :3, 2]

    def rays(self) -> Float[Tensor, "*b h w 3"]:
        """World directions of the pixels, scaled so that ``position + depth * ray`` is the point seen."""
        return geometry.rays(self.K, self.width, self.height) @ self.c2w[..., None, :3, :3].mT

    def plucker(self) -> Float[Tensor, "*b h w 6"]:
        """Plücker rays (unit direction, moment); see :func:`spmem.geometry.plucker_rays`."""
        return geometry.plucker_rays(self.K, self.c2w, self.width, self.height)

    def project(self, points: Tensor) -> tuple[Float[Tensor, "*b n 2"], Float[Tensor, "*b n"]]:
        """Pixel (x, y) and z-depth of world points ``[..., n, 3]``; depth <= 0 is behind the camera."""
        return geometry.project(points, self.K, self.c2w)

    def unproject(self, depth: Tensor) -> Float[Tensor, "*b h w 3"]:
        """World points of a depth image ``[..., h, w]`` of this camera's size."""
        if depth.shape[-2:] != (self.height, self.width):
            raise CameraError(
                f"depth is {list(depth.shape)}, the camera {self.height} high, {self.width} wide"
            )
        return geometry.unproject(depth, self.K, self.c2w)

    def resize(self, width: int, height: int) -> Camera:
        """The same view in other pixels (K is scaled; the field of view stays)."""
        scale = torch.tensor(
            [width / self.width, height / self.height, 1.0], dtype=torch.float32, device=self.device
        )
        return Camera(self.K * scale[:, None], self.c2w, width=width, height=height, validate=False)

    # -- making one ---------------------------------------------------------------------------------

    @classmethod
    def from_fov(cls, fov_x: float, c2w: Any, *, width: int, height: int) -> Camera:
        """Square pixels, principal point in the middle, ``fov_x`` radians wide."""
        if not 0 < fov_x < 3.14159:
            raise CameraError(f"fov_x must be between 0 and pi radians, got {fov_x}")
        c2w = _as_float(c2w, "c2w")
        return cls(
            geometry.intrinsics_from_fov(fov_x, width, height).to(c2w.device),
            c2w,
            width=width,
            height=height,
        )

    @classmethod
    def look_at(
        cls,
        position: Any,
        target: Any,
        *,
        up: Any = (0.0, -1.0, 0.0),
        fov_x: float = 1.2,
        width: int,
        height: int,
    ) -> Camera:
        """A camera at ``position`` that looks at ``target``; ``up`` is the world's up (default -y)."""
        position, target, up = (
            _as_float(v, "position, target and up") for v in (position, target, up)
        )
        away = target - position
        if bool(
            (
                torch.linalg.cross(away, up.expand_as(away)).norm(dim=-1) < 1e-6 * away.norm(dim=-1)
            ).any()
        ):
            raise CameraError(
                "look_at: target equals position, or up is parallel to the viewing direction"
            )
        return cls.from_fov(
            fov_x, geometry.look_at(position, target, up), width=width, height=height
        )

    # -- other libraries' cameras -------------------------------------------------------------------

    @classmethod
    def from_opengl(cls, K: Any, c2w: Any, *, width: int, height: int) -> Camera:
        """From OpenGL or Blender axes (+y up, +z backward), camera-to-world."""
        return cls(
            K, geometry.opencv_from_opengl(_as_float(c2w, "c2w")), width=width, height=height
        )

    def to_opengl(self) -> Float[Tensor, "*b 4 4"]:
        """c2w with OpenGL axes."""
        return geometry.opengl_from_opencv(self.c2w)

    @classmethod
    def from_nerfstudio(cls, transform_matrix: Any, intrinsics: dict[str, Any]) -> Camera:
        """From a ``transforms.json`` frame: its matrix and the keys fl_x, fl_y, cx, cy, w, h."""
        try:
            fl_x, w, h = float(intrinsics["fl_x"]), int(intrinsics["w"]), int(intrinsics["h"])
        except KeyError as error:
            raise CameraError(
                f"nerfstudio intrinsics lack {error}; wanted fl_x, fl_y, cx, cy, w, h"
            ) from None
        c2w = _as_float(transform_matrix, "transform_matrix")
        K = torch.eye(3, dtype=torch.float32, device=c2w.device)
        K[0, 0], K[1, 1] = fl_x, float(intrinsics.get("fl_y", fl_x))
        K[0, 2], K[1, 2] = float(intrinsics.get("cx", w / 2)), float(intrinsics.get("cy", h / 2))
        return cls.from_opengl(K, c2w, width=w, height=h)

    def to_nerfstudio(self) -> dict[str, Any]:
        """A single camera as a ``transforms.json`` frame: plain numbers, OpenGL axes."""
        if self.shape:
            raise CameraError(
                f"to_nerfstudio writes one camera, this is a trajectory of {list(self.shape)}"
            )
        K = self.K.tolist()
        return {
            "fl_x": K[0][0], "fl_y": K[1][1], "cx": K[0][2], "cy": K[1][2], "w": self.width, "h": self.height,
            "transform_matrix": self.to_opengl().tolist(),
        }  # fmt: skip

    @classmethod
    def from_pytorch3d(
        cls, R: Any, T: Any, focal_length: Any, principal_point: Any, *, width: int, height: int
    ) -> Camera:
        """From the tensors of a PyTorch3D ``PerspectiveCameras`` in NDC."""
        R, T = _as_float(R, "R"), _as_float(T, "T")
        focal, centre = (
            _as_float(focal_length, "focal_length"),
            _as_float(principal_point, "principal_point"),
        )
        K, c2w = geometry.opencv_from_pytorch3d(R, T, focal, centre, width, height)
        return cls(K, c2w, width=width, height=height)

    def to_pytorch3d(self) -> Pytorch3dCamera:
        """Keyword arguments for ``pytorch3d.renderer.PerspectiveCameras``."""
        return geometry.pytorch3d_from_opencv(self.K, self.c2w, self.width, self.height)

    @classmethod
    def from_gsplat(cls, viewmats: Any, Ks: Any, *, width: int, height: int) -> Camera:
        """From gsplat's world-to-camera matrices and intrinsics."""
        return cls(
            Ks,
            geometry.opencv_from_gsplat(_as_float(viewmats, "viewmats")),
            width=width,
            height=height,
        )

    def to_gsplat(self) -> GsplatCamera:
        """Keyword arguments for ``gsplat.rasterization``."""
        return geometry.gsplat_from_opencv(self.K, self.c2w, self.width, self.height)

    @classmethod
    def from_colmap(cls, params: Any, qvec: Any, tvec: Any, *, width: int, height: int) -> Camera:
        """From a COLMAP PINHOLE camera (fx, fy, cx, cy) and its image's qvec (wxyz) and tvec."""
        params, qvec, tvec = (_as_float(v, "COLMAP camera") for v in (params, qvec, tvec))
        K, c2w = geometry.opencv_from_colmap(params, qvec, tvec)
        return cls(K, c2w, width=width, height=height)

    def to_colmap(self) -> ColmapCamera:
        """PINHOLE parameters, qvec and tvec, as COLMAP writes them."""
        return geometry.colmap_from_opencv(self.K, self.c2w, self.width, self.height)


def _rebuild(K: Tensor, c2w: Tensor, width: int, height: int) -> Camera:
    return Camera(K, c2w, width=width, height=height, validate=False)


def _edge(value: Any, name: str) -> int:
    try:
        edge = int(value)
    except (TypeError, ValueError, OverflowError):
        edge = 0
    if edge < 1 or edge != value:
        raise CameraError(f"width and height must be positive integers, got {name}={value!r:.80}")
    return edge


def _as_float(value: Any, name: str) -> Tensor:
    try:
        if not isinstance(value, Tensor):
            return torch.as_tensor(value, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise CameraError(
            f"{name} must be a tensor or array of numbers, got {type(value).__name__}"
        ) from error
    if value.is_floating_point() and torch.finfo(value.dtype).eps > COARSEST:
        raise DTypeError(
            f"{name} is {value.dtype}, which holds two to three digits: rotations are not rigid and positions are off "
            "by up to 0.4 %; keep cameras in float32, also where a model runs in less"
        )
    return value.to(torch.float32)


def _plainly_right(K: list[list[float]], c2w: list[list[float]], size: int) -> bool:
    """Whether a single camera is right beyond doubt; what is not, the checks below look at."""
    (fx, skew, cx), (zero, fy, cy), last = K
    x, y, z, bottom = c2w
    right, down, ahead = zip(x[:3], y[:3], z[:3], strict=True)
    products = (
        (right, right, 1.0), (down, down, 1.0), (ahead, ahead, 1.0),
        (right, down, 0.0), (right, ahead, 0.0), (down, ahead, 0.0),
    )  # fmt: skip
    turned = (
        right[1] * down[2] - right[2] * down[1],
        right[2] * down[0] - right[0] * down[2],
        right[0] * down[1] - right[1] * down[0],
    )
    return (
        skew == zero == 0
        and last == [0, 0, 1]
        and bottom == [0, 0, 0, 1]
        and min(fx, fy) >= 4  # NaN fails, here and below
        and 2 * max(size, abs(cx), abs(cy)) <= STEEPEST * min(fx, fy) < LARGEST
        and all(abs(row[3]) <= LARGEST for row in (x, y, z))
        and all(abs(_dot(a, b) - one) <= RIGID_TOLERANCE / 2 for a, b, one in products)
        and _dot(turned, ahead) > 0.5
    )


def _dot(a: Sequence[float], b: Sequence[float]) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _check_intrinsics(K: Tensor, width: int, height: int) -> None:
    if not bool(torch.isfinite(K).all()):
        raise CameraError("K has values that are not finite")
    fx, fy = K[..., 0, 0], K[..., 1, 1]
    if not bool(((fx > 0) & (fy > 0)).all()):
        raise CameraError(
            f"K is singular or mirrored: focal lengths must be positive, got fx {fx.min():g}, fy {fy.min():g}"
        )
    rest = torch.stack(
        [K[..., 0, 1], K[..., 1, 0], K[..., 2, 0], K[..., 2, 1], K[..., 2, 2] - 1], -1
    )
    if bool((rest.abs().amax(-1) > 1e-4 * torch.maximum(fx, torch.ones_like(fx))).any()):
        raise CameraError(
            "K must be [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]: rectify skewed images, do not transpose K"
        )
    if width > 4 and bool((fx < 4).any()) and bool((K[..., :2, 2].abs() <= 2).all()):
        raise CameraError(
            "K looks normalised by the image size; spmem wants pixels: scale the rows by width and height"
        )
    edges = torch.tensor([width, height], dtype=K.dtype, device=K.device)
    aside = torch.maximum(K[..., :2, 2].abs(), (edges - K[..., :2, 2]).abs())
    aside = (aside / torch.stack([fx, fy], -1)).amax() if K.numel() else K.new_zeros(())
    if not float(aside) <= STEEPEST:
        raise CameraError(
            f"K has rays that go {float(aside):.3g} aside for 1 ahead, at most {STEEPEST:g} is a picture: look at the "
            "focal lengths and the principal point"
        )


def _check_pose(c2w: Tensor) -> None:
    if not bool(torch.isfinite(c2w).all()):
        raise CameraError("c2w has values that are not finite")
    far = float(c2w[..., :3, 3].abs().max()) if c2w.numel() else 0.0
    if far > LARGEST:
        raise CameraError(
            f"c2w stands {far:.3g} world units from the origin, at most {LARGEST:g}; move the world to the cameras"
        )
    error = float(geometry.rigid_error(c2w).max()) if c2w.numel() else 0.0
    if error <= RIGID_TOLERANCE:
        return
    if c2w.shape[-1] == 4 and bool((geometry.rigid_error(c2w.mT) <= RIGID_TOLERANCE).all()):
        raise CameraError("c2w is transposed: the translation stands in its last row; pass c2w.mT")
    raise CameraError(
        f"c2w is not rigid (off by {error:.2g}, allowed {RIGID_TOLERANCE:g}): a rotation has orthonormal columns and "
        "determinant +1; clean a nearly rigid one with spmem.geometry.nearest_rotation(c2w), divide out a scale yourself"
    )
