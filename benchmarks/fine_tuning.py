"""The bundled generator fine-tuned on a scene in three ways: what each learns, beside no fine-tuning and no memory.

    python benchmarks/fine_tuning.py [--quick] [--json] [--steps N] [--seeds N] [--docs] [--rates]

Two scenes that ``nano`` was not trained on: a procedural house by torchlight (light falls off with the distance from the camera, so
that a place looks different from wherever it was remembered), and the recorded kitchen where SPMEM_TEST_DATA has it. Each way is
trained from the shipped weights on the same clips for the same steps; all are then shown the same held-out stretches, whose
frames memory is given chunk by chunk. Truth about what was seen before is depth reprojection and owes nothing to the memory.

- revisited: pixels of new frames that a frame of the stretch before the chunk saw; new: the others that have depth
- gain: over no fine-tuning, in pairs of stretches; standard errors are over held-out stretches, of means over seeds
- by daylight: what is left on revisited pixels of a house like those that the weights were trained on, less what it was
- time: of a training step, as a ratio to training everything; the steps of the ways are interleaved

--docs brings the pictures into docs/pictures. --rates compares learning rates in a house of its own: how those of :data:`WAYS` were
chosen.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from spmem import worlds
from spmem.camera import Camera
from spmem.evaluation.report import (
    ROOT,
    aim,
    mean_and_error,
    parse_options,
    print_report,
    walks_folder,
)
from spmem.evaluation.sight import Sight, seen_masks
from spmem.integrations.readers import open_walk
from spmem.integrations.reference.batches import cut, stacked
from spmem.integrations.reference.conditioning import conditions, frames_in, frames_out
from spmem.integrations.reference.episodes import CHUNK, TrainingEpisode, in_walk, record_episode
from spmem.integrations.reference.generator import ReferenceGenerator
from spmem.integrations.reference.model import Conditions, WorldModel
from spmem.integrations.reference.sampling import sample
from spmem.integrations.reference.training import TrainConfig, Trainer
from spmem.progress import track
from spmem.types import Frame

WAYS: dict[str, dict[str, Any]] = {
    "everything": {"lr": 1e-3},
    "memory branch": {"lr": 1e-3, "memory_only": True},
    "LoRA, rank 8": {"lr": 3e-3, "lora": 8},
}
UNTUNED = "no fine-tuning"
RATES = (1e-3, 3e-3, 1e-2)
LENGTH = 24
"""Frames of a stretch."""
KITCHEN = "redkitchen_7scenes"


@dataclass(frozen=True, eq=False)
class Scene:
    """Stretches to learn from and held-out ones, with the pixels of the latter's new frames that were seen before."""

    name: str
    learn: Sequence[TrainingEpisode]
    held_out: Sequence[TrainingEpisode]
    revisited: Sequence[Bool[Tensor, "c t h w"]]


def torchlight(seed: int, *, learn: int = 10, held_out: int = 8) -> Scene:
    """A house of two rooms that is lit from the camera alone."""
    stretches = _make_stretches(seed, learn + held_out, "Walking by torchlight", light_frame)
    return _split_scene("house by torchlight", stretches, learn)


def daylight(seed: int, *, held_out: int = 6) -> Scene:
    """A house like those that the weights were trained on."""
    stretches = _make_stretches(seed, held_out, "Walking by daylight", lambda frame: frame)
    return _split_scene("house by daylight", stretches, 0)


