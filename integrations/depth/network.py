"""Depth by trained networks: Depth Anything and Depth Pro (extra ``perception``), or any network that you have.

:mod:`spmem.integrations.pretrained` says where weights come from.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from spmem.camera import Camera
from spmem.errors import FrameError, InputError
from spmem.integrations.depth.alignment import ENOUGH, align_inverse
from spmem.integrations.pretrained import HALF, IMAGENET, pretrained, scaled
from spmem.types import Projection

LEAST = 518
"""Pixels of the shorter edge that Depth Anything was trained with (arXiv 2401.10891, section 4)."""
FARTHEST = 1e4
"""Depth in metres at which a metric network's answer is cut off."""

Network = Callable[[Float[Tensor, "t h w 3"], Camera], Float[Tensor, "t h w"]]


class InverseDepth:
    """A network's inverse depth, in the scale of the memory.

    Where memory covers the frames it is fitted to what memory renders, and refused where it does not fit
    (:func:`spmem.integrations.depth.alignment.align_inverse`). Where memory covers nothing, as in the first frame of
    all, a metric network is taken at its word, and another one refused.

    Args:
        network: Gives inverse depth ``[T, H, W]``, larger is nearer, of images ``[T, H, W, 3]`` in [0, 1] and their
            cameras ``[T]``.
        metric: Whether it is 1 over depth in world units; else it is right up to scale and shift.
        tolerance: As in ``align_inverse``.
        agreement: Likewise.

    Example:
        >>> from spmem.testing.room_memory import RoomMemory
        >>> memory = RoomMemory(unknown=0.3)
        >>> cameras = memory.room.walk(2, width=64, height=48)
        >>> truth = memory.room.render(cameras)
        >>> estimate = InverseDepth(lambda rgb, cameras: 5 / truth.depth + 2)  # stands for a network
        >>> depth = estimate(truth.rgb, cameras, memory.retrieve(cameras).projection)
        >>> bool(((depth / truth.depth - 1).abs() < 0.01).all())
        True
    """

    def __init__(
        self,
        network: Network,
        *,
        metric: bool = False,
        tolerance: float = 0.1,
        agreement: float = 0.5,
    ) -> None:
        self.network, self.metric = network, metric
        self.tolerance, self.agreement = tolerance, agreement

    @torch.no_grad()
    def __call__(
        self, rgb: Float[Tensor, "t h w 3"], cameras: Camera, known: Projection | None = None
    ) -> Float[Tensor, "t h w"]:
        """z-depth in world units, 0 = none.

        Raises:
            FrameError: The network returned another shape.
            DepthMisfitError: Its answer does not fit the map.
            InputError: Memory covers nothing and the network is not metric.
        """
        inverse = self.network(rgb, cameras).to(rgb.device, torch.float32)
        if inverse.shape != rgb.shape[:-1]:
            raise FrameError(
                f"the network returned {list(inverse.shape)}, wanted {list(rgb.shape[:-1])}"
            )
        covered = 0.0 if known is None else float(known.mask.float().mean())
        if known is not None and (covered >= ENOUGH or not self.metric):
            return align_inverse(
                inverse, known, tolerance=self.tolerance, agreement=self.agreement
            ).depth
        if self.metric:
            return torch.where(inverse > 1 / FARTHEST, 1 / inverse.clamp(min=1 / FARTHEST), 0.0)
        raise InputError(
            "this network's depth has no scale, and known=None: pass what memory renders, or take a metric network"
        )


