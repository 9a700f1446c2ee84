"""Memories and frames in the formats of other tools; every file or folder appears whole or not at all."""

from spmem.integrations.writers.colmap import write_colmap
from spmem.integrations.writers.lerobot import LeRobotEpisode, write_lerobot
from spmem.integrations.writers.nerfstudio import write_nerfstudio
from spmem.integrations.writers.ply import read_ply, write_ply
from spmem.integrations.writers.realestate10k import write_realestate10k
from spmem.integrations.writers.tum import write_tum
from spmem.integrations.writers.video import write_video

__all__ = [
    "LeRobotEpisode",
    "read_ply",
    "write_colmap",
    "write_lerobot",
    "write_nerfstudio",
    "write_ply",
    "write_realestate10k",
    "write_tum",
    "write_video",
]
