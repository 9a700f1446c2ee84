"""Rules that compare fields of view, on scenes whose overlaps are known by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from spmem.camera import Camera
from spmem.errors import InputError
from spmem.query import Query
from spmem.retrieval.rules.fov_overlap import FovOverlap
from spmem.retrieval.rules.fov_rays import FovRays, wedges_meet
from spmem.retrieval.rules.fov_sphere import FovSphere
from spmem.retrieval.rules.frustum_submodular import FrustumSubmodular
from spmem.types import Projection
from spmem.views import Views

DEPTH = 2.0
"""Every camera sees a wall this far off, so this is the scene's scale."""


def camera(x: float = 0.0, z: float = 0.0, turn: float = 0.0, focal: float = 32.0) -> Camera:
    """At (x, 0, z), turned to the right by so many degrees; focal 32 is a field of view of 90 degrees."""
    angle = math.radians(turn)
    c2w = torch.eye(4)
    c2w[:3, 0] = torch.tensor([math.cos(angle), 0, -math.sin(angle)])
    c2w[:3, 2] = torch.tensor([math.sin(angle), 0, math.cos(angle)])
    c2w[:3, 3] = torch.tensor([x, 0.0, z])
    return Camera([[focal, 0, 32], [0, focal, 24], [0, 0, 1]], c2w, width=64, height=48)


def asked(*cameras: Camera, seed: int = 0, time: float | None = None) -> Query:
    together = Camera.stack(cameras)
    depth = torch.full((len(cameras), 48, 64), DEPTH)
    normal = -together.forward[:, None, None].expand(*depth.shape, 3)
    ids = torch.zeros_like(depth, dtype=torch.long)
    seen = Projection(together, torch.zeros_like(normal), depth, normal, depth > 0, ids)
    return Query(together, seen, Views(), np.zeros(0, np.int64), time, seed)


def bank(*cameras: Camera) -> Views:
    views = Views()
    for id, each in enumerate(cameras):
        views.append(id, float(id), each, np.full((48, 64), DEPTH, np.float32))
    return views


def test_overlap_in_the_ball_is_a_share_of_the_solid_angle() -> None:
    # At a focal length of 640 the field of view is 5.7 degrees wide, so solid angles go as areas of the image. Keyframe
    # 0 looks the other way: 0. Keyframe 1, with twice the focal length, sees the middle half of the width and of the
    # height: 1/4. Keyframe 2 stands where the query does: 1. Of keyframe 2's choice nothing is left for the others.
    views = bank(camera(turn=180, focal=640), camera(focal=1280), camera(focal=640))
    query = asked(camera(focal=640), time=4.0)
    rule = FovOverlap(points=2_000_000, staleness=0.0)
    best = rule.select(query, views, 3)
    assert best.ids[0] == 2
    np.testing.assert_allclose(best.scores, [1, 0, 0])
    views.remove(np.array([2]))
    best = rule.select(query, views, 2)
    assert best.ids.tolist() == [1, 0]
    np.testing.assert_allclose(best.scores, [0.25, 0], atol=0.03)
    # Now is 4 s and the oldest keyframe of 0 s loses 0.2; keyframe 1, three quarters as old, 0.15.
    best = FovOverlap(points=2_000_000, staleness=0.2).select(query, views, 2)
    np.testing.assert_allclose(best.scores, [0.10, -0.2], atol=0.03)


def test_the_sphere_cuts_off_what_is_far_from_the_keyframe() -> None:
    # The sphere's radius is 3 scales, 6. Keyframe 1 stands 1.2 behind the query: it has all of the query's field of
    # view in its own, but reaches only to 4.8 of the query's 6. A ball's volume goes as the cube: 0.8^3 = 0.512.
    views = bank(camera(turn=180, focal=320), camera(z=-1.2, focal=320), camera(focal=320))
    best = FovSphere(points=2_000_000, first=0).select(asked(camera(focal=320)), views, 3)
    assert best.ids.tolist() == [2, 1]  # keyframe 0 shares nothing
    np.testing.assert_allclose(best.scores, [1, 0.512], atol=0.03)
    # Two cameras, front and back: each keyframe is worth the mean.
    both = asked(camera(focal=320), camera(turn=180, focal=320))
    best = FovSphere(points=2_000_000, first=0).select(both, views, 3)
    assert best.ids.tolist() == [2, 0, 1]
    np.testing.assert_allclose(best.scores, [0.5, 0.5, 0.256], atol=0.03)


def test_the_first_keyframe_always_has_a_place_but_the_only_one() -> None:
    views, query = bank(camera(turn=180), camera(), camera(turn=5)), asked(camera())
    assert FovSphere().select(query, views, 2).ids.tolist() == [1, 0]
    assert FovSphere().select(query, views, 3).ids.tolist() == [1, 2, 0]
    assert FovSphere().select(query, views, 1).ids.tolist() == [1]
    assert FovSphere(first=2).select(query, views, 3).ids.tolist() == [2, 0, 1]
    with pytest.raises(InputError, match="fov-sphere"):
        FovSphere(radius=0)


