"""Blocks for diffusers' modular pipelines that ask memory what the blocks after them need."""

from __future__ import annotations

from typing import Any

import torch

from spmem.camera import Camera
from spmem.errors import InputError, MissingExtraError
from spmem.generating import FrameCount, GeneratorSpec, retrieve_for
from spmem.integrations.diffusers.helios import HeliosHistory
from spmem.integrations.diffusers.wan_vace import controls
from spmem.protocols import Memory
from spmem.types import Retrieval

try:
    from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
    from diffusers.modular_pipelines.modular_pipeline import ModularPipelineBlocks
    from diffusers.modular_pipelines.modular_pipeline_utils import (
        ComponentSpec,
        InputParam,
        OutputParam,
    )
except ImportError as error:
    raise MissingExtraError("diffusers", "diffusers", "RetrieveBlock") from error

INPUTS = (
    InputParam("memory", type_hint=Memory, required=True, description="A spmem memory"),
    InputParam("cameras", type_hint=Camera, required=True, description="Trajectory [T]"),
    InputParam("k", type_hint=int, default=4, description="Keyframes to retrieve"),
    InputParam("method", type_hint=str, description="A rule of retrieval, or memory's own"),
)
OUTPUTS = (
    OutputParam("height", type_hint=int, description="Of the cameras"),
    OutputParam("width", type_hint=int, description="Of the cameras"),
    OutputParam("num_frames", type_hint=int, description="Repeated last frames, and new ones"),
    OutputParam("retrieval", type_hint=Retrieval, description="All that memory said"),
    OutputParam("kept", type_hint=slice, description="The cameras' frames of the video"),
)
NOISE = tuple(f"{kind}_noise_sigma_{end}" for kind in ("image", "video") for end in ("min", "max"))


class RetrieveBlock(ModularPipelineBlocks):
    """Retrieves inside a modular pipeline: put it first among blocks that take a control video, as ``Wan22VaceBlocks``.

    It takes ``memory``, ``cameras`` ``[T]``, ``k``, ``method`` and ``tail`` (last frames to go on from, 4n + 1) as inputs of
    the pipeline, and gives the blocks after it ``video``, ``mask``, ``reference_images``, ``height``, ``width`` and
    ``num_frames``, as :class:`spmem.integrations.diffusers.WanVace` does. ``retrieval`` is all that memory said, for
    blocks of your own; ``kept`` is the slice of the pipeline's frames that belongs to the cameras.

    Example::

        blocks = Wan22VaceBlocks()
        blocks.sub_blocks.insert("memory", RetrieveBlock(), 0)
        pipe = blocks.init_pipeline("a/repository")
        pipe.load_components()
        made = pipe(memory=memory, cameras=cameras, prompt="a room", output=["videos", "kept"])
        frames = made["videos"][0][made["kept"]]
    """

    @property
    def description(self) -> str:
        """One line, for diffusers."""
        return "Asks a spmem memory for what must stay consistent along cameras"

    @property
    def inputs(self) -> list[InputParam]:
        """Inputs of the pipeline, by name."""
        tail = InputParam("tail", type_hint=int, default=5, description="Last frames to go on from")
        return [*INPUTS, tail]

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        """For the blocks after it, and for the caller."""
        return [
            OutputParam("video", description="The last frames, then the rendered memory"),
            OutputParam("mask", description="1 = to be generated"),
            OutputParam("reference_images", type_hint=list, description="Retrieved keyframes"),
            *OUTPUTS,
        ]

    def __call__(self, components: Any, state: Any) -> tuple[Any, Any]:
        """Run by the pipeline."""
        block: Any = self.get_block_state(state)
        stride, space = components.vae_scale_factor_temporal, components.vae_scale_factor_spatial
        spec = GeneratorSpec(
            frames=FrameCount(stride, 1),
            multiple=space * components.patch_size_spatial,
            echoed=block.tail,
            echo_stride=stride,
        )
        context, echoed = retrieve_for_block(block, spec)
        write_outputs(block, context, echoed, **controls(context, echoed, stride))
        self.set_block_state(state, block)
        return components, state


