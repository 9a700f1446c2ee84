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
import json
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from safetensors import safe_open

import spmem
from spmem import worlds
from spmem.errors import InputError, KeyframeNotFoundError, StoreError
from spmem.integrations.embedding.colour_layout import ColourLayout
from spmem.integrations.readers import open_walk
from spmem.names import checked_uid
from spmem.pictures import contact_sheet, rgb_image
from spmem.query import Selection
from spmem.stores.keyframes.frames import require_complete
from spmem.stores.keyframes.groups import checked_group
from spmem.testing.keyframe_store import DurableStoreTests, KeyframeStoreTests
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
# A keyframe store needs thirteen methods. What it can do besides (commits, branches, writing in the background) are capabilities,
# protocols of their own; a memory asks for one when it is used. This store keeps each keyframe as a safetensors file, at once and
# exactly. It has no history, and need not say so.


# %%
class FileKeyframes:
    """Keyframes as files in a folder, one each; a removed one leaves an empty file, so that its id is not given again."""

    def __init__(self, folder):
        self._folder, self._closed = Path(folder), False
        self._folder.mkdir(parents=True, exist_ok=True)
        files = {int(file.stem): file for file in sorted(self._folder.glob("[0-9]*.safetensors"))}
        self._next = 1 + max(files, default=-1)
        self._rows = {id: self._row(file) for id, file in files.items() if file.stat().st_size}

    def append(self, frame, uid=None):
        self._require_open()
        require_complete(frame)
        uid = checked_uid(uid)
        if uid in self.uids():
            raise InputError("the store holds this keyframe already")
        id, self._next = self._next, self._next + 1
        self._write(id, frame, uid)
        return id

    def read(self, id):
        self._require_all([id])
        _, camera, time, _ = self._rows[id]
        tensors = safetensors.torch.load(self._file(id).read_bytes())
        pixels = {name: tensors[name] for name in tensors if name not in ("K", "c2w", "time")}
        return spmem.Frame(camera=camera, time=time, **pixels)

    def move(self, ids, c2w):
        self._require_all(ids.tolist())
        for id, pose in zip(ids.tolist(), c2w, strict=True):
            self._write(id, self.read(id).moved(pose.copy()), self._rows[id][0])

    def remove(self, ids):
        self._require_all(ids.tolist())
        for id in set(ids.tolist()):
            replace_file(self._file(id), b"")
            del self._rows[id]

    def write_arrays(self, group, arrays, attributes):
        self._require_open()
        checked = checked_group(group, arrays, attributes)
        packed = safetensors.numpy.save(checked.arrays, {"attributes": checked.attributes})
        replace_file(self._folder / f"{group}.safetensors", packed)

    def read_arrays(self, group):
        self._require_open()
        file = self._folder / f"{group}.safetensors"
        if not file.exists():
            return None
        with safe_open(file, "numpy") as packed:
            attributes = json.loads(packed.metadata()["attributes"])
        return safetensors.numpy.load(file.read_bytes()), attributes

    def close(self):
        self._closed = True

    def __len__(self):
        return len(self._rows)

    def ids(self):
        return np.array(list(self._rows), np.int64)

    def uids(self):
        return [uid for uid, *_ in self._rows.values()]

    def times(self):
        return np.array([time for _, _, time, _ in self._rows.values()], np.float64)

    def cameras(self):
        return [camera for _, camera, *_ in self._rows.values()]

    def sizes(self):
        return np.array([size for *_, size in self._rows.values()], np.int64)

    def _file(self, id):
        return self._folder / f"{id:08}.safetensors"

    def _row(self, file):
        with safe_open(file, "torch") as packed:
            height, width, _ = packed.get_slice("rgb").get_shape()
            K, c2w, time = (packed.get_tensor(name) for name in ("K", "c2w", "time"))
            camera = spmem.Camera(K, c2w, width=width, height=height)
            uid = bytes.fromhex(packed.metadata()["uid"])
            return uid, camera, float(time), file.stat().st_size

    def _write(self, id, frame, uid):
        tensors = frame.tensors() | {"K": frame.camera.K, "c2w": frame.camera.c2w}
        tensors["time"] = torch.tensor(frame.time, dtype=torch.float64)
        packed = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        replace_file(self._file(id), safetensors.torch.save(packed, {"uid": uid.hex()}))
        self._rows[id] = self._row(self._file(id))

    def _require_open(self):
        if self._closed:
            raise StoreError("the store is closed")

    def _require_all(self, ids):
        self._require_open()
        for id in ids:
            if id not in self._rows:
                raise KeyframeNotFoundError(f"no keyframe {id}; the store holds {len(self)}")


def replace_file(file, content):
    """Write a file whole, or not at all."""
    new = file.with_suffix(".new")
    new.write_bytes(content)
    new.replace(file)


# %% [markdown]
# `spmem.open` takes a store as it is. (Under an address like `files://walk`, once a package registers one for the scheme.)

# %%
folder = tempfile.TemporaryDirectory()
with spmem.open(FileKeyframes(folder.name)) as filed:
    for frame in past:
        filed.store(frame)

with spmem.open(FileKeyframes(folder.name), mode="r") as filed:
    again = filed.retrieve(target.camera, k=4, given=())
    same = [one.id for one in again.keyframes] == [one.id for one in answers[1].keyframes]
    print("opened again, the same answer as the shipped store's:", same)
    print(
        f"{sum(file.stat().st_size for file in Path(folder.name).iterdir()) / 1e6:.1f} MB in files"
    )
    try:
        filed.fork("what-if")
    except spmem.errors.StoreError as error:
        print("without a history:", error)

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


class TestFileKeyframes(KeyframeStoreTests, DurableStoreTests):
    @pytest.fixture
    def store(self, tmp_path):
        return FileKeyframes(tmp_path)

    @pytest.fixture
    def reopen(self, tmp_path):
        return lambda: FileKeyframes(tmp_path)


# %%
MARKS = {"passed": "✓", "failed": "✗", "skipped": "- (a capability that it lacks)"}


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
    file.write_text("from __main__ import TestSameSpot, TestSortedRows, TestFileKeyframes")
    outcomes = Outcomes()
    code = pytest.main(["-q", "-p", "no:cacheprovider", "--rootdir", folder, str(file)], [outcomes])

for part in dict.fromkeys(one[0] for one in outcomes.results):
    print(part)
    for one in dict.fromkeys(one for one in outcomes.results if one[0] == part):
        print("   ", MARKS[one[2]], one[1])
assert code == 0
assert len(outcomes.results) > 30

# %% [markdown]
# Installed packages register rules, indices and other parts under a name, which then works wherever a shipped name does:
# see the page about extending.
