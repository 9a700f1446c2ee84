"""Adapters for diffusers pipelines: each is a :class:`spmem.protocols.Generator` for :func:`spmem.rollout`.

Needs ``pip install 'spmem[diffusers]'``; the pipelines are loaded by you::

    pipe = WanVACEPipeline.from_pretrained("Wan-AI/Wan2.1-VACE-1.3B-diffusers", torch_dtype=torch.bfloat16).to("cuda")
    generator = WanVace(pipe, num_inference_steps=30)
    for chunk in spmem.rollout(generator, memory, cameras, prompt="a kitchen", chunk=12): ...
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from spmem.integrations.diffusers.anyflow import AnyFlow
from spmem.integrations.diffusers.helios import Helios
from spmem.integrations.diffusers.latent_blend import LatentBlend
from spmem.integrations.diffusers.ltx_condition import LtxCondition
from spmem.integrations.diffusers.sana_wm import SanaWm
from spmem.integrations.diffusers.skyreels import SkyReels
from spmem.integrations.diffusers.text_to_video import TextToVideo
from spmem.integrations.diffusers.wan_image import WanImage
from spmem.integrations.diffusers.wan_vace import WanVace

if TYPE_CHECKING:
    from spmem.integrations.diffusers.modular import HeliosRetrieveBlock, RetrieveBlock

__all__ = [
    "AnyFlow",
    "Helios",
    "HeliosRetrieveBlock",
    "LatentBlend",
    "LtxCondition",
    "RetrieveBlock",
    "SanaWm",
    "SkyReels",
    "TextToVideo",
    "WanImage",
    "WanVace",
]


def __getattr__(name: str) -> Any:
    """The blocks, which alone need diffusers to be defined."""
    if name not in ("HeliosRetrieveBlock", "RetrieveBlock"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("spmem.integrations.diffusers.modular"), name)
