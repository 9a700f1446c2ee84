"""spmem: geometry-grounded episodic memory for autoregressive video world models."""

from spmem import errors
from spmem.camera import Camera
from spmem.config import (
    FusionConfig,
    KeyframeConfig,
    MemoryConfig,
    RetentionConfig,
    RetrievalConfig,
)
from spmem.generating import FrameCount, Generated, GeneratorSpec, from_function
from spmem.memory import SpatialMemory
from spmem.opening import open
from spmem.rollout import Chunk, rollout
from spmem.types import (
    Contribution,
    Frame,
    Keyframe,
    Match,
    Pointmaps,
    Projection,
    Retrieval,
    Snapshot,
    Surfels,
)
from spmem.where import Where

__version__ = "0.1.0"
__all__ = [
    "Camera",
    "Chunk",
    "Contribution",
    "Frame",
    "FrameCount",
    "FusionConfig",
    "Generated",
    "GeneratorSpec",
    "Keyframe",
    "KeyframeConfig",
    "Match",
    "MemoryConfig",
    "Pointmaps",
    "Projection",
    "RetentionConfig",
    "Retrieval",
    "RetrievalConfig",
    "Snapshot",
    "SpatialMemory",
    "Surfels",
    "Where",
    "__version__",
    "errors",
    "from_function",
    "open",
    "rollout",
]
