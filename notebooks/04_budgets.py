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
# # 04 What a memory costs, and what it recalls
#
# A bank of keyframes grows with what is new. What can be had for fewer bytes? Three ways are measured here: keep fewer
# frames to begin with, store their colour more coarsely, and give the memory a budget, so that it drops keyframes as new ones come.

# %%
WALK = None  # a folder of posed RGB-D frames of your own

# %%
# %matplotlib inline
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import spmem
from spmem.evaluation import measures
from spmem.evaluation.episode import Size
from spmem.evaluation.retrieval import store
from spmem.evaluation.scenes import recorded, room_to_room
from spmem.registry import SHIPPED

plt.rcParams["figure.dpi"] = 80
K = 4
TEAL, ORANGE, PINK, GREY = "#0f8a9d", "#f48434", "#e64980", "#868e96"

# %% [markdown]
# ## The walk
#
# Frames to store, then *targets*: cameras that come back to what the frames saw. **coverage@4** is the share of a target's
# revisitable pixels (those that some stored frame truly saw, by exact depth) that four keyframes saw together; the rule is
# `covisibility` throughout. Bytes are those of the whole memory on disk: keyframes, map and views.

# %%
size = Size(frames=48, targets=5, width=96, height=72)
scene = room_to_room(1, size) if WALK is None else recorded(Path(WALK), size)
print(f"{len(scene.frames)} frames, {len(scene.targets)} targets")


# %%
def coverage(memory, rows, where=None):
    """Mean coverage@4 over the targets; ``rows`` is the frame of each keyframe."""
    values = []
    for target in scene.targets:
        found = memory.retrieve(target.cameras, k=K, where=where, given=(), time=target.time)
        values.append(measures.coverage(target.saw, [rows[one.id] for one in found.keyframes]))
    return float(np.mean(values))


def best(rows):
    """The same, chosen greedily on the truth: what these keyframes could give."""
    chosen = [measures.best(target.saw, K, list(rows.values())) for target in scene.targets]
    pairs = zip(scene.targets, chosen, strict=True)
    return float(np.mean([measures.coverage(target.saw, some) for target, some in pairs]))


