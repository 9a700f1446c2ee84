"""Pure functions of multiple-view geometry: poses, projection, rays, normals, axis conventions."""

from spmem.geometry.conventions import (
    colmap_from_opencv,
    gsplat_from_opencv,
    opencv_from_colmap,
    opencv_from_gsplat,
    opencv_from_opengl,
    opencv_from_pytorch3d,
    opengl_from_opencv,
    pytorch3d_from_opencv,
)
from spmem.geometry.normals import normals_from_depth
from spmem.geometry.plucker import plucker_rays
from spmem.geometry.projection import (
    intrinsics_from_fov,
    pixel_centres,
    project,
    rays,
    unproject,
)
from spmem.geometry.se3 import (
    interpolate,
    inverse,
    look_at,
    matrix_from_quaternion,
    nearest_rotation,
    quaternion_from_matrix,
    rigid_error,
    transform,
)

__all__ = [
    "colmap_from_opencv",
    "gsplat_from_opencv",
    "interpolate",
    "intrinsics_from_fov",
    "inverse",
    "look_at",
    "matrix_from_quaternion",
    "nearest_rotation",
    "normals_from_depth",
    "opencv_from_colmap",
    "opencv_from_gsplat",
    "opencv_from_opengl",
    "opencv_from_pytorch3d",
    "opengl_from_opencv",
    "pixel_centres",
    "plucker_rays",
    "project",
    "pytorch3d_from_opencv",
    "quaternion_from_matrix",
    "rays",
    "rigid_error",
    "transform",
    "unproject",
]
