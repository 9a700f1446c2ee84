"""Light, and where on its surface each pixel lies.

Lambert's law under one lamp a room, with soft darkening beside walls and furniture in place of traced shadows.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from spmem.kernels.jit import njit
from spmem.worlds.materials import GLOW
from spmem.worlds.pixels import Pixels
from spmem.worlds.scene import Scene
from spmem.worlds.shapes import BALL, CYLINDER

SKIRTING, FRAME = 0.08, 0.07
"""Height of the skirting boards, width of the door frames."""

REACH = 0.3
"""How far the darkening beside furniture reaches."""


@njit(fastmath=True)
def light(
    scene: Scene,
    poses: NDArray[np.float64],
    K: NDArray[np.float64],
    c2w: NDArray[np.float64],
    pixels: Pixels,
    start: int,
    stop: int,
) -> None:
    """Fill lit, material and place of the rows start..stop, which :func:`trace` has filled; same arguments.

    Light depends on the point and its normal alone, so a still point has one colour from everywhere and always:
    there is no gloss, and moving objects darken nothing.
    """
    height, width = pixels.depth.shape[1:]
    faces = 6 * len(scene.cell_box)
    for row in range(start, stop):
        i, y = row // height, row % height
        ry = (y + 0.5 - K[i, 1, 2]) / K[i, 1, 1]
        for x in range(width):
            s = pixels.surface[i, y, x]
            if s < 0:
                continue
            rx, t = (x + 0.5 - K[i, 0, 2]) / K[i, 0, 0], np.float64(pixels.depth[i, y, x])
            dx = c2w[i, 0, 0] * rx + c2w[i, 0, 1] * ry + c2w[i, 0, 2]
            dy = c2w[i, 1, 0] * rx + c2w[i, 1, 1] * ry + c2w[i, 1, 2]
            dz = c2w[i, 2, 0] * rx + c2w[i, 2, 1] * ry + c2w[i, 2, 2]
            px, py, pz = c2w[i, 0, 3] + t * dx, c2w[i, 1, 3] + t * dy, c2w[i, 2, 3] + t * dz
            nx = np.float64(pixels.normal[i, y, x, 0])
            ny = np.float64(pixels.normal[i, y, x, 1])
            nz = np.float64(pixels.normal[i, y, x, 2])
            material = s
            if s < faces:
                u, v, w, tall = _on_face(scene.cell_box[s // 6], s % 6, px, py, pz)
                if (s % 6 < 2 or s % 6 > 3) and (
                    v < SKIRTING or _frames_door(scene, s, px, py, pz)
                ):
                    material = len(scene.surface_seed) - 1
            else:
                m = pixels.mover[i, y, x]
                pose = poses[i, m] if m >= 0 else scene.object_pose[scene.surface_object[s]]
                u, v, w, tall = _on_part(scene, s - faces, pose, px, py, pz, nx, ny, nz)
            r, g, b = 1.0, 1.0, 1.0
            if scene.surface_pattern[s] != GLOW:
                cell = pixels.cell[i, y, x]
                own = int(scene.surface_object[s])
                k = _corner_openness(scene, cell, own, px, py, pz, nx, ny, nz)
                r, g, b = _lamp_light(scene.cell_light[cell], px, py, pz, nx, ny, nz)
                r, g, b = r * k, g * k, b * k
            length = math.sqrt(rx * rx + ry * ry + 1)
            facing = max(abs(nx * dx + ny * dy + nz * dz) / length, 0.08)
            pixels.material[i, y, x] = material
            lit, place = pixels.lit[i, y, x], pixels.place[i, y, x]
            lit[0], lit[1], lit[2] = r, g, b
            place[0], place[1], place[2], place[3] = u, v, w, tall
            place[4] = (
                t * length / K[i, 0, 0] / math.sqrt(facing)
            )  # between its narrow and its wide side


@njit(fastmath=True)
def _lamp_light(
    lamp: NDArray[np.float64], px: float, py: float, pz: float, nx: float, ny: float, nz: float
) -> tuple[float, float, float]:
    """Light on a point whose normal is n."""
    lx, ly, lz = lamp[0] - px, lamp[1] - py, lamp[2] - pz
    square = lx * lx + ly * ly + lz * lz + 1e-9
    cosine = (nx * lx + ny * ly + nz * lz) / math.sqrt(square)
    direct = 0.85 * max(0.25 + 0.75 * cosine, 0.0) / (1 + 0.045 * square)
    ambient = 0.38 + 0.05 * nx - 0.03 * nz - 0.06 * ny
    return ambient + direct * lamp[3], ambient + direct * lamp[4], ambient + direct * lamp[5]


@njit(fastmath=True)
def _corner_openness(
    scene: Scene,
    cell: int,
    own: int,
    px: float,
    py: float,
    pz: float,
    nx: float,
    ny: float,
    nz: float,
) -> float:
    """Darkening beside the cell's faces and beside what stands in it."""
    box = scene.cell_box[cell]
    k = 1.0
    k *= 1 - 0.18 * (1 - nx) * _proximity_falloff(px - box[0], 0.5) / 2
    k *= 1 - 0.18 * (1 + nx) * _proximity_falloff(box[3] - px, 0.5) / 2
    k *= 1 - 0.18 * (1 - ny) * _proximity_falloff(py - box[1], 0.5) / 2
    k *= 1 - 0.25 * (1 + ny) * _proximity_falloff(box[4] - py, 0.4) / 2
    k *= 1 - 0.18 * (1 - nz) * _proximity_falloff(pz - box[2], 0.5) / 2
    k *= 1 - 0.18 * (1 + nz) * _proximity_falloff(box[5] - pz, 0.5) / 2
    if ny > 0.9:  # nothing darkens ceilings
        return k
    for j in range(scene.cell_start[cell], scene.cell_start[cell + 1]):
        o = scene.cell_object[j]
        w = scene.object_world[o]
        ex = max(w[0] - px, px - w[3], 0.0)
        if ex >= REACH:
            continue
        ez = max(w[2] - pz, pz - w[5], 0.0)
        if ez >= REACH or o == own:
            continue
        ey = max(w[1] - py, py - w[4], 0.0)
        away = math.sqrt(ex * ex + ey * ey + ez * ez)
        k *= 1 - 0.45 * min((w[4] - w[1]) * 2.5, 1.0) * _proximity_falloff(away, REACH)
    return k


