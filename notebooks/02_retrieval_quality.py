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
# # 02 Which keyframes does a rule bring back?
#
# Every published rule of retrieval is here by name, and all of them answer the same question: of the keyframes in memory,
# which four should a model look at before it generates this camera? First one revisit, drawn for all rules. Then the
# table over many, and how much is still recalled the longer a place was out of sight.
#
# What a rule's answer is worth is measured by exact depth, not by memory: a frame *saw* a pixel of the target where that pixel's
# surface point is in its view and nothing stands before it. **coverage@4** is the share of the target's *revisitable* pixels
# (those that some stored frame saw) that the four chosen keyframes saw together.

# %%
WALK = None  # a folder of posed RGB-D frames of your own

# %%
# %matplotlib inline
from pathlib import Path

import matplotlib.pyplot as plt
import torch

import spmem
from spmem import worlds
from spmem.evaluation import measures, plots, tables
from spmem.evaluation.episode import Size, episode
from spmem.evaluation.report import mean_and_error
from spmem.evaluation.retrieval import METHODS, ask, store
from spmem.evaluation.scenes import FAMILIES, recorded
from spmem.evaluation.sight import Sight, sight_of
from spmem.integrations.readers import open_walk
from spmem.pictures.canvas import FAINT, QUERIES, Page
from spmem.pictures.panels import coverage_image, rgb_image
from spmem.pictures.plan import draw_plan, ground_plan

plt.rcParams["figure.dpi"] = 80
K = 4

# %% [markdown]
# ## One revisit
#
# The first 60 % of a walk are stored. Of the rest, the target is the camera whose place was out of sight for longest.

# %%
if WALK is None:
    house = worlds.House(seed=3, rooms=4)
    cameras = worlds.walk(house, 100, width=96, height=72, stride=0.3)
    frames = list(house.frames(cameras))
    sight = sight_of(house, cameras)