class DepthAnything(InverseDepth):
    """Depth Anything V1 and V2 (arXiv 2401.10891, 2406.09414), relative or metric as the model's configuration says.

    Images keep their aspect: the shorter edge becomes 518 pixels, both multiples of the patch.

    Args:
        model: A folder or a name on the hub of a ``DepthAnythingForDepthEstimation``, or such a module.
        device: Where the model is to run; None leaves it where it is (the CPU, if it is read here).
        tolerance: As in ``align_inverse``.
        agreement: Likewise.

    Raises:
        MissingExtraError: transformers is not installed.
        OSError: No such model, or none in safetensors.
        InputError: A model of another kind.
    """

    def __init__(
        self,
        model: str | Path | torch.nn.Module = "depth-anything/Depth-Anything-V2-Small-hf",
        *,
        device: torch.device | str | None = None,
        tolerance: float = 0.1,
        agreement: float = 0.5,
    ) -> None:
        kind = "DepthAnythingForDepthEstimation"
        self.model = pretrained(model, kind, "depth-anything", device)
        metric = self.model.config.depth_estimation_type == "metric"
        super().__init__(
            self._inverse_depth, metric=metric, tolerance=tolerance, agreement=agreement
        )

    def _inverse_depth(
        self, rgb: Float[Tensor, "t h w 3"], cameras: Camera
    ) -> Float[Tensor, "t h w"]:
        config = self.model.config
        patch, shorter = int(config.patch_size), min(rgb.shape[1:3])
        least = min(LEAST, int(config.backbone_config.image_size))
        size = [max(round(edge * least / shorter / patch), 1) * patch for edge in rgb.shape[1:3]]
        answers = []
        for image in rgb:  # one at a time: a chunk of a large model may not fit
            pixels = scaled(image[None], (size[0], size[1]), IMAGENET)
            pixels = pixels.to(self.model.device, self.model.dtype)
            answers.append(self.model(pixel_values=pixels).predicted_depth)
        answer = _resize_answer(torch.cat(answers), rgb)
        return 1 / answer.clamp(min=1 / FARTHEST) if self.metric else answer


class DepthPro(InverseDepth):
    """Depth Pro (arXiv 2410.02073): metric, by the focal length of the cameras that are asked about.

    The network gives inverse depth of a camera one image wide of focal length; the cameras' own focal length makes it
    metric, and the field of view that it estimates besides is not used.

    Args:
        model: A folder or a name on the hub of a ``DepthProForDepthEstimation``, or such a module.
        device: Where the model is to run; None leaves it where it is (the CPU, if it is read here).
        tolerance: As in ``align_inverse``.
        agreement: Likewise.

    Raises:
        MissingExtraError: transformers is not installed.
        OSError: No such model, or none in safetensors.
        InputError: A model of another kind.
    """

    def __init__(
        self,
        model: str | Path | torch.nn.Module = "apple/DepthPro-hf",
        *,
        device: torch.device | str | None = None,
        tolerance: float = 0.1,
        agreement: float = 0.5,
    ) -> None:
        self.model = pretrained(model, "DepthProForDepthEstimation", "depth-pro", device)
        super().__init__(self._inverse_depth, metric=True, tolerance=tolerance, agreement=agreement)

    def _inverse_depth(
        self, rgb: Float[Tensor, "t h w 3"], cameras: Camera
    ) -> Float[Tensor, "t h w"]:
        config = self.model.config
        edge = int(config.patch_size / min(config.scaled_images_ratios))
        answers = []
        for image in rgb:
            pixels = scaled(image[None], (edge, edge), HALF, "bilinear")
            pixels = pixels.to(self.model.device, self.model.dtype)
            answers.append(self.model(pixel_values=pixels).predicted_depth)
        focal = cameras.K[:, 0, 0].to(rgb.device) / cameras.width
        return _resize_answer(torch.cat(answers), rgb) / focal[:, None, None]


def _resize_answer(
    answer: Float[Tensor, "t a b"], rgb: Float[Tensor, "t h w 3"]
) -> Float[Tensor, "t h w"]:
    """A network's answer at the images' size and place."""
    answer = answer.float().to(rgb.device)
    size = (rgb.shape[1], rgb.shape[2])
    return torch.nn.functional.interpolate(answer[:, None], size, mode="bilinear")[:, 0]
