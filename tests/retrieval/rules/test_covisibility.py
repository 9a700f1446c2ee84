"""The default rule: what it chooses, in two rooms with a wall between them."""

from __future__ import annotations

import numpy as np
import pytest

from spmem.config import RetrievalConfig
from spmem.query import Query
from spmem.retrieval.greedy import Terms
from spmem.retrieval.rules.covisibility import Covisibility
from spmem.retrieval.visibility.exact import visibility, visible_points
from spmem.testing.retriever import query_of, stand, tour, views_of
from spmem.views import Views


def observed(views: Views, **options: object) -> Covisibility:
    rule = Covisibility(**options)
    rule.observe(views, slice(0, len(views)))
    return rule


def coverage(query: Query, views: Views, ids: np.ndarray) -> float:
    points = visible_points(query.projection)
    seen = visibility(points, views, views.rows(ids))
    return float(seen.any(0) @ points.weight) / points.pixels


@pytest.fixture(scope="module")
def views() -> Views:
    """Twelve in the left room, then twelve in the right one."""
    return views_of(tour(24))


@pytest.fixture(scope="module")
def many() -> Views:
    """A bank that is searched by its index: the tour at 320 steps."""
    return views_of(tour(320))


def test_chooses_from_the_room_asked_about(views: Views) -> None:
    rule = observed(views)
    left = rule.select(query_of([stand(-2.2, -1.2, 0.0)]), views, 4)
    right = rule.select(query_of([stand(2.2, -1.2, 0.0)]), views, 4)
    assert len(left.ids) == len(right.ids) == 4
    assert (left.ids < 12).all()
    assert (right.ids >= 12).all()


def test_a_camera_behind_the_wall_that_looks_the_same_way_is_not_chosen() -> None:
    behind, inside = stand(0.6, -1.0, -np.pi / 2), stand(-1.5, 1.5, -2.0)
    query = query_of([stand(-0.6, -1.0, -np.pi / 2)])
    chosen = observed(views_of([behind, inside])).select(query, views_of([behind, inside]), 4)
    assert chosen.ids.tolist() == [1]


def test_scores_are_the_share_of_pixels_seen(views: Views) -> None:
    query = query_of([stand(-2.2, -1.2, 0.0), stand(-2.1, -1.2, 0.2)])
    chosen = observed(views).select(query, views, 4)
    alone = [coverage(query, views, chosen.ids[[i]]) for i in range(4)]
    np.testing.assert_allclose(chosen.scores, alone, rtol=1e-6)
    assert (chosen.scores > 0).all()


def test_keyframes_are_not_spent_on_what_the_generator_holds() -> None:
    views = views_of([stand(-2.0, -1.0, -0.9), stand(-2.0, -1.0, 0.9)])
    held = views_of([stand(-2.0, -1.0, -0.85)], first_id=90)
    asked = [stand(-2.0, -1.0, turn) for turn in (-0.9, -0.8, 0.9)]
    query = query_of(asked, given=held)
    assert observed(views).select(query, views, 1).ids.tolist() == [1]
    blind = observed(views, terms=Terms(pre_cover=False))
    assert blind.select(query, views, 1).ids.tolist() == [0]


def test_abstains_where_memory_knows_nothing(views: Views) -> None:
    rule = observed(views)
    assert len(rule.select(query_of([stand(-2, -1, 0)], known=False), views, 4).ids) == 0
    unseen = query_of([stand(-2.0, -1.0, np.pi)], exclude=())
    assert len(rule.select(unseen, views_of([stand(-2.0, -1.0, 0.0)]), 4).ids) == 0


@pytest.mark.parametrize("index", ["flat", "voxels"])
@pytest.mark.parametrize("held", [False, True])
def test_the_index_loses_next_to_nothing(many: Views, index: str, held: bool) -> None:
    config = RetrievalConfig(index=index, candidates=16)
    searched, whole = observed(many, config=config, scan=0), observed(many, scan=len(many))
    given = views_of([stand(-2.0, -1.0, -0.5)], first_id=900) if held else None
    for query in (
        query_of([stand(-2.0, -1.2, -0.4), stand(-1.9, -1.1, 0.8)], given=given),
        query_of([stand(1.8, -0.9, 0.5)], given=given),
    ):
        found = coverage(query, many, searched.select(query, many, 4).ids)
        best = coverage(query, many, whole.select(query, many, 4).ids)
        assert found >= 0.97 * best