else:
    walk = open_walk(WALK)
    frames = [f.replace(time=i / 10) for i, f in enumerate(walk[:: -(-len(walk) // 100)])]
    sight = Sight(
        spmem.Camera.stack([frame.camera for frame in frames]),
        torch.stack([frame.depth for frame in frames]),
    )

turn = round(0.6 * len(frames))
made = episode(
    "mine", 0, tuple(frames[:turn]), sight.part(slice(turn)), sight.part(slice(turn, None)), 12
)
target = max((one for one in made.targets if len(one.cameras) == 1), key=lambda one: one.gap)
image = frames[round(10 * target.time)].rgb

memory = spmem.open()
rows = store(memory, made)  # the frame of each keyframe
print(f"{turn} frames, {len(memory.keyframes)} keyframes")
print(f"target: frame {round(10 * target.time)}, last seen {target.gap} frames before")

# %%
kept = list(rows.values())
answers = {}  # by rule: keyframes, scores, coverage@4
for rule in METHODS:
    found = memory.retrieve(target.cameras, k=K, method=rule, given=(), time=target.time)
    value = measures.coverage(target.saw, [rows[keyframe.id] for keyframe in found.keyframes])
    answers[rule] = (found.keyframes, found.scores.tolist(), value)
answers = dict(sorted(answers.items(), key=lambda item: -item[1][2]))

ids = {row: id for id, row in rows.items()}
best = measures.best(target.saw, K, kept)
chosen = tuple(memory.keyframes[ids[row]] for row in best)
answers["oracle"] = (chosen, [], measures.coverage(target.saw, best))

# %% [markdown]
# The oracle knows the truth and takes greedily what adds most: no rule can be expected to do better.


# %%
def striped(seen):
    """The target's image, with stripes where ``seen`` (of its revisitable pixels) is False: every second pixel."""
    height, width = target.sight.depth.shape[1:]
    mask = torch.zeros(height * width, dtype=torch.bool)
    mask[target.revisitable] = seen
    return coverage_image(image[1::2, 1::2], mask.reshape(height, width), colour=True)


def heading(page, plan, cell, tall):
    """The target, what memory renders there, what it does not cover, what frames saw; and the map."""
    known = memory.retrieve(target.cameras, k=0, given=()).projection
    images = {
        "target": rgb_image(image),
        "projection": rgb_image(known.rgb[0]),
        "uncovered by memory": coverage_image(known.rgb[0], known.mask[0], colour=True),
        "seen by any stored frame": striped(target.saw.any(0)),
    }
    for i, (name, picture) in enumerate(images.items()):
        x, y = 0.1 + i % 2 * (cell + 0.1), 0.1 + i // 2 * (tall + 0.35)
        page.text(x, y, name, fontsize=10, weight="bold")
        page.image(picture, x, y + 0.22, cell, tall)
    first = next(iter(answers))
    x = 0.2 + 2 * (cell + 0.1)
    page.text(x, 0.1, f"target (orange), the four of {first} (pink)", fontsize=10, weight="bold")
    marked = [(keyframe.camera, QUERIES[1]) for keyframe in answers[first][0]]
    axes = page.axes(x, 0.32, page.width - x - 0.1, 2 * tall + 0.35)
    draw_plan(axes, plan, memory, [(target.cameras[0], QUERIES[0]), *marked])
    axes.get_legend().remove()


def small_map(axes, plan, keyframes):
    """Where the keyframes stood and looked (pink), and the target (orange)."""
    axes.imshow(plan.image, extent=plan.extent, origin="lower")
    poses = [target.cameras.c2w[0], *(keyframe.camera.c2w for keyframe in keyframes)]
    colours = [QUERIES[0]] + [QUERIES[1]] * len(keyframes)
    for pose, colour in zip(poses, colours, strict=True):
        at, ahead = (plan.to_page(pose[:3, i].double().numpy()[None])[0] for i in (3, 2))
        reach = 0.09 * (plan.extent[1] - plan.extent[0])
        axes.arrow(
            *at, *(reach * ahead), color=colour, width=reach / 9, head_width=reach / 2.2, zorder=3
        )
        axes.plot(*at, "o", color=colour, markersize=3)


def all_rules():
    """A row a rule: its keyframes with its own scores, what they show of the target, where they stood."""
    left, cell = 1.75, 1.5
    tall = cell * image.shape[0] / image.shape[1]
    plan, small = (ground_plan(memory, width, target.cameras) for width in (900, 300))
    wide = tall * small.image.shape[1] / small.image.shape[0]
    page = Page(left + (K + 1) * (cell + 0.08) + wide + 0.3, 4.35 + len(answers) * (tall + 0.3))
    heading(page, plan, 2.2, 2.2 * tall / cell)
    for x, words in (
        (0, "keyframes, as the rule chose them"),
        (K * (cell + 0.08) + 0.06, "what they saw"),
    ):
        page.text(left + x, 4.1, words, fontsize=10, weight="bold")
    for row, (rule, (keyframes, scores, value)) in enumerate(answers.items()):
        y = 4.35 + row * (tall + 0.3)
        page.text(0.1, y + 0.15, rule, fontsize=9.5, weight="bold")
        page.text(0.1, y + 0.38, f"coverage@{K}: {value:.0%}", fontsize=9.5)
        for i, keyframe in enumerate(keyframes):
            x = left + i * (cell + 0.08)
            page.image(rgb_image(keyframe.frame.rgb), x, y, cell, tall)
            score = f" · score {scores[i] + 0:.3g}" if scores else ""
            words = f"#{keyframe.id} · {keyframe.time:.1f} s{score}"
            page.text(x, y + tall + 0.04, words, fontsize=7.5, color=FAINT)
        x = left + K * (cell + 0.08) + 0.06
        seen = target.saw[[rows[keyframe.id] for keyframe in keyframes]].any(0)
        page.image(striped(seen), x, y, cell, tall)
        small_map(page.axes(x + cell + 0.1, y, wide, tall), small, keyframes)
    return page.figure


all_rules()

# %% [markdown]
# Rows fall by coverage@4. The last picture of a row is the target, with stripes over all that the four keyframes did not see;
# what no stored frame saw is striped in every row. Scores are each rule's own and cannot be compared between rules. A
# rule may answer fewer than four: `none` always does, and others where nothing more helps.
#
# Rules that know poses alone may bring keyframes that look the right way through a wall, or four times nearly the same
# view; rules that know what was seen can spread the four over the target. One revisit may be luck, good or bad: hence the
# table.
#
# ## All rules on many revisits
#
# One small scene of each of the benchmark's five families (a second round, turning away and back, the way back, from room
# to room, both sides of thin walls), or your walk as a scene of its own. This is a look; the full run with its errors is
# `spmem bench retrieval`, and its figures are on the page about benchmarks.

# %%
size = Size(frames=40, targets=4, width=96, height=72)
if WALK is None:
    scenes = [make(1, size) for make in FAMILIES.values()]
else:
    scenes = [recorded(Path(WALK), size)]
judged = [row for scene in scenes for row in ask(scene, METHODS, ks=(K,))[0]]
print(
    f"{len(scenes)} scenes, {sum(len(scene.targets) for scene in scenes)} targets, {len(judged)} answers"
)

# %%
plots.bars(judged)

# %% [markdown]
# `recall@4`: how many of the four keyframes that each saw most are among those chosen. `any hit@4`: whether one of them
# saw a quarter of the revisitable pixels. `redundancy@4`: what pairs of the four saw both, as a share of what either saw; low is good
# only where coverage is high. Means over scenes, with their standard errors.

# %%
MEASURES = ("coverage", "recall", "any hit", "redundancy")
print(f"{'':20}" + "".join(f"{name + f'@{K}':>18}" for name in MEASURES))
for rule in tables.rule_names(judged):
    means = [list(tables.per_scene(judged, rule, name, K).values()) for name in MEASURES]
    print(f"{rule:20}" + "".join(f"{mean_and_error(values):>18}" for values in means))

# %% [markdown]
# ## The longer ago, the harder?
#
# The same answers by how many frames ago the place was last seen. `recent` knows only what was a moment ago; `random` does
# not care when. Whiskers are standard errors over targets, wide with so few of them.

# %%
plots.absence(judged)