def test_frusta_overlap_by_the_share_of_depths_that_both_reach() -> None:
    # Two positions, 2 apart, so the scale is 2 and depths go from 0.04 to 6. The keyframe stands 2 behind: of the
    # query's depths it reaches those up to 6 - 2 = 4, and sideways it sees more: (4 - 0.04) / (6 - 0.04) = 0.664.
    rule = FrustumSubmodular(samples=50_000)
    best = rule.select(asked(camera()), bank(camera(z=-2)), 1)
    np.testing.assert_allclose(best.scores, [0.664], atol=0.01)


def test_frusta_are_chosen_for_what_they_add_to_the_best_overlaps() -> None:
    # Overlaps with (front, back): keyframes 0 and 2 (1, 0), keyframe 1 (0, 1). First gains are 1 each: the latest wins.
    # Keyframe 1 then gains 1; keyframe 0 gains nothing, which ends it; filling goes on to it.
    views, query = bank(camera(), camera(turn=180), camera()), asked(camera(), camera(turn=180))
    assert FrustumSubmodular().select(query, views, 3).ids.tolist() == [2, 1]
    assert FrustumSubmodular(fill=True).select(query, views, 3).ids.tolist() == [2, 1, 0]


def test_a_keyframe_that_overlaps_little_is_dropped_unless_all_do() -> None:
    # The second camera looks 90 degrees to the right, keyframe 1 to 160: its left edge at 115 degrees is 25 off the
    # camera's axis, and tan 25 = 0.466: the right (1 - 0.466) / 2 = 0.267 of the image, less what is too high or low.
    query = asked(camera(), camera(turn=90))
    little = camera(turn=160)
    assert FrustumSubmodular().select(query, bank(camera(), little), 2).ids.tolist() == [0]
    assert FrustumSubmodular(threshold=0).select(query, bank(camera(), little), 2).ids.tolist() == [0, 1]  # fmt: skip
    assert FrustumSubmodular().select(query, bank(little), 2).ids.tolist() == [0]
    assert len(FrustumSubmodular().select(query, bank(camera(turn=-110)), 2).ids) == 0
    for wrong in ({"samples": 0}, {"near": 3.0}, {"threshold": 2.0}):
        with pytest.raises(InputError, match="frustum-submodular"):
            FrustumSubmodular(**wrong)


@pytest.mark.parametrize(
    ("other", "meets"),
    [
        (camera(x=4, z=4, turn=-90), True),  # looks at the query's view from the right: rays cross
        (
            camera(x=3),
            True,
        ),  # beside it, looking the same way: its left ray crosses the right one at z = 1.5
        (camera(x=20), False),  # the same, but the rays cross 14 away, and 3 scales reach 6
        (camera(z=-3), True),  # behind it, rays parallel: the query stands in its wedge
        (camera(z=-20), False),  # too far behind
        (camera(z=3), True),  # before it: it stands in the query's wedge
        (camera(x=3, turn=90), False),  # beside it, looking away
        (camera(turn=180), False),  # in the same place, looking back
        (camera(turn=80), True),  # in the same place, 10 degrees in common
        (camera(turn=-100), False),  # in the same place, 10 degrees apart
    ],
)
def test_wedges_meet_where_rays_cross_or_one_holds_the_other(other: Camera, meets: bool) -> None:
    assert (len(FovRays().select(asked(camera()), bank(other), 1).ids) == 1) == meets


def test_which_wedge_is_asked_makes_no_difference() -> None:
    draw = np.random.default_rng(0)
    tips, angles = draw.uniform(-3, 3, (40, 2)), draw.uniform(-np.pi, np.pi, (40, 1))
    angles = angles + np.array([0, 1.2])  # each 1.2 radians wide
    wedges = tips, np.stack([np.cos(angles), np.sin(angles)], -1)
    meet = wedges_meet(wedges, wedges, 4.0)
    assert (meet == meet.T).all()
    assert meet.diagonal().all()
    assert 0.2 < meet.mean() < 0.8


def test_a_run_of_keyframes_gives_one_and_a_place_goes_far_back() -> None:
    # Keyframes 0, 4..7 and 9 see what the query sees; 1..3 and 8 look back. Runs: {0}, {4, 5, 6, 7}, {9}. Of k = 3 two
    # places go to two different runs, the third to the keyframe farthest in time from both.
    back = {1, 2, 3, 8}
    views = bank(*(camera(turn=180 if i in back else 0) for i in range(10)))
    runs = {0: 0, 4: 1, 5: 1, 6: 1, 7: 1, 9: 2}
    pairs = set()
    for seed in range(30):
        chosen = FovRays().select(asked(camera(), seed=seed), views, 3)
        a, b, far = chosen.ids.tolist()
        assert runs[a] != runs[b]
        rest = set(runs) - {a, b}
        assert min(abs(far - a), abs(far - b)) == max(min(abs(c - a), abs(c - b)) for c in rest)
        assert chosen.scores.tolist() == [1, 1, 1]
        pairs.add((a, b))
    assert len(pairs) > 5
    everything = FovRays(far=0).select(asked(camera()), views, 10).ids.tolist()
    assert set(everything) == set(runs)
    assert {runs[id] for id in everything[:3]} == {0, 1, 2}
    half = FovRays().select(asked(camera(), camera(turn=180)), bank(camera()), 1)
    assert half.scores.tolist() == [0.5]
    with pytest.raises(InputError, match="fov-rays"):
        FovRays(reach=0)
