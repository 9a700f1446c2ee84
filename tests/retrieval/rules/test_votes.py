"""Rules in which surfels vote for keyframes, on scenes counted by hand, and against the plain form."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

from spmem.camera import Camera
from spmem.errors import InputError
from spmem.query import Query
from spmem.retrieval.rules.baseline import scene_scale
from spmem.retrieval.rules.point_votes import PointVotes
from spmem.retrieval.rules.surfel_votes import SurfelVotes, surfel_votes
from spmem.retrieval.visibility.seen_surfels import seen_surfels
from spmem.testing.retriever import query_of, stand, views_of
from spmem.types import Projection
from spmem.views import Views


def camera(turn: float = 0.0) -> Camera:
    c2w = torch.eye(4)
    c2w[:3, 0] = torch.tensor([math.cos(turn), 0, -math.sin(turn)])
    c2w[:3, 2] = torch.tensor([math.sin(turn), 0, math.cos(turn)])
    return Camera([[64, 0, 32], [0, 64, 24], [0, 0, 1]], c2w, width=64, height=48)


def wall(ids: list[int], seen_by: dict[int, list[int]]) -> Query:
    """A camera before a wall of surfels, in upright stripes of one width, each seen by some keyframes."""
    one, depth = camera()[None], torch.full((1, 48, 64), 2.0)
    normal = torch.tensor([0.0, 0, -1]).expand(1, 48, 64, 3)
    stripes = torch.tensor(ids).repeat_interleave(64 // len(ids)).expand(1, 48, 64)
    seen = Projection(one, torch.zeros(1, 48, 64, 3), depth, normal, depth > 0, stripes)

    def observers(surfel_ids: Tensor) -> tuple[Tensor, Tensor]:
        lists = [seen_by[id] for id in surfel_ids.tolist()]
        ends = np.cumsum([0, *map(len, lists)])
        return torch.from_numpy(ends), torch.tensor([id for ids in lists for id in ids]).long()

    return Query(one, seen, Views(), np.zeros(0, np.int64), observers=observers)


def bank(*turns: float) -> Views:
    views = Views()
    for id, turn in enumerate(turns):
        views.append(id, float(id), camera(turn), np.full((48, 64), 2.0, np.float32))
    return views


def test_a_surfel_weighs_by_angle_and_depth() -> None:
    query = query_of([stand(-2.0, -1.2, 0.1, width=120, height=90), stand(2.0, -1.0, 0.4, width=120, height=90)])  # fmt: skip
    seen = query.projection
    seen.mask[:, :20] = False
    rays = query.cameras.rays()
    cos = -(rays * seen.normal).sum(-1) / rays.norm(dim=-1)
    ids, where = seen.surfel_ids[seen.mask].unique(return_inverse=True)
    weight = (cos / (1 + seen.depth / 2.5))[seen.mask].double()
    expected = torch.zeros(len(ids)).double().index_add(0, where, weight)
    found, weights = seen_surfels(seen, 2.5)
    order = np.argsort(found)
    np.testing.assert_array_equal(found[order], ids)
    np.testing.assert_allclose(weights[order], expected, rtol=1e-4)


def test_votes_are_shared_among_those_that_saw_the_surfel() -> None:
    # Half of the wall is surfel 7, seen by keyframes 0 and 1; half is surfel 3, seen by 1 and 2. Each half weighs the
    # same, so the four votes are equal, and keyframe 1 has two of them.
    query = wall([7, 3], {7: [0, 1], 3: [1, 2]})
    views = bank(0.0, 0.2, 0.6)
    votes = surfel_votes(query, views, 2.0)
    np.testing.assert_allclose(votes / votes.sum(), [0.25, 0.5, 0.25], atol=1e-6)
    # In the middle of the wall cos = 1 and depth is one scale: 1 / (1 + 1). At the left edge of the middle row the ray
    # goes (0.5, 0, 1): cos = 1 / sqrt(1.25).
    middle = query.projection
    middle.mask[:] = False
    middle.mask[0, 24, 0] = True
    slope = math.hypot(31.5 / 64, 0.5 / 64)
    found = surfel_votes(query, views, 2.0)
    np.testing.assert_allclose(found, [0.5 / math.hypot(1, slope)] * 2 + [0], rtol=1e-5)


def test_those_taken_stand_apart_by_the_median_distance() -> None:
    # Three keyframes have votes, turned by 0, 0.01 and 0.5. Their distances are 0.01, 0.49 and 0.5: the median is 0.49.
    # Keyframe 0 is the nearest; 1 is too near to it; 2 is 0.5 away. A third comes when 0.49 / 1.2^n falls below 0.01.
    query = wall([1], {1: [0, 1, 2]})
    views = bank(0.0, 0.01, 0.5)
    assert SurfelVotes().select(query, views, 2).ids.tolist() == [0, 2]
    assert SurfelVotes().select(query, views, 3).ids.tolist() == [0, 2, 1]
    near = SurfelVotes(suppress=False).select(query, views, 2)
    assert near.ids.tolist() == [0, 1]
    np.testing.assert_allclose(near.scores, [1 / 3, 1 / 3], atol=1e-6)


def test_only_those_with_most_votes_are_candidates() -> None:
    # Keyframe 2 looks where the query looks, but has a third of the votes of 0 and 1; without spare places the two
    # with most votes are all there is.
    query = wall([1, 2, 3, 4], {1: [0, 1], 2: [0, 1], 3: [0, 1], 4: [2]})
    views = bank(1.0, 0.9, 0.0)
    assert SurfelVotes(spare=0).select(query, views, 2).ids.tolist() == [1, 0]
    assert SurfelVotes().select(query, views, 1).ids.tolist() == [2]
    assert SurfelVotes().select(replace(query, exclude=np.array([2])), views, 1).ids.tolist() == [1]
    assert len(SurfelVotes().select(replace(query, observers=None), views, 2).ids) == 0
    with pytest.raises(InputError, match="surfel-votes"):
        SurfelVotes(relax=1.0)


def test_cameras_that_stand_in_one_place_are_told_apart_by_nothing() -> None:
    query, views = wall([1], {1: [0, 1, 2]}), bank(0.0, 0.0, 0.0)
    assert SurfelVotes().select(query, views, 3).ids.tolist() == [2, 1, 0]


def test_a_point_counts_for_the_keyframe_that_put_it_there() -> None:
    # Of four surfels three were first seen by keyframe 0 and one by keyframe 2; keyframe 3 saw them all, but later.
    query = wall([1, 2, 3, 4], {1: [0, 3], 2: [0, 2, 3], 3: [0, 3], 4: [2, 3]})
    views = bank(0.0, 0.1, 0.2, 0.3)
    chosen = PointVotes().select(query, views, 4)
    assert chosen.ids.tolist() == [0, 2]
    assert chosen.scores.tolist() == [0.75, 0.25]
    assert PointVotes().select(replace(query, exclude=np.array([0])), views, 4).ids.tolist() == [2]
    views.remove(np.array([2]))
    assert PointVotes().select(query, views, 4).ids.tolist() == [0]


def test_a_point_counts_once_however_large_it_is() -> None:
    # Surfel 9 fills three quarters of the image: still one point against one.
    query = wall([9, 9, 9, 5], {9: [0], 5: [1]})
    assert PointVotes().select(query, bank(0.0, 0.1), 2).scores.tolist() == [0.5, 0.5]


@pytest.fixture(scope="module")
def peers() -> ModuleType:
    """The plain form, as the benchmark has it."""
    path = Path(__file__).resolve().parents[3] / "benchmarks" / "peers_retrieval.py"
    if not path.exists():
        pytest.skip("benchmarks/ is not here")
    spec = spec_from_file_location("peers_retrieval", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("suppress", [True, False])
def test_the_plain_form_votes_and_chooses_the_same(peers: ModuleType, suppress: bool) -> None:
    draw = np.random.default_rng(1)  # an even walk would have ties, which rounding breaks
    steps = zip(draw.uniform(-2.5, -1.5, 24), draw.uniform(-1.2, 1.2, 24), strict=True)
    views = views_of([stand(x, -1.0, turn) for x, turn in steps], first_id=5)
    for turn in (-0.7, 0.1, 0.9):
        query = query_of([stand(-1.8, -1.1, turn)], among=views)
        assert query.observers is not None
        seen, scale = query.projection, scene_scale(query, views)
        ids = seen.surfel_ids.unique()
        offsets, voted = query.observers(ids)
        seen_by = {
            id: voted[start:end].tolist()
            for id, start, end in zip(ids.tolist(), offsets[:-1], offsets[1:], strict=True)
        }
        rays = query.cameras.rays()
        cos = -(rays * seen.normal).sum(-1) / rays.norm(dim=-1)
        memory = peers.SurfelMemory([], seen_by)
        votes = memory.votes(seen.surfel_ids[0].numpy(), seen.depth[0].numpy(), cos[0].numpy(), scale)  # fmt: skip
        fast = surfel_votes(query, views, scale)
        np.testing.assert_allclose([votes.get(id, 0.0) for id in views.ids.tolist()], fast, rtol=1e-4)  # fmt: skip
        poses = dict(zip(views.ids.tolist(), views.c2w, strict=True))
        asked = query.cameras.c2w[0].numpy()
        chosen = SurfelVotes(suppress=suppress).select(query, views, 4)
        assert chosen.ids.tolist() == peers.choose(votes, poses, asked, 4, scale, suppress=suppress)


def test_the_plain_form_draws_discs(peers: ModuleType) -> None:
    # A disc of radius 0.25 at depth 2 is 16 pixels wide; a nearer, smaller one hides its middle; one that faces away
    # is not drawn.
    towards = np.array([0, 0, -1], np.float32)
    discs = [
        peers.Surfel(np.array([0, 0, 2], np.float32), towards, 0.25),
        peers.Surfel(np.array([0, 0, 1], np.float32), towards, 0.03),
        peers.Surfel(np.array([0.3, 0, 1], np.float32), -towards, 0.25),
    ]
    index, depth, cosine = peers.SurfelMemory(discs, {}).render(camera())
    assert index[24, 32] == 1
    assert index[24, 26] == 0
    assert index[24, 44] == -1
    assert (index[24] >= 0).sum() == 16
    assert depth[24, 26] == pytest.approx(2)
    assert cosine[24, 26] == pytest.approx(1)
