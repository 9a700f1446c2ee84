"""Rigid transforms as 4x4 matrices, batch-generic: ``T_b_a`` takes points of a into b."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def inverse(T_b_a: Float[Tensor, "*b 4 4"]) -> Float[Tensor, "*b 4 4"]:
    """The inverse of a rigid transform, by its transpose (no general inversion)."""
    R_a_b = T_b_a[..., :3, :3].mT
    t = -(R_a_b @ T_b_a[..., :3, 3:])
    bottom = T_b_a[..., 3:, :]
    return torch.cat([torch.cat([R_a_b, t], -1), bottom], -2)


def transform(
    T_b_a: Float[Tensor, "*b 4 4"], points: Float[Tensor, "*b n 3"]
) -> Float[Tensor, "*b n 3"]:
    """Take points given in a into b."""
    return points @ T_b_a[..., :3, :3].mT + T_b_a[..., None, :3, 3]


def rigid_error(T: Float[Tensor, "*b 4 4"]) -> Float[Tensor, "*b"]:
    """How far a matrix is from a rigid transform: max |R Rᵀ - 1|, |det R - 1|, last row against 0 0 0 1."""
    T = T.double()
    R = T[..., :3, :3]
    eye = torch.eye(3, dtype=T.dtype, device=T.device)
    orthogonal = (R @ R.mT - eye).abs().amax((-2, -1))
    handed = (torch.linalg.det(R) - 1).abs()
    last = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=T.dtype, device=T.device)
    return torch.stack([orthogonal, handed, (T[..., 3, :] - last).abs().amax(-1)], -1).amax(-1)


def nearest_rotation(T: Float[Tensor, "*b n n"]) -> Float[Tensor, "*b n n"]:
    """The same pose with its 3x3 block replaced by the nearest rotation (Frobenius norm, by SVD).

    Device trackers and text files leave rotations that are orthogonal to three digits only. Takes
    [..., 3, 3] or [..., 4, 4]; dtype and device stay.
    """
    U, _, Vh = torch.linalg.svd(T[..., :3, :3].double())
    sign = torch.ones(U.shape[:-1], dtype=U.dtype, device=U.device)
    sign[..., 2] = torch.linalg.det(U @ Vh)
    out = T.clone()
    out[..., :3, :3] = (U @ (sign[..., None] * Vh)).to(T.dtype)
    return out


def look_at(
    position: Float[Tensor, "*b 3"], target: Float[Tensor, "*b 3"], up: Float[Tensor, "*b 3"]
) -> Float[Tensor, "*b 4 4"]:
    """The camera-to-world pose (OpenCV axes) at ``position`` that looks at ``target``, ``up`` upwards."""
    forward = torch.nn.functional.normalize(target - position, dim=-1)
    right = torch.nn.functional.normalize(
        torch.linalg.cross(forward, up.expand_as(forward)), dim=-1
    )
    down = torch.linalg.cross(forward, right)
    pose = torch.zeros(*position.shape[:-1], 4, 4, dtype=position.dtype, device=position.device)
    pose[..., :3, :] = torch.stack([right, down, forward, position], -1)
    pose[..., 3, 3] = 1
    return pose


def matrix_from_quaternion(wxyz: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 3 3"]:
    """Rotation matrices of quaternions (w first; normalised here)."""
    w, x, y, z = torch.nn.functional.normalize(wxyz, dim=-1).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, -1).reshape(*wxyz.shape[:-1], 3, 3)


def quaternion_from_matrix(R: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 4"]:
    """Unit quaternions (w first, w >= 0) of rotation matrices, by the best-conditioned of four forms."""
    m = [[R[..., i, j] for j in range(3)] for i in range(3)]
    diagonal = torch.stack(
        [
            1 + m[0][0] + m[1][1] + m[2][2],
            1 + m[0][0] - m[1][1] - m[2][2],
            1 - m[0][0] + m[1][1] - m[2][2],
            1 - m[0][0] - m[1][1] + m[2][2],
        ],
        -1,
    )
    a, b, c = m[2][1] - m[1][2], m[0][2] - m[2][0], m[1][0] - m[0][1]
    d, e, f = m[1][0] + m[0][1], m[0][2] + m[2][0], m[2][1] + m[1][2]
    d0, d1, d2, d3 = diagonal.unbind(-1)
    forms = torch.stack(
        [
            torch.stack([d0, a, b, c], -1),
            torch.stack([a, d1, d, e], -1),
            torch.stack([b, d, d2, f], -1),
            torch.stack([c, e, f, d3], -1),
        ],
        -2,
    )
    best = diagonal.argmax(-1)[..., None, None].expand(*diagonal.shape[:-1], 1, 4)
    q = torch.nn.functional.normalize(forms.gather(-2, best).squeeze(-2), dim=-1)
    return torch.where(q[..., :1] < 0, -q, q)


def interpolate(poses: Float[Tensor, "n 4 4"], at: Float[Tensor, " m"]) -> Float[Tensor, "m 4 4"]:
    """Poses between key poses: positions linearly, rotations by slerp; ``at`` in 0 .. n - 1."""
    lower = at.floor().long().clamp(0, max(len(poses) - 2, 0))
    upper = (lower + 1).clamp(max=len(poses) - 1)
    w = (at - lower).clamp(0, 1)[:, None]
    q0, q1 = (
        quaternion_from_matrix(poses[lower, :3, :3]),
        quaternion_from_matrix(poses[upper, :3, :3]),
    )
    dot = (q0 * q1).sum(-1, keepdim=True)
    q1, dot = torch.where(dot < 0, -q1, q1), dot.abs().clamp(max=1)
    angle = torch.acos(dot)
    near = angle < 1e-4
    s = torch.where(near, torch.ones_like(angle), torch.sin(angle))
    a = torch.where(near, 1 - w, torch.sin((1 - w) * angle) / s)
    b = torch.where(near, w, torch.sin(w * angle) / s)
    out = poses[lower].clone()
    out[:, :3, :3] = matrix_from_quaternion(a * q0 + b * q1)
    out[:, :3, 3] = (1 - w) * poses[lower, :3, 3] + w * poses[upper, :3, 3]
    return out