def test_exclusions_leave_as_many_candidates(many: Views) -> None:
    rule = observed(many, config=RetrievalConfig(candidates=4), scan=0)
    query = query_of([stand(-2.0, -1.0, 0.0)])
    near = np.argsort(np.abs(np.linspace(-1.2, 1.2, 160)))[:100]
    again = rule.select(query_of([stand(-2.0, -1.0, 0.0)], exclude=near.tolist()), many, 4)
    assert len(rule.select(query, many, 4).ids) == 4
    assert len(again.ids) == 4
    assert not np.isin(again.ids, near).any()


def test_the_index_does_not_keep_what_the_bank_dropped() -> None:
    config = RetrievalConfig(candidates=2, index="flat")
    views, rule = Views(), Covisibility(config, scan=0)
    cameras = tour(8)
    depth = views_of(cameras).depth
    for id in range(64):
        views.append(id, float(id), cameras[id % 8], depth[id % 8])
        rule.observe(views, slice(len(views) - 1, len(views)))
        if len(views) > 8:
            views.remove(views.ids[:1])
    assert len(rule._index) <= 2 * 8 + 1
    chosen = rule.select(query_of([cameras[2]]), views, 2)
    assert len(chosen.ids) == 2
    assert np.isin(chosen.ids, views.ids).all()


def test_a_view_that_moved_is_found_where_it_is_now(many: Views) -> None:
    views = Views.restore({name: column.copy() for name, column in many.arrays().items()})
    rule = observed(views, config=RetrievalConfig(candidates=4), scan=0)
    query = query_of([stand(2.0, -1.0, 0.0)])
    views.c2w[0], views.depth[0] = query.cameras.c2w[0].numpy(), query.projection.depth[0].numpy()
    rule.observe(views, slice(0, 1))
    assert rule.select(query, views, 1).ids.tolist() == [0]


def test_the_index_comes_back_from_its_arrays(many: Views) -> None:
    config = RetrievalConfig(candidates=8)
    rule, back = observed(many, config=config, scan=0), Covisibility(config, scan=0)
    kept = rule.arrays(many)
    assert kept is not None
    back.restore(kept, many.ids)
    query = query_of([stand(-2.0, -1.2, 0.3)])
    one, other = (each.select(query, many, 4) for each in (rule, back))
    np.testing.assert_array_equal(one.ids, other.ids)
    np.testing.assert_array_equal(one.scores, other.scores)
    assert observed(many, config=RetrievalConfig(index="flat")).arrays(many) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("ids", 5), ("weight", 0), ("edge", np.nan), ("next", 1 << 30), ("slot", -1)],
)
def test_an_index_that_is_not_of_these_views_is_refused(
    views: Views, name: str, value: float
) -> None:
    kept = observed(views).arrays(views)
    assert kept is not None
    kept = {key: array.copy() for key, array in kept.items()}
    kept[name].reshape(-1)[0] = value
    with pytest.raises(ValueError, match=r"the cached index|wanted|finite"):
        Covisibility().restore(kept, views.ids)
    with pytest.raises(ValueError, match="other views"):
        Covisibility().restore(observed(views).arrays(views) or {}, views.ids[:-1])


def test_what_the_bank_dropped_is_not_kept_in_the_cache(many: Views) -> None:
    views = Views.restore({name: column.copy() for name, column in many.arrays().items()})
    rule = observed(views, scan=0)
    views.remove(views.ids[:40])
    kept = rule.arrays(views)
    assert kept is not None
    Covisibility(scan=0).restore(kept, views.ids)


def test_world_units_do_not_matter(many: Views) -> None:
    large = Views.restore({name: column.copy() for name, column in many.arrays().items()})
    large.c2w[:, :3, 3] *= 1000
    large.depth[:] *= 1000
    config = RetrievalConfig(candidates=8)
    query = query_of([stand(-2.0, -1.2, 0.3)])
    c2w = query.cameras.c2w.clone()
    c2w[:, :3, 3] *= 1000
    cameras = type(query.cameras)(query.cameras.K, c2w, width=64, height=48)
    seen = query.projection
    scaled = type(seen)(cameras, seen.rgb, seen.depth * 1000, seen.normal, seen.mask, seen.surfel_ids)  # fmt: skip
    small = observed(many, config=config, scan=0).select(query, many, 4)
    again = observed(large, config=config, scan=0).select(
        Query(cameras, scaled, Views(), query.exclude), large, 4
    )
    assert abs(small.scores.sum() - again.scores.sum()) < 0.01
