"""A block for diffusers' modular pipelines that asks memory what the blocks after it need."""

from __future__ import annotations

from typing import Any

from spmem.camera import Camera
from spmem.errors import InputError, MissingExtraError
from spmem.generating import FrameCount, GeneratorSpec, fitted
from spmem.integrations.diffusers.wan_vace import controls
from spmem.protocols import Memory
from spmem.types import Retrieval

try:
    from diffusers.modular_pipelines.modular_pipeline import ModularPipelineBlocks
    from diffusers.modular_pipelines.modular_pipeline_utils import InputParam, OutputParam
except ImportError as error:
    raise MissingExtraError("diffusers", "diffusers", "RetrieveBlock") from error


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
        """Of the pipeline, by name."""
        return [
            InputParam("memory", type_hint=Memory, required=True, description="A spmem memory"),
            InputParam("cameras", type_hint=Camera, required=True, description="Trajectory [T]"),
            InputParam("k", type_hint=int, default=4, description="Keyframes to retrieve"),
            InputParam("method", type_hint=str, description="A rule of retrieval, or memory's own"),
            InputParam("tail", type_hint=int, default=5, description="Last frames to go on from"),
        ]

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        """For the blocks after it, and for the caller."""
        return [
            OutputParam("video", description="The last frames, then the rendered memory"),
            OutputParam("mask", description="1 = to be generated"),
            OutputParam("reference_images", type_hint=list, description="Retrieved keyframes"),
            OutputParam("height", type_hint=int, description="Of the cameras"),
            OutputParam("width", type_hint=int, description="Of the cameras"),
            OutputParam("num_frames", type_hint=int, description="Last frames and cameras"),
            OutputParam("retrieval", type_hint=Retrieval, description="All that memory said"),
            OutputParam("kept", type_hint=slice, description="The cameras' frames of the video"),
        ]

    def __call__(self, components: Any, state: Any) -> tuple[Any, Any]:
        """Run by the pipeline."""
        block: Any = self.get_block_state(state)
        cameras, stride = block.cameras, components.vae_scale_factor_temporal
        if not isinstance(cameras, Camera) or len(cameras.shape) != 1:
            raise InputError("cameras are a spmem.Camera, a trajectory [T]")
        multiple = components.vae_scale_factor_spatial * components.patch_size_spatial
        spec = GeneratorSpec(FrameCount(stride, 1), multiple, echoed=block.tail, echo_stride=stride)
        spec.check_size(cameras)
        context, echoed = fitted(
            lambda asked: block.memory.retrieve(asked, k=block.k, method=block.method),
            cameras,
            spec,
        )
        told = controls(context, echoed, stride) | {
            "height": cameras.height,
            "width": cameras.width,
            "num_frames": echoed + len(context.cameras),
            "retrieval": context,
            "kept": slice(echoed, echoed + len(cameras)),
        }
        for name, value in told.items():
            setattr(block, name, value)
        self.set_block_state(state, block)
        return components, state
