# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 03 Parts of your own
#
# Every part of a memory is a protocol: a class with the right methods is one, there is nothing to inherit. Below are a rule of
# retrieval, an index of descriptors and a keyframe store, each short, used at once and then proved by the conformance classes that
# ship with the package.

# %%
WALK = None  # a folder of posed RGB-D frames of your own

# %%
# %matplotlib inline
import contextlib
import io
import tempfile
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

import spmem
from spmem import worlds
from spmem.integrations.embedding.colour_layout import ColourLayout
from spmem.integrations.readers import open_walk
from spmem.memory import SpatialMemory
from spmem.pictures import contact_sheet, rgb_image
from spmem.query import Selection
from spmem.retrieval.rules import retriever
from spmem.stores.keyframes.ram import RamKeyframes
from spmem.stores.maps.surfels import SurfelMap
from spmem.testing.keyframe_store import KeyframeStoreTests
from spmem.testing.retriever import RetrieverTests
from spmem.testing.view_index import ViewIndexTests

plt.rcParams["figure.dpi"] = 72

# %%
if WALK is None:
    house = worlds.House(seed=5, rooms=3)
    frames = list(house.frames(worlds.walk(house, 60, width=96, height=72, stride=0.2)))
else:
    walk = open_walk(WALK)
    frames = list(walk[:: -(-len(walk) // 40)])

middle = len(frames) // 2  # held back, to be asked about
past, target = frames[: middle - 2] + frames[middle + 3 :], frames[middle]
memory = spmem.open()
for frame in past:
    memory.store(frame)
print(memory)

# %% [markdown]
# ## A rule of retrieval
#
# A rule is shown the *views* of all keyframes as numpy arrays: ids, times (seconds), intrinsics in pixels of a 48 x 64 thumbnail,
# camera-to-world poses (OpenCV axes), and the thumbnail's z-depth (world units, 0 = none). A query has the cameras and what
# memory renders there. This rule asks for the same spot: it takes the keyframes whose middle of what they saw lies nearest to
# the middle of what the query sees, from wherever they looked at it.


# %%
class SameSpot:
    """Keyframes by how near the middle of what they saw lies to the query's; scores are minus the distance."""

    def observe(self, views, rows):
        """Nothing to keep: the views hold all that is needed."""

    def select(self, query, views, k):
        known = query.projection.mask
        rows = np.flatnonzero(~np.isin(views.ids, query.exclude) & (views.depth > 0).any((1, 2)))
        if not known.any() or not len(rows) or not k:
            return Selection.empty()
        spot = query.projection.points[known].mean(0).cpu()
        depth = torch.from_numpy(views.depth[rows])
        saw = spmem.Camera(views.K[rows], views.c2w[rows], width=64, height=48).unproject(depth)
        there = (depth > 0)[..., None]
        middle = (saw * there).sum((1, 2)) / there.sum((1, 2))
        distance = (middle - spot).norm(dim=1).numpy()
        best = np.argsort(distance, kind="stable")[:k]
        return Selection(views.ids[rows[best]], -distance[best].astype(np.float32))


# %% [markdown]
# It is used by handing it over. `explain` measures every rule alike, by what its keyframes saw.

# %%
own = SameSpot()
answers = [
    memory.retrieve(target.camera, k=4, method=rule, given=()) for rule in (own, "covisibility")
]
contact_sheet(answers, [target, target], labels=["SameSpot", "covisibility"])

# %%
for answer in answers:
    contributions = answer.explain()
    shares = ", ".join(
        f"#{one.id} saw {one.sees:.0%} ({one.alone:.0%} alone)" for one in contributions
    )
    print(f"{answer.method:13} {shares}")

# %% [markdown]
# The middle of a view says nothing of what stands between, nor what two keyframes show both: on one camera the rule may keep
# up with `covisibility`. Notebook 02 measures rules over many; put yours there.
#
# ## An index of descriptors
#
# An index finds the largest inner products among descriptors `[n, d]` float32. This one keeps a matrix and sorts.


# %%
class SortedRows:
    """Exact search by inner product, in numpy."""

    def __init__(self, dim):
        self._rows = {}  # id: its descriptor
        self._dim = dim

    def __len__(self):
        return len(self._rows)

    def add(self, ids, descriptors):
        self._rows.update(zip(ids.tolist(), descriptors.copy(), strict=True))

    def remove(self, ids):
        for id in ids.tolist():
            self._rows.pop(id, None)

    def search(self, queries, k, exclude=None):
        scores = np.full((len(queries), k), -np.inf, np.float32)
        found = np.full((len(queries), k), -1, np.int64)
        hidden = set() if exclude is None else set(exclude.tolist())
        ids = np.array([id for id in self._rows if id not in hidden], np.int64)
        if len(ids) and len(queries) and k:
            product = queries @ np.stack([self._rows[id] for id in ids.tolist()]).T
            order = np.argsort(-product, axis=1, kind="stable")[:, :k]
            scores[:, : order.shape[1]] = np.take_along_axis(product, order, 1)
            found[:, : order.shape[1]] = ids[order]
        return scores, found


# %% [markdown]
# Here it searches the colours and edges of the keyframes for the image that was held back.

# %%
describe = ColourLayout()
index = SortedRows(describe.dim)
for id, keyframe in memory.keyframes.items():
    index.add(np.array([id]), describe(keyframe.frame.rgb_float()[None]).numpy())
scores, found = index.search(describe(target.rgb_float()[None]).numpy(), 5)

figure, axes = plt.subplots(1, 6, figsize=(14, 2.2))
axes[0].imshow(rgb_image(target.rgb))
axes[0].set_title("looks like", fontsize=10)
for axis, id, score in zip(axes[1:], found[0].tolist(), scores[0].tolist(), strict=True):
    axis.imshow(rgb_image(memory.keyframes[id].frame.rgb))
    axis.set_title(f"#{id}, {score:.2f}", fontsize=10)
for axis in axes:
    axis.axis("off")
figure.tight_layout()

# %% [markdown]
# ## A keyframe store
#
# A store may build on a shipped one. This one keeps frames in RAM as `RamKeyframes` does, each deflated: still exact. Groups
# of arrays, corrections, commits and closing are inherited.


# %%
class Zipped(NamedTuple):
    """A frame with its pixels compressed."""

    pixels: bytes
    camera: spmem.Camera
    time: float
    latent: torch.Tensor | None  # a generator's; numbers that do not get smaller

    @classmethod
    def from_frame(cls, frame):
        names = ("rgb", "depth", "confidence", "features")
        given = {n: getattr(frame, n) for n in names if getattr(frame, n) is not None}
        packed = io.BytesIO()
        np.savez_compressed(packed, **{n: tensor.numpy() for n, tensor in given.items()})
        return cls(packed.getvalue(), frame.camera, frame.time, frame.latent)

    def frame(self):
        with np.load(io.BytesIO(self.pixels), allow_pickle=False) as packed:
            return spmem.Frame(camera=self.camera, time=self.time, latent=self.latent, **packed)

    def moved(self, c2w):
        return self._replace(camera=self.frame().moved(c2w).camera)


class ZippedKeyframes(RamKeyframes):
    """Keyframes in RAM, compressed without loss; gone when the process ends."""

    def append(self, frame):
        id = super().append(frame)
        self._frames[id] = Zipped.from_frame(self._frames[id])
        return id

    def read(self, id):
        if self._closed or id not in self._frames:
            return super().read(id)  # which says what is wrong
        return self._frames[id].frame()

    @property
    def nbytes(self):
        return sum(len(one.pixels) for one in self._frames.values())


# %% [markdown]
# `spmem.open` chooses a store by its path; another one goes into the memory's constructor, beside a map and what makes rules
# by name.

# %%
bank = ZippedKeyframes()
with SpatialMemory(SurfelMap(), bank, retriever, spmem.MemoryConfig()) as zipped:
    for frame in past:
        zipped.store(frame)
    again = zipped.retrieve(target.camera, k=4, given=())
    same = [one.id for one in again.keyframes] == [one.id for one in answers[1].keyframes]
    print("the same answer as the shipped store's:", same)
    raw = sum(one.frame.rgb.nbytes + one.frame.depth.nbytes for one in zipped.keyframes.values())
    print(f"{bank.nbytes / raw:.0%} of the bytes of plain frames")

# %% [markdown]
# ## The proof
#
# A conformance class is a set of tests that every sound part passes: subclass it and give the fixture that it asks for. In a
# project of yours these three classes are a test file, and `pytest` runs them. Here a file of one line hands the notebook's
# classes to pytest.


# %%
class TestSameSpot(RetrieverTests):
    @pytest.fixture
    def make(self):
        return SameSpot


class TestSortedRows(ViewIndexTests):
    @pytest.fixture
    def make(self):
        return SortedRows


class TestZippedKeyframes(KeyframeStoreTests):
    @pytest.fixture
    def store(self):
        return ZippedKeyframes()


# %%
class Outcomes:
    """A pytest plugin that notes what came of each test."""

    def __init__(self):
        self.results = []

    def pytest_runtest_logreport(self, report):
        if report.when == "call" or report.failed:
            part, test = report.nodeid.partition("[")[0].split("::")[-2:]
            self.results.append(
                (part, test.removeprefix("test_").replace("_", " "), report.outcome)
            )


with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
    file = Path(folder) / "test_parts.py"
    file.write_text("from __main__ import TestSameSpot, TestSortedRows, TestZippedKeyframes")
    outcomes = Outcomes()
    code = pytest.main(["-q", "-p", "no:cacheprovider", "--rootdir", folder, str(file)], [outcomes])

for part in dict.fromkeys(one[0] for one in outcomes.results):
    print(part)
    for one in dict.fromkeys(one for one in outcomes.results if one[0] == part):
        print("   ", "✓" if one[2] == "passed" else "✗", one[1])
assert code == 0
assert len(outcomes.results) > 30

# %% [markdown]
# Installed packages register rules, indices and other parts under a name, which then works wherever a shipped name does:
# see the page about extending.
