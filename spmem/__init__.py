"""spmem: geometry-grounded episodic memory for autoregressive video world models."""

from spmem.camera import Camera
from spmem.types import Contribution, Frame, Keyframe, Projection, Retrieval, Snapshot, Surfels

__version__ = "0.1.0"
__all__ = [
    "Camera",
    "Contribution",
    "Frame",
    "Keyframe",
    "Projection",
    "Retrieval",
    "Snapshot",
    "Surfels",
    "__version__",
]
