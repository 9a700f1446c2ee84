"""Cameras that nobody gave: each frame's pose, found against the map that the frames before it made."""

from spmem.integrations.tracking.errors import TrajectoryError, trajectory_error
from spmem.integrations.tracking.following import TrackedFrame, follow
from spmem.integrations.tracking.icp import ProjectiveIcp, TrackingLostError

__all__ = [
    "ProjectiveIcp",
    "TrackedFrame",
    "TrackingLostError",
    "TrajectoryError",
    "follow",
    "trajectory_error",
]
