"""Every rule of retrieval on the same cameras, measured against exact depth."""

import torch

import spmem
from spmem import worlds
from spmem.retrieval.rules import METHODS
from spmem.testing.truth import covisibility

house = worlds.House(seed=2, rooms=2)
cameras = worlds.loop(house, 32, width=64, height=48)  # the last camera is the first one
asked = cameras[28:]
truth = house.render(asked).depth

with spmem.open() as memory:
    for frame in house.frames(cameras[:28]):
        memory.store(frame)

    for rule in METHODS:
        chosen = memory.retrieve(asked, k=3, method=rule, given=()).keyframes
        seen = 0.0
        if chosen:
            views = spmem.Camera.stack([keyframe.camera for keyframe in chosen])
            depths = house.render(views).depth
            masks = [
                covisibility(truth[t], asked[t], depths, views).masks for t in range(len(asked))
            ]
            seen = float(torch.stack([mask.any(0) for mask in masks]).float().mean())
        print(f"{rule:>18}: its keyframes saw {seen:.0%} of what is asked")
