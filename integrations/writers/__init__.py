"""Memories and frames in the formats of other tools; every file or folder appears whole or not at all."""

from spmem.integrations.writers.colmap import write_colmap
from spmem.integrations.writers.nerfstudio import write_nerfstudio
from spmem.integrations.writers.ply import read_ply, write_ply

__all__ = ["read_ply", "write_colmap", "write_nerfstudio", "write_ply"]