def on_disk(folder):
    """Kilobytes of a closed memory."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1000


def stored(**keyframes):
    """Store the scene with a configuration of keyframes: folder, frame of each keyframe."""
    folder = Path(tempfile.mkdtemp()) / "scene.spmem"
    config = spmem.MemoryConfig(keyframes=spmem.KeyframeConfig(commit_every=0, **keyframes))
    with spmem.open(folder, config=config) as memory:
        rows = store(memory, scene)
    return folder, rows


# %% [markdown]
# ## Keep fewer frames
#
# `KeyframeConfig.novelty` is the share of a frame's pixels that must show what no keyframe shows; at 0 every frame is kept. The
# map is the same for all, since every frame is fused.

# %%
sweep = []
for novelty in (0.0, 0.1, 0.2, 0.4, 0.7):
    folder, rows = stored(novelty=novelty)
    with spmem.open(folder, mode="r") as memory:
        sweep.append((novelty, len(rows), on_disk(folder), coverage(memory, rows), best(rows)))

print("novelty  keyframes  kB on disk  coverage@4  best possible")
for novelty, count, kilobytes, value, most in sweep:
    print(f"{novelty:7.2f}  {count:9}  {kilobytes:10.0f}  {value:10.3f}  {most:13.3f}")

novelties, counts, bytes_, values, bests = (np.array(column) for column in zip(*sweep, strict=True))
each, fixed = np.polyfit(counts, bytes_, 1)  # kB a keyframe, kB of the map and all else
print(
    f"a keyframe takes {each:.0f} kB, the map and all else {fixed:.0f} kB (a line through the five)"
)

# %%
figure, axis = plt.subplots(figsize=(8, 3.8))
axis.plot(
    bytes_,
    bests,
    color=GREY,
    linestyle=":",
    marker="o",
    markersize=4,
    label="best four of those kept",
)
axis.plot(bytes_, values, color=TEAL, linewidth=2, marker="o", label="covisibility")
for novelty, count, x, y in zip(novelties, counts, bytes_, values, strict=True):
    words = f"novelty {novelty:g}\n{count:.0f} keyframes"
    look = {"textcoords": "offset points", "fontsize": 8, "ha": "center", "va": "top"}
    axis.annotate(words, (x, y), (0, -12), **look)
words = "kB on disk; the axis begins where the map and all else end"
axis.set(xlabel=words, ylabel=f"coverage@{K}", ylim=(0, 1.05), xlim=(fixed, 1.02 * bytes_.max()))
axis.grid(color="#e5e7eb")
axis.set_axisbelow(True)
axis.spines[["top", "right"]].set_visible(False)
axis.legend(frameon=False, loc="lower right")
figure.tight_layout()

# %% [markdown]
# The distance between the two curves is what the rule's choice costs; the fall of the dotted one is what not keeping frames
# costs. Keeping every frame buys little: most of its bytes hold the same surfaces again.
#
# ## Store colour more coarsely
#
# `KeyframeConfig.quality` is that of the JPEG in which colour is stored. Depth, poses and the map do not depend on it, so that
# the same keyframes are found, and coverage stays; what changes is how they look. PSNR is between the stored frames and those read back.

# %%
coarse = []
for quality in (95, 60, 30, 10):
    folder, rows = stored(quality=quality)
    with spmem.open(folder, mode="r") as memory:
        squared, images = [], []
        for id, row in rows.items():
            read, true = memory.keyframes[id].frame, scene.frames[row]
            squared.append(float((read.rgb_float() - true.rgb_float()).square().mean()))
            images.append(read.rgb)
        psnr = float(np.mean(-10 * np.log10(squared)))
        coarse.append((quality, on_disk(folder), psnr, images[len(images) // 2]))

figure, axes = plt.subplots(1, len(coarse), figsize=(13, 3.1))
for axis, (quality, kilobytes, psnr, image) in zip(axes, coarse, strict=True):
    axis.imshow(image)
    axis.set_title(f"quality {quality}\n{kilobytes:.0f} kB, PSNR {psnr:.1f} dB", fontsize=10)
    axis.axis("off")
figure.tight_layout()

# %% [markdown]
# ## A budget
#
# `spmem.open(budget="2 GB")`, or a number of keyframes, drops keyframes while frames are stored; a policy says which. `coverage` drops what
# others saw too, `recency` the oldest, `uniform` where keyframes are dense in time, `reservoir` at random, which is the control. The map
# keeps its surfaces. Here every frame is kept at first (novelty 0), and the budget is a number, to compare with the bytes above.

# %%
shares = (0.1, 0.25, 0.5)
sizes = [max(K, round(share * len(scene.frames))) for share in shares]


def within(budget, policy):
    """Coverage of a memory in RAM that was never larger than the budget, and the best that its keyframes could give."""
    config = spmem.MemoryConfig(
        keyframes=spmem.KeyframeConfig(commit_every=0, novelty=0.0),
        retention=spmem.RetentionConfig(budget, policy),
    )
    with spmem.open(config=config) as memory:
        rows = store(memory, scene)
        rows = {id: rows[id] for id in memory.keyframes}
        return coverage(memory, rows), best(rows)


kept = {policy: [within(n, policy) for n in sizes] for policy in SHIPPED["retention"]}

figure, axis = plt.subplots(figsize=(8, 3.8))
for (name, found), colour in zip(kept.items(), (TEAL, ORANGE, PINK, GREY), strict=False):
    shown = [value for value, _ in found]
    axis.plot([each * n for n in sizes], shown, color=colour, marker="o", linewidth=2, label=name)
axis.plot(each * counts, values, "s", color="#212529", label="kept by novelty, as above")
axis.set(xlabel="kB of keyframes", ylabel=f"coverage@{K}", ylim=(0, 1.05), xlim=(0, None))
axis.grid(color="#e5e7eb")
axis.set_axisbelow(True)
axis.spines[["top", "right"]].set_visible(False)
axis.legend(frameon=False, loc="lower right")
figure.tight_layout()

# %%
print("coverage@4, and the best that the keyframes could give")
print("budget      " + "".join(f"{n:>16}" for n in sizes))
for name, found in kept.items():
    print(f"{name:12}" + "".join(f"{value:9.3f}, {most:.3f}" for value, most in found))

# %% [markdown]
# What comes back was seen long ago, so the latest keyframes (`recency`) are a poor budget; `coverage` looks at what keyframes show. Asking
# what is new before a frame is kept (the squares) costs nothing later. Many walks, and their errors, are in `benchmarks/retention.py`.
