"""Cameras that nobody gave: each frame's pose, found against the map that the frames before it made."""

from collections.abc import Callable, Mapping
from typing import Any

from spmem.integrations.tracking.errors import TrajectoryError, trajectory_error
from spmem.integrations.tracking.following import Followed, follow
from spmem.integrations.tracking.icp import ProjectiveIcp, TrackingLostError

TRACKERS: Mapping[str, Callable[..., Any]] = {"projective-icp": ProjectiveIcp}
"""The shipped pose trackers by name; installed packages add theirs (:mod:`spmem.plugins`)."""

__all__ = [
    "TRACKERS",
    "Followed",
    "ProjectiveIcp",
    "TrackingLostError",
    "TrajectoryError",
    "follow",
    "trajectory_error",
]
