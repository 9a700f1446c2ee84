"""How well do descriptors of views estimate what two views have in common, against their length?

    python benchmarks/descriptors.py [--quick] [--json]

Views of walks through procedural houses; truth is the share of a view's pixels that another saw, by depth, occlusion
included. Of each descriptor: correlation with the truth among views of the same house that are more than ten apart, and
how many of the truly best 8 are among its first 32 in a bank of all houses.

- voxels: the sets themselves (two grids), at several edges
- count sketch of the sets (``spmem.retrieval.indices.sketch``), which is what vector indices hold
- dense signs: every voxel adds a random sign to every entry (Alon, Matias, Szegedy 1996)
- Fourier: random Fourier features of the points (Rahimi, Recht 2007), averaged, of unit length
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from numpy.typing import NDArray
from retrieval_speed import VIEWS, views_of, walks_through_houses
from rich.progress import track

from spmem.evaluation.report import parse_options, print_report
from spmem.retrieval.indices.inverted import VoxelIndex
from spmem.retrieval.indices.sketch import sketch
from spmem.retrieval.indices.voxels import (
    EDGE,
    GRIDS,
    VoxelSets,
    voxel_edge,
    voxels_of_views,
    world_points,
)
from spmem.retrieval.visibility.exact import Points, visibility
from spmem.views import Views

APART, BEST, FIRST = 10, 8, 32
Matrix = NDArray[np.float32]


def truth(views: Views, queries: NDArray[np.int64]) -> Matrix:
    """Share of each query's pixels that each view of the same house saw, ``[q, n]``."""
    share = np.zeros((len(queries), len(views)), np.float32)
    for i, query in enumerate(track(queries.tolist(), "Truth", transient=True)):
        position = world_points(views, np.array([query]))[0][0]
        n = len(position)
        points = Points(position, np.zeros_like(position), np.ones(n, np.int64), np.array([0, n]), n)  # fmt: skip
        same = np.arange(query // VIEWS * VIEWS, (query // VIEWS + 1) * VIEWS)
        share[i, same] = visibility(points, views, same).mean(1)
    return share


def exact(sets: VoxelSets, queries: NDArray[np.int64]) -> Matrix:
    """Coefficients of the sets themselves."""
    index, n = VoxelIndex(budget=1 << 40), len(sets)
    index.add(np.arange(n), sets)
    out = np.zeros((len(queries), n), np.float32)
    for i, query in enumerate(queries.tolist()):
        voxels = slice(*sets.offsets[query : query + 2])
        one = VoxelSets(
            sets.key[voxels], sets.share[voxels], np.array([0, voxels.stop - voxels.start])
        )
        scores, ids = (part[0] for part in index.search(one, n))
        out[i, ids[ids >= 0]] = scores[ids >= 0]
    return out


def dense_signs(sets: VoxelSets, dim: int) -> Matrix:
    """Every voxel in every entry."""
    keys, which = np.unique(sets.key, return_inverse=True)
    sign = np.random.default_rng(0).integers(0, 2, (len(keys), dim), np.int8) * 2 - 1
    amplitude = np.sqrt(sets.share / GRIDS / dim)
    return np.stack(
        [amplitude[a:b] @ sign[which[a:b]] for a, b in zip(sets.offsets[:-1], sets.offsets[1:], strict=True)]
    ).astype(np.float32)  # fmt: skip


def fourier(views: Views, dim: int, width: float) -> Matrix:
    """Mean features of a view's points, for a Gaussian kernel of this width."""
    draw = np.random.default_rng(0)
    frequency, phase = draw.standard_normal((3, dim)) / width, draw.uniform(0, 2 * np.pi, dim)
    features = np.stack([np.cos(world_points(views, np.array([row]))[0][0, ::4] @ frequency + phase).mean(0) for row in range(len(views))])  # fmt: skip
    unit: Matrix = (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)
    return unit


def row(name: str, dim: int | str, likeness: Matrix, share: Matrix, queries: NDArray[np.int64]) -> dict[str, Any]:  # fmt: skip
    """What a descriptor's likenesses ``[q, n]`` are worth."""
    found, alike, true = [], [], []
    for i, query in enumerate(queries.tolist()):
        far = np.abs(np.arange(share.shape[1]) - query) > APART
        best = np.argsort(-np.where(far, share[i], -1), kind="stable")[:BEST]
        best = best[share[i, best] > 0.02]
        first = np.argsort(-np.where(far, likeness[i], -np.inf), kind="stable")[:FIRST]
        found += np.isin(best, first).tolist()
        same = np.flatnonzero(far & (np.arange(len(far)) // VIEWS == query // VIEWS))
        alike.append(likeness[i, same])
        true.append(share[i, same])
    correlation = np.corrcoef(np.concatenate(alike), np.concatenate(true))[0, 1]
    return {
        "descriptor": name,
        "entries": dim,
        "correlation": round(float(correlation), 3),
        f"best {BEST} among {FIRST}": round(float(np.mean(found)), 4),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three houses")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parse_options(parser)
    views = views_of(walks_through_houses(3 if options.quick else 16))
    queries = np.random.default_rng(0).choice(len(views), 40 if options.quick else 128, False)
    share, every = truth(views, queries), np.arange(len(views))
    scale = float(np.median([edge / EDGE for edge in map(voxel_edge, views.depth[::16]) if edge]))
    rows = []
    for edge in (0.15, 0.3, 0.45):
        sets = voxels_of_views(views, every, edge=edge * scale)
        rows.append(row(f"voxels, edge {edge}", "-", exact(sets, queries), share, queries))
    sets = voxels_of_views(views, every, edge=EDGE * scale)
    for dim in (128, 256, 512, 1024):
        made = {"count sketch": sketch(sets, dim), "dense signs": dense_signs(sets, dim)}
        made["Fourier, width 0.23"] = fourier(views, dim, 0.23 * scale)
        rows += [row(name, dim, d[queries] @ d.T, share, queries) for name, d in made.items()]
    print_report(rows, [], as_json=options.json)


if __name__ == "__main__":
    main()
