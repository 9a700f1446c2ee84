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
# # 01 Store and retrieve
#
# The two calls of `spmem`, once through: store the frames of a walk, close the memory, open it again, and ask what is
# known along the way that comes next.
#
# Conventions: OpenCV axes (+x right, +y down, +z forward), `K` in pixels, z-depth in world units with 0 = none, time in
# seconds. To run all of this on frames of your own, put their path here: a 7-Scenes, TUM RGB-D, nerfstudio or COLMAP
# data set, or a plain folder of images, depths and poses.

# %%
WALK = None  # a folder of posed RGB-D frames of your own

# %%
# %matplotlib inline
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

import spmem
from spmem import worlds
from spmem.integrations.readers import open_walk
from spmem.pictures import contact_sheet, coverage_image, rgb_image

plt.rcParams["figure.dpi"] = 72

# %% [markdown]
# ## Frames
#
# Without a path, a walker goes round through three rooms of a procedural house, back to the start: depth and poses are
# exact. With one, at most 60 frames of your walk are read. The first 60 % are stored, the rest is asked about.

# %%
if WALK is None:
    house = worlds.House(seed=3, rooms=3)
    cameras = worlds.loop(house, 60, seed=3, width=128, height=96)
    frames = list(house.frames(cameras))
else:
    walk = open_walk(WALK)
    frames = list(walk[:: -(-len(walk) // 60)])

turn = round(0.6 * len(frames))
past, ahead = frames[:turn], frames[turn:]
print(
    f"{len(past)} frames to store, {len(ahead)} to ask about, each {frames[0].camera.width} x {frames[0].camera.height}"
)

figure, axes = plt.subplots(1, 6, figsize=(14, 2.1))
for axis, i in zip(axes, range(0, turn, -(-turn // 6)), strict=False):
    axis.imshow(rgb_image(past[i].rgb))
    axis.set_title(f"frame {i}", fontsize=10)
for axis in axes:
    axis.axis("off")
figure.tight_layout()

# %% [markdown]
# ## Store
#
# Every frame goes into the map of surfels. It also becomes a keyframe, and gets an id, where at least a tenth of its
# pixels show what no keyframe shows (`KeyframeConfig.novelty`); otherwise `store` answers `None`. Leaving the `with` block
# commits and closes.

# %%
folder = Path(tempfile.mkdtemp()) / "walk.spmem"
with spmem.open(folder) as memory:
    ids = [memory.store(frame) for frame in past]
    print(memory)

print("".join("·" if id is None else "K" for id in ids), " (K: became a keyframe)")

# %% [markdown]
# ## Retrieve
#
# The memory is opened again, only to be read, and asked about six cameras of what comes next. `given=()` says that the
# model holds no frames itself; by default those are the last frames stored, and no keyframe is spent on what they show.

# %%
memory = spmem.open(folder, mode="r")
shown = [round(i * (len(ahead) - 1) / 5) for i in range(6)]  # evenly, the first and the last too
query = spmem.Camera.stack([ahead[i].camera for i in shown])
context = memory.retrieve(query, k=6, given=())

truth = [ahead[i] for i in shown]
contact_sheet(context, truth, memory=memory, title="What memory knows of the way ahead")

# %% [markdown]
# On the map, white triangles are keyframes and coloured ones the cameras asked about, as the bars at the left of their rows.
# A row shows what the camera will really see, what memory renders there, what it does *not* cover (stripes), and how far the
# rendered depth is off, as a share of the true depth. At the right stand the keyframes for the model to look at, in the
# order in which the rule chose them. The bar under each says what share of all the cameras' pixels it saw, and the strong
# part what it alone saw.

# %%
for contribution in context.explain():
    print(
        f"keyframe {contribution.id:3} of {contribution.time:5.1f} s   score {contribution.score:.2f}   "
        f"saw {contribution.sees:4.0%} of what is asked, {contribution.alone:4.0%} it alone"
    )

# %% [markdown]
# ## "I don't know this place"
#
# `context.coverage` is the share of each camera's pixels that memory covers. Along the whole way ahead it says where the
# model can rely on memory, and where it has to invent. At the right, the frame of which about half is known.

# %%
along = memory.retrieve(spmem.Camera.stack([frame.camera for frame in ahead]), k=4)
half = int((along.coverage - 0.5).abs().argmin())

figure, (left, right) = plt.subplots(1, 2, figsize=(12, 2.9), width_ratios=(2.4, 1))
left.plot(range(turn, len(frames)), along.coverage, color="#0f8a9d", linewidth=2)
left.plot(turn + half, along.coverage[half], "o", color="#f48434", markersize=9)
left.set(xlabel="frame", ylabel="coverage", ylim=(0, 1.03))
left.grid(color="#e5e7eb")
left.spines[["top", "right"]].set_visible(False)
right.imshow(coverage_image(along.projection.rgb[half], along.projection.mask[half], colour=True))
right.set_title(f"frame {turn + half}: {along.coverage[half]:.0%} covered", fontsize=10)
right.axis("off")
figure.tight_layout()

# %%
memory.close()