def _make_stretches(
    seed: int, count: int, words: str, seen_as: Callable[[Frame], Frame]
) -> list[TrainingEpisode]:
    house = worlds.House(seed=seed, rooms=2)

    def stretch(i: int) -> TrainingEpisode:
        size = {"width": 64, "height": 64, "seed": 100 + i}
        way = (
            lambda: worlds.walk(house, LENGTH, stride=0.2, **size),
            lambda: worlds.rotate_and_return(house, LENGTH, angle=2.5 * (-1) ** (i // 4), **size),
            lambda: worlds.reverse(house, LENGTH, turn=False, **size),
            lambda: worlds.loop(house, 2 * LENGTH, **size)[:LENGTH],
        )[i % 4]()
        return record_episode([seen_as(frame) for frame in house.frames(way, samples=3)])

    return [stretch(i) for i in track(range(count), words)]


def light_frame(frame: Frame) -> Frame:
    """By a warm torch at the camera: full light within 1.2 units, then falling with the square of the distance."""
    assert frame.depth is not None
    light = (1.2 / frame.depth.clamp(min=1.2)) ** 2
    linear = frame.rgb_float() ** 2.2 * light[..., None] * torch.tensor([1.0, 0.85, 0.6])
    return frame.replace(rgb=linear.clamp(0, 1) ** (1 / 2.2))


def kitchen() -> Scene:
    """The recorded walk in order: its first 60 % to learn from."""
    walk = open_walk(walks_folder() / KITCHEN, "7scenes")
    made = list(in_walk(track(walk, f"Reading {KITCHEN}"), length=LENGTH))
    return _split_scene("recorded kitchen", made, round(0.6 * len(made)))


def _split_scene(name: str, made: Sequence[TrainingEpisode], learn: int) -> Scene:
    held_out = made[learn:]
    return Scene(name, made[:learn], held_out, [revisited_pixels(one) for one in held_out])


def revisited_pixels(episode: TrainingEpisode) -> Bool[Tensor, "c t h w"]:
    """Pixels of each chunk that an earlier frame of the episode saw."""
    size = episode.rgb.shape[1]
    cameras = Camera(
        torch.from_numpy(episode.K), torch.from_numpy(episode.c2w), width=size, height=size
    )
    sight = Sight(cameras, torch.from_numpy(episode.depth).float())
    starts = range(CHUNK, len(episode.rgb), CHUNK)
    return torch.stack(
        [
            seen_masks(sight.part(slice(i, i + CHUNK)), sight.part(slice(i))).any(1)
            for i in starts
        ]
    )  # fmt: skip


def draw_chunks(
    model: WorldModel, episode: TrainingEpisode, *, memory: bool = True, steps: int = 4
) -> tuple[Float[Tensor, "c t h w 3"], Float[Tensor, "c t h w 3"]]:
    """All chunks of an episode as a model makes them of the true recent frames, and the truth."""
    config = model.config
    clip = stacked([cut(episode, i, config) for i in range(len(episode.keyframes))])
    scale = clip.scale()
    given = conditions(clip, scale)
    if not memory:
        given = Conditions(given.rays, *(torch.zeros_like(form) for form in given[1:]))
    video = frames_in(clip, scale)[:, :, : config.channels]
    rgb, _ = frames_out(sample(model, video, given, steps=steps)[0], scale)
    return rgb, clip.rgb[:, config.history :]


def measure_psnr(model: WorldModel, scene: Scene) -> dict[str, list[float]]:
    """PSNR in dB of every held-out stretch: on revisited and on new pixels, with memory and without."""
    psnr: dict[str, list[float]] = {}
    for episode, revisited in zip(scene.held_out, scene.revisited, strict=True):
        known = torch.from_numpy(episode.depth[CHUNK:] > 0).view(revisited.shape)
        for memory in (True, False):
            rgb, truth = draw_chunks(model, episode, memory=memory)
            error = (rgb - truth).square().mean(-1)
            for pixels, mask in (("revisited", revisited), ("new", known & ~revisited)):
                name = f"{pixels}, {'with' if memory else 'without'} memory"
                psnr.setdefault(name, []).append(float(-10 * error[mask].mean().log10()))
    return psnr


def fine_tune(
    scene: Scene, ways: dict[str, dict[str, Any]], steps: int, seed: int
) -> tuple[dict[str, WorldModel], dict[str, float], dict[str, int]]:
    """The model of each way, the median seconds of a step, and how many numbers are trained; steps take turns.

    A way is options of :class:`TrainConfig`.
    """
    runs: dict[str, Trainer] = {}
    for name, options in ways.items():
        config = TrainConfig(
            **({"batch": 4, "warmup": 10, "ema": 0.95, "augment": False} | options),
            steps=steps,
            seed=seed,
        )
        torch.manual_seed(seed)  # of adapters
        model = ReferenceGenerator.from_pretrained("nano").model
        runs[name] = Trainer(model, config, scene.learn, Path("unused"))
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in track(range(steps), f"Fine-tuning in the {scene.name}"):
        for name, run in runs.items():
            start = perf_counter()
            run.advance()
            seconds[name].append(perf_counter() - start)
    trained = {
        name: sum(value.numel() for value in run.model.parameters() if value.requires_grad)
        for name, run in runs.items()
    }
    models = {name: run.averaged() for name, run in runs.items()}
    return models, {name: median(values) for name, values in seconds.items()}, trained


def compare_models(
    scene: Scene, day: Scene, ways: dict[str, dict[str, Any]], steps: int, seeds: int
) -> tuple[list[dict[str, Any]], dict[str, dict[str, list[float]]], dict[str, WorldModel]]:
    """A row for no fine-tuning and for each way; the values of all stretches, means over seeds; models of the last seed."""
    plain = ReferenceGenerator.from_pretrained("nano").model
    values, models = {UNTUNED: measure_psnr(plain, scene)}, {UNTUNED: plain}
    was = measure_psnr(plain, day)[FIRST]
    left: dict[str, list[list[float]]] = {name: [] for name in ways}
    every: dict[str, list[dict[str, list[float]]]] = {name: [] for name in ways}
    times: dict[str, list[float]] = {name: [] for name in ways}
    trained: dict[str, int] = {UNTUNED: 0}
    for seed in range(seeds):
        made, seconds, counted = fine_tune(scene, ways, steps, seed)
        models |= made
        trained |= counted
        for name in ways:
            every[name].append(measure_psnr(made[name], scene))
            left[name].append(measure_psnr(made[name], day)[FIRST])
            times[name].append(seconds[name] / seconds[next(iter(ways))])
    for name, some in every.items():
        values[name] = {
            key: np.mean([one[key] for one in some], axis=0).tolist() for key in some[0]
        }
    rows = []
    for name, mine in values.items():
        row = {"scene": scene.name, "trained": name, "million numbers": trained[name] / 1e6}
        row["time of a step"] = f"{median(times[name]):.2f}" if name in times else "-"
        row |= {f"{key}, dB": mean_and_error(some) for key, some in mine.items()}
        gain = np.subtract(mine[FIRST], values[UNTUNED][FIRST]).tolist()
        row["gain, revisited with memory"] = "-" if name == UNTUNED else mean_and_error(gain)
        lost = np.subtract(np.mean(left.get(name, [was]), axis=0), was).tolist()
        row["by daylight, dB"] = "-" if name == UNTUNED else mean_and_error(lost)
        rows.append(row)
    return rows, values, models


FIRST = "revisited, with memory"


def draw_frames(scene: Scene, models: dict[str, WorldModel], path: Path) -> None:
    """New frames of held-out stretches: the truth, what memory renders, and what each model makes of it."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    at = [(i, chunk) for i, chunk in ((0, 4), (1, 3), (2, 4), (3, 4)) if i < len(scene.held_out)]
    rows: dict[str, list[Tensor]] = {"truth": [], "memory renders": []}
    for i, chunk in at:
        rows["truth"].append(draw_chunks(models[UNTUNED], scene.held_out[i], steps=1)[1][chunk, -1])
        shown = torch.from_numpy(scene.held_out[i].projected_rgb[chunk, -1]).float() / 255
        gone = ~torch.from_numpy(scene.held_out[i].projected_mask[chunk, -1])
        rows["memory renders"].append(shown.masked_fill(gone[..., None], 1.0))
    for name, model in models.items():
        rows[name] = [draw_chunks(model, scene.held_out[i])[0][chunk, -1] for i, chunk in at]
    last = list(models)[1]
    rows[f"{last},\nwithout memory"] = [
        draw_chunks(models[last], scene.held_out[i], memory=False)[0][chunk, -1] for i, chunk in at
    ]
    figure, axes = pyplot.subplots(
        len(at), len(rows), figsize=(1.45 * len(rows), 1.5 * len(at)), squeeze=False
    )
    for column, (name, images) in enumerate(rows.items()):
        axes[0, column].set_title(name, fontsize=8.5)
        for row, image in enumerate(images):
            axes[row, column].imshow(image.clamp(0, 1), interpolation="nearest")
            axes[row, column].axis("off")
    figure.tight_layout(pad=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def draw_bars(values: dict[str, dict[str, dict[str, list[float]]]], path: Path) -> None:
    """PSNR on revisited and on new pixels, with memory and without, a panel for each scene."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(
        1, len(values), figsize=(5.2 * len(values), 3.3), squeeze=False
    )
    colours = ("#adb5bd", "#0f8a9d", "#f48434", "#9775fa")
    for axis, (scene, ways) in zip(panels[0], values.items(), strict=True):
        for i, ((name, mine), colour) in enumerate(zip(ways.items(), colours, strict=False)):
            means = [np.mean(some) for some in mine.values()]
            errors = [np.std(some, ddof=1) / len(some) ** 0.5 for some in mine.values()]
            x = np.arange(len(means)) + 0.2 * (i - 1.5)
            axis.bar(x, means, 0.19, yerr=errors, color=colour, label=name, error_kw={"lw": 0.8})
        axis.set_xticks(range(len(mine)), [key.replace(", ", ",\n") for key in mine], fontsize=8)
        axis.set_title(scene, fontsize=9.5)
        axis.set_ylim(bottom=8)
        axis.spines[["top", "right"]].set_visible(False)
    panels[0, 0].set_ylabel("PSNR, dB")
    panels[0, 0].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def to_docs(path: Path) -> None:
    """Beside the other pictures, in 128 colours."""
    small = Image.open(path).convert("RGB").quantize(128, dither=Image.Dither.NONE)
    small.save(ROOT / "docs" / "pictures" / path.name, optimize=True)


def compare_rates(steps: int) -> list[dict[str, Any]]:
    """A row for each way and learning rate, in a house whose figures are not reported."""
    scene, day, rows = torchlight(21, learn=4, held_out=4), daylight(22, held_out=2), []
    for rate in RATES:
        ways = {name: options | {"lr": rate} for name, options in WAYS.items()}
        for row in compare_models(scene, day, ways, steps, 1)[0][1:]:
            rows.append({"lr": rate, **row})
    return rows


def main() -> None:
    """Fine-tune, draw and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under a minute, for a look")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--steps", type=int, default=80, help="of each training")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each way")
    parser.add_argument("--docs", action="store_true", help="renew the pictures of the page")
    parser.add_argument("--rates", action="store_true", help="compare learning rates instead")
    options = parse_options(parser)
    if options.rates:
        print_report(compare_rates(options.steps), [], as_json=options.json)
        return
    scenes: list[Callable[[], Scene]] = [lambda: torchlight(7)]
    if options.quick:
        scenes = [lambda: torchlight(7, learn=2, held_out=2)]
        options.steps, options.seeds = min(options.steps, 3), 1
    elif (walks_folder() / KITCHEN).is_dir():
        scenes.append(kitchen)
    rows: list[dict[str, Any]] = []
    values: dict[str, dict[str, dict[str, list[float]]]] = {}
    out = ROOT / "out" / "bench"
    day = daylight(8, held_out=2 if options.quick else 6)
    for make in scenes:
        scene = make()
        some, values[scene.name], models = compare_models(
            scene, day, WAYS, options.steps, options.seeds
        )
        rows += some
        if len(values) == 1:
            draw_frames(scene, models, out / "fine-tuning-frames.png")
    draw_bars(values, out / "fine-tuning.png")
    if options.docs:
        for path in out.glob("fine-tuning*.png"):
            to_docs(path)
    aims = []
    for name, ways in values.items():
        for way in WAYS:
            gain = np.mean(np.subtract(ways[way][FIRST], ways[UNTUNED][FIRST]))
            aims.append(aim(f"{name}: {way} over {UNTUNED}", float(gain), 0.0, "dB", "higher"))
    print_report(rows, aims, as_json=options.json)


if __name__ == "__main__":
    main()
