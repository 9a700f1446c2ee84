"""Bounds of lengths in world units, within which float32's sums and products of three of them stay finite."""

FARTHEST = 1e12
"""No coordinate and no size is larger: what the steepest ray of the farthest camera meets."""
FINEST = 1e-12
"""No voxel and no disc is smaller."""
