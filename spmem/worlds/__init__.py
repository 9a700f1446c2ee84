"""Procedural houses with exact colour, depth, normals and instance ids, and ways to walk through them.

World axes suit OpenCV cameras: +y is down, the floor is y = 0, up is -y. One world unit is meant as a metre.
"""

from spmem.worlds.house import House, View
from spmem.worlds.noise import DepthNoise
from spmem.worlds.trajectories import loop, reverse, rotate_and_return, walk

__all__ = ["DepthNoise", "House", "View", "loop", "reverse", "rotate_and_return", "walk"]
