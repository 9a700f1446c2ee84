"""Ray casting: the first surface that each pixel's ray meets, exactly."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from spmem.kernels.jit import njit
from spmem.worlds.pixels import Pixels
from spmem.worlds.scene import Scene
from spmem.worlds.shapes import BALL, BOX

FAR = 1e30
NEAR = 1e-6


@njit(fastmath=True)
def trace(
    scene: Scene,
    poses: NDArray[np.float64],
    K: NDArray[np.float64],
    c2w: NDArray[np.float64],
    pixels: Pixels,
    start: int,
    stop: int,
) -> None:
    """Cast one ray per pixel centre; fill depth, normal, surface, cell and mover of the rows start..stop.

    A ray starts in the cell that holds the camera and goes from cell to cell through portals, so that it meets only
    the objects of the rooms it crosses. Rays have z = 1 in camera axes, hence their parameter is the z-depth.
    ``poses`` ``[T, M, 5]`` are the moving objects'; K and c2w ``[T, ., .]`` the cameras'.
    """
    height, width = pixels.depth.shape[1:]
    for row in range(start, stop):
        i, y = row // height, row % height
        ox, oy, oz = c2w[i, 0, 3], c2w[i, 1, 3], c2w[i, 2, 3]
        home = _cell_of(scene.cell_box, ox, oy, oz)
        if home < 0:
            continue
        ry = (y + 0.5 - K[i, 1, 2]) / K[i, 1, 1]
        for x in range(width):
            rx = (x + 0.5 - K[i, 0, 2]) / K[i, 0, 0]
            dx = c2w[i, 0, 0] * rx + c2w[i, 0, 1] * ry + c2w[i, 0, 2]
            dy = c2w[i, 1, 0] * rx + c2w[i, 1, 1] * ry + c2w[i, 1, 2]
            dz = c2w[i, 2, 0] * rx + c2w[i, 2, 1] * ry + c2w[i, 2, 2]
            best, hit, nx, ny, nz, mover = FAR, -1, 0.0, 0.0, 0.0, -1
            for m in range(len(scene.moving)):
                k = scene.moving[m]
                p = poses[i, m]
                t, s, a, b, c = _intersect_shape(
                    scene, k, p[0], p[1], p[2], p[3], p[4], ox, oy, oz, dx, dy, dz, best
                )
                if t < best:
                    best, hit, nx, ny, nz, mover = t, s, a, b, c, m
            ix, iy, iz = 1.0 / dx, 1.0 / dy, 1.0 / dz
            cell = home
            for _ in range(len(scene.cell_box)):
                box = scene.cell_box[cell]
                tx = ((box[3] if dx > 0 else box[0]) - ox) * ix if dx != 0 else FAR
                ty = ((box[4] if dy > 0 else box[1]) - oy) * iy if dy != 0 else FAR
                tz = ((box[5] if dz > 0 else box[2]) - oz) * iz if dz != 0 else FAR
                leave = min(tx, ty, tz)
                for j in range(scene.cell_start[cell], scene.cell_start[cell + 1]):
                    k = scene.cell_object[j]
                    w = scene.object_world[k]
                    ax, bx = (w[0] - ox) * ix, (w[3] - ox) * ix
                    ay, by = (w[1] - oy) * iy, (w[4] - oy) * iy
                    az, bz = (w[2] - oz) * iz, (w[5] - oz) * iz
                    enter = max(min(ax, bx), min(ay, by), min(az, bz))
                    out = min(max(ax, bx), max(ay, by), max(az, bz))
                    if enter > out or enter > best or out < 0:
                        continue
                    p = scene.object_pose[k]
                    t, s, a, b, c = _intersect_shape(
                        scene, k, p[0], p[1], p[2], p[3], p[4], ox, oy, oz, dx, dy, dz, best
                    )
                    if t < best:
                        best, hit, nx, ny, nz, mover = t, s, a, b, c, -1
                if best <= leave:
                    break
                if tx <= ty and tx <= tz:
                    face, u, v = (1 if dx > 0 else 0), oy + tx * dy, oz + tx * dz
                elif ty <= tz:
                    face, u, v = (3 if dy > 0 else 2), ox + ty * dx, oz + ty * dz
                else:
                    face, u, v = (5 if dz > 0 else 4), ox + tz * dx, oy + tz * dy
                beyond = -1
                for j in range(
                    scene.portal_start[6 * cell + face], scene.portal_start[6 * cell + face + 1]
                ):
                    r = scene.portal_rect[j]
                    if r[0] <= u <= r[1] and r[2] <= v <= r[3]:
                        beyond = scene.portal_cell[j]
                if beyond < 0:
                    best, hit, mover = leave, 6 * cell + face, -1
                    inward = 1.0 - 2.0 * (face % 2)
                    nx = inward if face < 2 else 0.0
                    ny = inward if 2 <= face <= 3 else 0.0
                    nz = inward if face > 3 else 0.0
                    break
                cell = beyond
            pixels.depth[i, y, x] = best
            pixels.normal[i, y, x, 0] = nx
            pixels.normal[i, y, x, 1] = ny
            pixels.normal[i, y, x, 2] = nz
            pixels.surface[i, y, x], pixels.cell[i, y, x] = hit, cell
            pixels.mover[i, y, x] = mover


@njit(fastmath=True)
def _cell_of(boxes: NDArray[np.float64], x: float, y: float, z: float) -> int:
    """The cell that holds a point, or -1."""
    for c in range(len(boxes)):
        b = boxes[c]
        if b[0] <= x <= b[3] and b[1] <= y <= b[4] and b[2] <= z <= b[5]:
            return c
    return -1


@njit(fastmath=True)
def _intersect_shape(
    scene: Scene,
    k: int,
    px: float,
    py: float,
    pz: float,
    cos: float,
    sin: float,
    ox: float,
    oy: float,
    oz: float,
    dx: float,
    dy: float,
    dz: float,
    best: float,
) -> tuple[float, int, float, float, float]:
    """Where a ray meets object k before ``best``: depth (else ``best``), surface, world normal."""
    ax, ay, az = cos * (ox - px) - sin * (oz - pz), oy - py, sin * (ox - px) + cos * (oz - pz)
    rx, ry, rz = cos * dx - sin * dz, dy, sin * dx + cos * dz
    first = 6 * len(scene.cell_box)
    hit, nx, ny, nz = -1, 0.0, 0.0, 0.0
    for n in range(scene.object_part[k], scene.object_part[k + 1]):
        hx, hy, hz = scene.part_half[n, 0], scene.part_half[n, 1], scene.part_half[n, 2]
        # In units of the part's half axes, every part is a unit cube, ball or cylinder.
        cx, cy, cz = scene.part_centre[n, 0], scene.part_centre[n, 1], scene.part_centre[n, 2]
        qx, qy, qz = (ax - cx) / hx, (ay - cy) / hy, (az - cz) / hz
        ux, uy, uz = rx / hx, ry / hy, rz / hz
        t, mx, my, mz = FAR, 0.0, 0.0, 0.0
        if scene.part_shape[n] == BOX:
            tx = (-math.copysign(1.0, ux) - qx) / ux if ux != 0 else -FAR
            ty = (-math.copysign(1.0, uy) - qy) / uy if uy != 0 else -FAR
            tz = (-math.copysign(1.0, uz) - qz) / uz if uz != 0 else -FAR
            t = max(tx, ty, tz)
            fx, fy, fz = abs(qx + t * ux), abs(qy + t * uy), abs(qz + t * uz)
            if t == tx:
                mx, fx = -math.copysign(1.0, ux), 0.0
            elif t == ty:
                my, fy = -math.copysign(1.0, uy), 0.0
            else:
                mz, fz = -math.copysign(1.0, uz), 0.0
            if max(fx, fy, fz) > 1:
                t = FAR
        elif scene.part_shape[n] == BALL:
            aa = ux * ux + uy * uy + uz * uz
            bb = qx * ux + qy * uy + qz * uz
            root = bb * bb - aa * (qx * qx + qy * qy + qz * qz - 1)
            if root > 0:
                t = (-bb - math.sqrt(root)) / aa
                mx, my, mz = (qx + t * ux) / hx, (qy + t * uy) / hy, (qz + t * uz) / hz
        else:
            aa, bb = ux * ux + uz * uz, qx * ux + qz * uz
            root = bb * bb - aa * (qx * qx + qz * qz - 1)
            side = (-bb - math.sqrt(root)) / aa if root > 0 and aa > 0 else -FAR
            cap = (-math.copysign(1.0, uy) - qy) / uy if uy != 0 else -FAR
            gx, gz = qx + cap * ux, qz + cap * uz
            if side > -FAR and abs(qy + side * uy) <= 1:
                t, mx, mz = side, (qx + side * ux) / hx, (qz + side * uz) / hz
            elif cap > -FAR and gx * gx + gz * gz <= 1:
                t, my = cap, -math.copysign(1.0, uy)
        if NEAR < t < best:
            best, hit, nx, ny, nz = t, first + n, mx, my, mz
    if hit >= 0:
        length = math.sqrt(nx * nx + ny * ny + nz * nz)
        nx, ny, nz = nx / length, ny / length, nz / length
    return best, hit, cos * nx + sin * nz, ny, -sin * nx + cos * nz
