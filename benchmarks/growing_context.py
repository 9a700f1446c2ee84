"""Is it worth training on chunks in a row that go on from the model's own answers? Exposure gaps, beside single chunks.

    python benchmarks/growing_context.py [--quick] [--json] [--steps N]

``nano`` goes on training in the house by torchlight of ``fine_tuning.py``, in one way on single chunks after true recent frames, in the
others on rows of 1, then 2, then 4 chunks (``TrainConfig.stages``), for the same number of steps and of chunks a step. Then all
draw held-out stretches chunk by chunk, each going on from its own last frames, and once more from the true ones.

- own: PSNR in dB of the chunks but the first, all pixels, where recent frames are the model's own
- gap: what that loses against true recent frames; standard errors are over held-out stretches
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from fine_tuning import Scene, fine_tune, torchlight

from spmem.evaluation.report import aim, mean_and_error, parse_options, print_report
from spmem.integrations.reference.batches import cut, stacked
from spmem.integrations.reference.conditioning import conditions, frames_in, frames_out, rescaled
from spmem.integrations.reference.generator import ReferenceGenerator
from spmem.integrations.reference.model import Conditions, WorldModel
from spmem.integrations.reference.sampling import sample

WAYS: dict[str, dict[str, Any]] = {
    "single chunks": {"batch": 7, "lr": 1e-3},
    "rows, gradients through 1": {"batch": 3, "lr": 1e-3, "stages": (1, 2, 4), "through": 1},
    "rows, gradients through 2": {"batch": 3, "lr": 1e-3, "stages": (1, 2, 4), "through": 2},
}
"""All train on 7 chunks a step, on average."""


def play_closed_loop(model: WorldModel, scene: Scene, *, memory: bool, own: bool) -> list[float]:
    """PSNR in dB of each held-out stretch's chunks but the first, after a model's own recent frames or after true ones."""
    config = model.config
    errors, last = [], None
    for i in range(len(scene.held_out[0].keyframes)):
        clip = stacked([cut(one, i, config) for one in scene.held_out])
        scale = clip.scale()
        video = frames_in(clip, scale)[:, :, : config.channels]
        given = conditions(clip, scale)
        if not memory:
            given = Conditions(given.rays, *(torch.zeros_like(form) for form in given[1:]))
        if own and last is not None:
            video[:, : config.history] = rescaled(*last, scale)
        drawn, _ = sample(model, video, given, steps=4, seed=i)
        rgb, _ = frames_out(drawn, scale)
        errors.append((rgb - clip.rgb[:, config.history :]).square().mean((1, 2, 3, 4)))
        last = drawn[:, drawn.shape[1] - config.history :], scale
    psnr: list[float] = (-10 * torch.stack(errors[1:]).log10()).mean(0).tolist()
    return psnr


def main() -> None:
    """Train, draw and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under a minute, for a look")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--steps", type=int, default=60, help="of each training")
    options = parse_options(parser)
    steps = min(options.steps, 3) if options.quick else options.steps
    scene = torchlight(7, learn=2, held_out=2) if options.quick else torchlight(7)
    models, seconds, _ = fine_tune(scene, WAYS, steps, seed=0)
    models = {"no fine-tuning": ReferenceGenerator.from_pretrained("nano").model} | models
    rows, own = [], {}
    for name, model in models.items():
        row: dict[str, Any] = {"trained on": name}
        row["time of a step"] = f"{seconds[name] / seconds['single chunks']:.2f}" if name in seconds else "-"  # fmt: skip
        for memory, words in ((True, "with memory"), (False, "without")):
            own[name, memory] = play_closed_loop(model, scene, memory=memory, own=True)
            true = play_closed_loop(model, scene, memory=memory, own=False)
            row[f"own, {words}, dB"] = mean_and_error(own[name, memory])
            gap = np.subtract(true, own[name, memory]).tolist()
            row[f"gap, {words}, dB"] = mean_and_error(gap)
        rows.append(row)
    aims = []
    for name in list(WAYS)[1:]:
        for memory, words in ((True, "with memory"), (False, "without")):
            gain = np.subtract(own[name, memory], own["single chunks", memory]).tolist()
            rows.append({"over single chunks": name, "memory": words, "own, dB": mean_and_error(gain)})  # fmt: skip
            aims.append(aim(f"{name} over single chunks, {words}", float(np.mean(gain)), 0.0, "dB", "higher"))  # fmt: skip
    print_report(rows, aims, as_json=options.json)


if __name__ == "__main__":
    main()
