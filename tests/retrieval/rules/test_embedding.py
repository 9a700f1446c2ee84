"""The rule that goes by looks: which images it reads, and which it prefers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from spmem.camera import Camera
from spmem.integrations.embedding.colour_layout import ColourLayout
from spmem.query import Query
from spmem.retrieval.rules.embedding import Embedding
from spmem.types import Frame, Projection
from spmem.views import Views

COLOURS = {"red": (0.9, 0.1, 0.1), "green": (0.1, 0.8, 0.1), "blue": (0.1, 0.1, 0.9)}
CAMERA = Camera.from_fov(1.0, torch.eye(4), width=64, height=48)


def painted(colour: str) -> torch.Tensor:
    return torch.tensor(COLOURS[colour]).expand(48, 64, 3)


class Bank:
    """Keyframes of one colour each, and which were read."""

    def __init__(self, *colours: str) -> None:
        self.colours, self.read_ids = colours, list[int]()
        self.views = Views()
        for id in range(len(colours)):
            self.views.append(id, float(id), CAMERA, np.ones((48, 64), np.float32))

    def read(self, id: int) -> Frame:
        self.read_ids.append(id)
        return Frame(painted(self.colours[id]), None, CAMERA)

    def asked(self, *colours: str) -> Query:
        """Cameras for which memory renders these colours; None renders nothing."""
        known = torch.tensor([colour in COLOURS for colour in colours])
        rgb = torch.stack([painted(c) if c in COLOURS else torch.zeros(48, 64, 3) for c in colours])
        depth = torch.ones(len(colours), 48, 64) * known[:, None, None]
        ids = torch.zeros_like(depth, dtype=torch.long)
        cameras = Camera.stack([CAMERA] * len(colours))
        seen = Projection(cameras, rgb, depth, torch.zeros_like(rgb), depth > 0, ids)
        return Query(cameras, seen, Views(), np.zeros(0, np.int64), read=self.read)


def test_the_keyframe_that_looks_the_same_comes_first() -> None:
    # Descriptors of one colour throughout are equal where colours are, so the inner product is 1, and below 1 elsewhere.
    bank = Bank("blue", "red", "green", "blue")
    chosen = Embedding(ColourLayout()).select(bank.asked("blue"), bank.views, 3)
    assert chosen.ids.tolist()[:2] == [3, 0]
    assert chosen.scores[:2] == pytest.approx([1, 1], abs=1e-5)
    assert chosen.scores[2] < 0.99


def test_the_best_of_the_cameras_counts() -> None:
    # Red and green are asked for, so both keyframes match a camera fully, and the blue one neither.
    bank = Bank("red", "blue", "green")
    chosen = Embedding(ColourLayout()).select(bank.asked("green", "nothing", "red"), bank.views, 2)
    assert set(chosen.ids.tolist()) == {0, 2}
    assert chosen.scores == pytest.approx([1, 1], abs=1e-5)


def test_each_image_is_read_once() -> None:
    bank, rule = Bank("red", "blue", "green"), Embedding(ColourLayout())
    rule.select(replace(bank.asked("red"), exclude=np.array([1])), bank.views, 1)
    assert bank.read_ids == [0, 2]
    rule.select(bank.asked("blue"), bank.views, 1)
    assert bank.read_ids == [0, 2, 1]


def test_without_a_picture_or_a_bank_there_is_no_answer() -> None:
    bank, rule = Bank("red"), Embedding(ColourLayout())
    assert len(rule.select(bank.asked("nothing"), bank.views, 1).ids) == 0
    assert len(rule.select(replace(bank.asked("red"), read=None), bank.views, 1).ids) == 0
    assert bank.read_ids == []
