"""Procedural houses with exact colour, depth, normals and instance ids, and ways to walk through them.

World axes suit OpenCV cameras: +y is down, the floor is y = 0, up is -y. One world unit is meant as a metre.
"""

from spmem.testing.worlds.house import House, View
from spmem.testing.worlds.noise import DepthNoise
from spmem.testing.worlds.trajectories import loop, reverse, rotate_and_return, walk

__all__ = ["DepthNoise", "House", "View", "loop", "reverse", "rotate_and_return", "walk"]