@njit(fastmath=True)
def _proximity_falloff(distance: float, reach: float) -> float:
    """1 at distance 0, smoothly 0 at ``reach``."""
    k = max(1 - max(distance, 0.0) / reach, 0.0)
    return k * k


@njit(fastmath=True)
def _on_face(
    b: NDArray[np.float64], face: int, px: float, py: float, pz: float
) -> tuple[float, float, float, float]:
    """Place u along and v up a cell's face, and its extents."""
    if face < 2:
        return pz - b[2], b[4] - py, b[5] - b[2], b[4] - b[1]
    if face > 3:
        return px - b[0], b[4] - py, b[3] - b[0], b[4] - b[1]
    return px - b[0], pz - b[2], b[3] - b[0], b[5] - b[2]


@njit(fastmath=True)
def _frames_door(scene: Scene, s: int, px: float, py: float, pz: float) -> bool:
    """Whether a point of a face belongs to the frame around one of its portals."""
    face = s % 6
    u, v = (py, pz) if face < 2 else (px, py)
    for j in range(scene.portal_start[s], scene.portal_start[s + 1]):
        r = scene.portal_rect[j]
        if face < 2 and r[0] - FRAME <= u and r[2] - FRAME <= v <= r[3] + FRAME:
            return True
        if face > 3 and r[0] - FRAME <= u <= r[1] + FRAME and r[2] - FRAME <= v:
            return True
    return False


@njit(fastmath=True)
def _on_part(
    scene: Scene,
    part: int,
    pose: NDArray[np.float64],
    px: float,
    py: float,
    pz: float,
    nx: float,
    ny: float,
    nz: float,
) -> tuple[float, float, float, float]:
    """Place u along and v up a part's surface, and its extents."""
    ax, ay, az = px - pose[0], py - pose[1], pz - pose[2]
    cx, cy, cz = scene.part_centre[part, 0], scene.part_centre[part, 1], scene.part_centre[part, 2]
    x, y, z = pose[3] * ax - pose[4] * az - cx, ay - cy, pose[4] * ax + pose[3] * az - cz
    hx, hy, hz = scene.part_half[part, 0], scene.part_half[part, 1], scene.part_half[part, 2]
    mx, mz = abs(pose[3] * nx - pose[4] * nz), abs(pose[4] * nx + pose[3] * nz)
    shape = scene.part_shape[part]
    if shape == BALL or (shape == CYLINDER and abs(ny) < 0.5):
        return (math.atan2(x, z) + math.pi) * hx, hy - y, 2 * math.pi * hx, 2 * hy
    if abs(ny) > mx and abs(ny) > mz:
        return x + hx, z + hz, 2 * hx, 2 * hz
    if mx > mz:
        return z + hz, hy - y, 2 * hz, 2 * hy
    return x + hx, hy - y, 2 * hx, 2 * hy
