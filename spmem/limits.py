"""How large numbers may be: within these bounds float32's sums and products of three lengths stay finite."""

FARTHEST = 1e12
"""World units: no coordinate, distance or size is larger."""
FINEST = 1e-12
"""World units: no voxel and no disc is smaller."""
LONGEST = 1e9
"""Pixels: no focal length is longer, no principal point farther from the picture's corner."""
SHORTEST = 1e-3
"""Pixels: no focal length is shorter."""
SUREST = 1e12
"""No confidence is larger."""
STRONGEST = 1e30
"""No entry of a feature is larger."""