class HeliosRetrieveBlock(ModularPipelineBlocks):
    """Retrieves inside a modular pipeline of Helios: put it first into ``HeliosAutoBlocks``.

    Inputs as those of :class:`RetrieveBlock`, with Helios' ``history_sizes`` and ``num_latent_frames_per_chunk``; it gives
    the blocks after it ``image_latents`` and ``video_latents`` as :class:`spmem.integrations.diffusers.Helios` does, and one
    window to make. Where memory has nothing yet, the pipeline makes text to video.
    """

    _history: HeliosHistory | None = None  # with the latents of keyframes that it has seen

    @property
    def description(self) -> str:
        """One line, for diffusers."""
        return "Asks a spmem memory for keyframes and the last frames as Helios' history"

    @property
    def expected_components(self) -> list[ComponentSpec]:
        """The autoencoder."""
        return [ComponentSpec("vae", AutoencoderKLWan)]

    @property
    def inputs(self) -> list[InputParam]:
        """Inputs of the pipeline, by name."""
        return [
            *INPUTS,
            InputParam("tail", type_hint=int, default=9, description="Last frames to go on from"),
            InputParam("history_sizes", type_hint=list, default=[16, 2, 1]),
            InputParam("num_latent_frames_per_chunk", type_hint=int, default=9),
        ]

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        """For the blocks after it, and for the caller."""
        return [
            OutputParam("image_latents", description="The best keyframe"),
            OutputParam("video_latents", description="Keyframes and the last frames"),
            *(OutputParam(name, type_hint=float, description="None is added") for name in NOISE),
            *OUTPUTS,
        ]

    def __call__(self, components: Any, state: Any) -> tuple[Any, Any]:
        """Run by the pipeline."""
        block: Any = self.get_block_state(state)
        stride, window = components.vae_scale_factor_temporal, block.num_latent_frames_per_chunk
        spec = GeneratorSpec(FrameCount.fixed(stride * (window - 1) + 1), multiple=16)
        context, _ = retrieve_for_block(block, spec)
        if self._history is None or (self._history.tail, self._history.sizes) != (
            block.tail,
            sorted(block.history_sizes, reverse=True),
        ):
            self._history = HeliosHistory(block.tail, block.history_sizes, stride=stride)
        first, slots = self._history(components, context)
        if slots is not None:
            first = torch.zeros_like(slots[:, :, :1]) if first is None else first
            empty = -slots.shape[2] % window  # the pipeline drops what is beyond whole windows
            slots = torch.cat(
                [slots.new_zeros(*slots.shape[:2], empty, *slots.shape[3:]), slots], 2
            )
        write_outputs(
            block, context, 0, image_latents=first, video_latents=slots, **dict.fromkeys(NOISE, 0.0)
        )
        self.set_block_state(state, block)
        return components, state


def retrieve_for_block(block: Any, spec: GeneratorSpec) -> tuple[Retrieval, int]:
    """What memory says about the cameras of a block's state, and how many of the last frames are repeated."""
    if not isinstance(block.cameras, Camera) or len(block.cameras.shape) != 1:
        raise InputError("cameras are a spmem.Camera, a trajectory [T]")
    spec.check_size(block.cameras)
    return retrieve_for(
        lambda cameras: block.memory.retrieve(cameras, k=block.k, method=block.method),
        block.cameras,
        spec,
    )


def write_outputs(block: Any, context: Retrieval, echoed: int, **more: Any) -> None:
    """Write what every block reports, and what this one adds, into the block's state."""
    facts = {
        "height": context.cameras.height,
        "width": context.cameras.width,
        "num_frames": echoed + len(context.cameras),
        "retrieval": context,
        "kept": slice(echoed, echoed + len(block.cameras)),
    }
    for name, value in (facts | more).items():
        setattr(block, name, value)
