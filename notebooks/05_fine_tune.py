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
# # 05 Fine-tune the bundled generator on a scene
#
# From the weights that come with the package to a model that has seen *this* scene, in a few minutes on a CPU. By default the scene
# is a procedural house that the weights were not trained on; a folder of your own posed RGB-D frames takes its place by
# changing the next line.

# %%
WALK = None  # a folder of posed RGB-D frames of your own
STEPS = 100

# %%
# %matplotlib inline
import math
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from spmem import worlds
from spmem.integrations.readers import open_walk
from spmem.integrations.reference.episodes import in_walk, record_episode
from spmem.integrations.reference.generator import ReferenceGenerator
from spmem.integrations.reference.samples import sheet
from spmem.integrations.reference.training import TrainConfig, Trainer

plt.rcParams["figure.dpi"] = 80
torch.set_num_threads(2)

# %% [markdown]
# ## The scene
#
# An *episode* is 48 frames, and what a memory of the frames before answered about every chunk of four: the projection and the
# keyframes. It is made through `store` and `retrieve` alone. The last episode is held out.

# %%
if WALK is None:
    house = worlds.House(seed=7, rooms=2)
    size = {"width": 64, "height": 64}
    ways = [
        worlds.loop(house, 48, seed=0, **size),
        worlds.rotate_and_return(house, 48, angle=1.5 * math.pi, seed=1, **size),
        worlds.walk(house, 48, seed=2, stride=0.2, **size),
        worlds.walk(house, 48, seed=3, stride=0.2, **size),
    ]
    episodes = [record_episode(list(house.frames(way, samples=3))) for way in ways]
else:
    walk = open_walk(Path(WALK))
    episodes = list(in_walk(walk, length=min(48, len(walk) // 8 * 4)))
*learn, held_out = episodes
print(f"{len(learn)} episodes to learn from, {sum(len(one.keyframes) for one in learn)} chunks")


# %%
def looked_at(model, title):
    """Chunks of the held-out episode: the truth, with memory, without."""
    image, psnr = sheet(model, [held_out], steps=6, clips=5)
    plt.figure(figsize=(12, 5.3))
    plt.imshow(image)
    plt.axis("off")
    decibels = ", ".join(f"{name} {value:.1f} dB" for name, value in psnr.items())
    plt.title(f"{title}: truth, with memory, without ({decibels} where memory covers)", fontsize=9)
    plt.show()


model = ReferenceGenerator.from_pretrained("nano").model
looked_at(model, "before")

# %% [markdown]
# ## Training
#
# All weights are trained, on the scene as it is: neither mirrored nor with exchanged colours, as houses were for the shipped
# weights. `memory_only=True` would keep the backbone and train what reads memory; `lora=8` would train adapters.
# On the command line: `spmem train --out mine --walk WALK --init nano --steps 100`.

# %%
with tempfile.TemporaryDirectory() as folder:
    config = TrainConfig(
        steps=STEPS, batch=4, lr=1e-3, warmup=10, ema=0.95, augment=False, save_every=STEPS
    )
    run = Trainer(model, config, learn, Path(folder))
    losses = [run.advance() for _ in range(STEPS)]

plt.figure(figsize=(6, 2))
window = max(STEPS // 12, 1)
smooth = torch.tensor(losses).unfold(0, window, 1).mean(1)
plt.plot(range(window, STEPS + 1), smooth)
plt.xlabel("step")
plt.ylabel("loss")
plt.show()

# %% [markdown]
# ## After
#
# The running mean of the weights is what is kept. A house like those that the weights were trained on has little left to teach in so
# few steps; compare the two figures on the pictures, and expect more of a scene that looks otherwise, and of more steps.

# %%
tuned = run.averaged()
looked_at(tuned, "after")

# %%
with tempfile.TemporaryDirectory() as folder:
    ReferenceGenerator(tuned).save_pretrained(folder)
    again = ReferenceGenerator.from_pretrained(folder)
    print(sorted(path.name for path in Path(folder).iterdir()))
