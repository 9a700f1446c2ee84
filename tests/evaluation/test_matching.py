"""Keypoints that are found again, and whether they lie where they should."""

from __future__ import annotations

import sys

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from spmem.errors import MissingExtraError
from spmem.evaluation.matching import Matcher

ALL = torch.ones(1, 64, 64, dtype=torch.bool)


def picture(seed: int = 0) -> Tensor:
    noise = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(noise, scale_factor=4).movedim(1, -1)


def test_the_same_picture_matches_and_another_does_not() -> None:
    matcher, same = Matcher(), picture()
    found, right = matcher(same, same, ALL)
    assert found == right
    assert found > 30
    _, chance = matcher(same, picture(1), ALL)
    assert chance < 3
    assert matcher(same, torch.full_like(same, 0.5), ALL) == (0, 0)


@pytest.mark.parametrize(("shift", "right"), [(1, True), (6, False)])
def test_a_match_is_right_within_two_pixels(shift: int, right: bool) -> None:
    found = Matcher()(picture(), picture().roll(shift, 2), ALL)
    assert found.found > 30
    assert (found.right > 0.9 * found.found) if right else (found.right < 0.1 * found.found)


def test_keypoints_outside_the_mask_do_not_count() -> None:
    half = ALL.clone()
    half[:, :, 32:] = False
    made = picture()
    made[:, :, 32:] = picture(1)[:, :, 32:]
    matcher = Matcher()
    inside, whole = matcher(picture(), made, half), matcher(picture(), made, ALL)
    assert inside.right > 10
    assert inside.right / inside.found >= whole.right / whole.found
    assert matcher(picture(), made, ~ALL) == (0, 0)


def test_without_opencv_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtraError, match=r"spmem\[bench\]"):
        Matcher()
