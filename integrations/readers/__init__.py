"""Data sets of posed frames, read lazily: one file a format, :func:`open_walk` for all of them."""

from spmem.integrations.readers.colmap import open_colmap
from spmem.integrations.readers.folders import open_folders
from spmem.integrations.readers.lerobot import EpisodeRows, open_lerobot, read_lerobot
from spmem.integrations.readers.nerfstudio import open_nerfstudio
from spmem.integrations.readers.opening import FORMATS, detect_format, open_walk
from spmem.integrations.readers.realestate10k import (
    Clip,
    open_realestate10k,
    read_realestate10k,
)
from spmem.integrations.readers.seven_scenes import open_7scenes
from spmem.integrations.readers.trajectories import read_cameras
from spmem.integrations.readers.tum import open_tum
from spmem.integrations.readers.video import open_video
from spmem.integrations.readers.walk import Walk

__all__ = [
    "FORMATS",
    "Clip",
    "EpisodeRows",
    "Walk",
    "detect_format",
    "open_7scenes",
    "open_colmap",
    "open_folders",
    "open_lerobot",
    "open_nerfstudio",
    "open_realestate10k",
    "open_tum",
    "open_video",
    "open_walk",
    "read_cameras",
    "read_lerobot",
    "read_realestate10k",
]
