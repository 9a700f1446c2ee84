"""``spmem train``: the bundled generator, from nothing or from weights, on drawn houses or on your own walks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spmem.cli.shell import Json, print_table
from spmem.evaluation.printing import print_json

if TYPE_CHECKING:
    from spmem.integrations.reference.episodes import TrainingEpisode
    from spmem.integrations.reference.training import Trainer

SHOWN = 4
"""Clips on a sheet of samples."""
FIRST = 1000
"""The first house that is trained on; those before it are held out."""
HELD_HOUSES = 2
"""Number of held-out houses that are drawn for the samples: the last ones, as benchmarks take the first."""


def train(
    out: Annotated[
        Path, typer.Option(help="Folder of the run: episodes, checkpoint, log, samples.")
    ],
    walk: Annotated[
        list[Path] | None,
        typer.Option(help="A data set of posed RGB-D frames; repeatable. Else drawn houses."),
    ] = None,
    stride: Annotated[int, typer.Option(min=1, help="Take each n-th frame of the walks.")] = 1,
    init: Annotated[
        str | None, typer.Option(help="Weights to start from: a folder, or `nano`.")
    ] = None,
    size: Annotated[str, typer.Option(help="nano, small or base, without --init.")] = "nano",
    backbone: Annotated[
        str, typer.Option(help="attention or state-space, without --init.")
    ] = "attention",
    houses: Annotated[int, typer.Option(min=1, help="Drawn houses, without --walk.")] = 400,
    moving: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of drawn houses with moving things; 1 in 6."),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="In all.")] = 2000,
    batch: Annotated[int, typer.Option(min=1, help="Clips a step, in each process.")] = 8,
    stages: Annotated[
        str, typer.Option(help="Chunks in a row of a clip, in equal shares of the steps: 1,2,4.")
    ] = "1",
    through: Annotated[
        int, typer.Option(min=1, help="Chunks in a row that gradients pass through.")
    ] = 2,
    lr: Annotated[float, typer.Option(help="Learning rate.")] = 1e-3,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is drawn.")] = 0,
    memory_only: Annotated[
        bool, typer.Option("--memory-only", help="Train only what reads memory.")
    ] = False,
    lora: Annotated[
        int, typer.Option(min=0, help="Train adapters of this rank (peft); 0: the weights.")
    ] = 0,
    bf16: Annotated[bool, typer.Option("--bf16", help="Autocast to bfloat16.")] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="The log for TensorBoard too.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    as_json: Json = False,
) -> None:
    """Train the bundled generator; a run that was stopped goes on where its last checkpoint stands."""
    from dataclasses import replace

    import torch

    from spmem.integrations.reference.config import SIZES
    from spmem.integrations.reference.episodes import Episodes
    from spmem.integrations.reference.model import WorldModel
    from spmem.integrations.reference.training import TrainConfig, Trainer
    from spmem.integrations.reference.weights import load, save
    from spmem.registry import require_known

    with _ProcessGroup(device) as (rank, place):
        torch.manual_seed(seed)
        if init is None:
            require_known("size", size, SIZES)
            config = SIZES[size]
            model = WorldModel(replace(config, backbone=backbone))
        else:
            model = load(init)
        path, held_path = out / "episodes", out / "held_out"
        if rank == 0 and not path.exists():
            pixels = model.config.size
            if walk:
                made = _AllButLast(_iterate_walk_episodes(walk, stride, pixels))
                _write_episodes(path, made, held_path, lambda: made.last)
            else:
                seeds = range(FIRST - HELD_HOUSES, FIRST)
                _write_episodes(
                    path,
                    _iterate_house_episodes(range(FIRST, FIRST + houses), moving, pixels),
                    held_path,
                    lambda: _iterate_house_episodes(seeds, moving, pixels),
                )
        _wait_for_processes()
        episodes = Episodes(path)
        held_out = list(Episodes(held_path)) if held_path.exists() else []
        shown_episodes = held_out or [episodes[len(episodes) - 1]]
        config_ = TrainConfig(
            steps=steps,
            batch=batch,
            stages=_parse_stages(stages),
            through=through,
            lr=lr,
            seed=seed,
            memory_only=memory_only,
            lora=lora,
            augment=not walk,
            bf16=bf16,
            tensorboard=tensorboard,
        )
        trainer = Trainer(model.to(place), config_, episodes, out)
        trainer.resume()
        last: dict[str, float] = {}
        trainer.fit(lambda run: last.update(_save_sample_sheet(run, shown_episodes)))
        final = trainer.averaged()
        if rank == 0:
            folder = save(final, out / "model")
            summary = {
                "steps": trainer.step,
                "episodes": len(episodes),
                "held-out episodes": len(held_out),
                "model": str(folder),
            }
            where = "held out" if held_out else "of what was trained on"
            psnr = {f"PSNR {name}, {where}, dB": value for name, value in last.items()}
            if as_json:
                print_json(summary | psnr)
            else:
                shown = {name: str(value) for name, value in summary.items()}
                shown |= {name: f"{value:.1f}" for name, value in psnr.items()}
                print_table("Trained", shown | {"samples": str(out / "samples")})


def _save_sample_sheet(run: Trainer, shown: list[TrainingEpisode]) -> dict[str, float]:
    """Draw the sheet of this step."""
    from PIL import Image

    from spmem.integrations.reference.samples import sheet

    model = run.averaged()
    if run.rank:
        return {}
    image, psnr = sheet(model, shown, clips=SHOWN)
    folder = run.out / "samples"
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(folder / f"{run.step:06d}.png")
    run.show("samples", image)
    return psnr


def _parse_stages(text: str) -> tuple[int, ...]:
    """Parse ``1,2,4``."""
    from spmem.errors import InputError

    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"stages are numbers of chunks, as 1,2,4; got {text!r}") from error


class _AllButLast:
    """Episodes but the last, which is kept apart in ``last``; a single one is not."""

    def __init__(self, episodes: Iterable[TrainingEpisode]) -> None:
        self.last: list[TrainingEpisode] = []
        self._episodes = episodes

    def __iter__(self) -> Iterator[TrainingEpisode]:
        count = 0
        for episode in self._episodes:
            yield from self.last
            self.last, count = [episode], count + 1
        if count == 1:
            yield from self.last
            self.last = []


def _iterate_house_episodes(
    seeds: range, moving: float | None, size: int
) -> Iterator[TrainingEpisode]:
    """An episode in each house."""
    from spmem.integrations.reference.episodes import MOVING, in_house
    from spmem.progress import track

    share = MOVING if moving is None else moving
    for seed in track(seeds, "Drawing houses"):
        yield in_house(seed, size=size, moving=share)


def _iterate_walk_episodes(walks: list[Path], stride: int, size: int) -> Iterator[TrainingEpisode]:
    """The episodes of recorded walks."""
    from spmem.integrations.readers import open_walk
    from spmem.integrations.reference.episodes import in_walk
    from spmem.progress import track

    for walk in walks:
        frames = track(open_walk(walk), f"Reading {walk.name}")
        yield from in_walk(frames, size=size, stride=stride)


def _write_episodes(
    path: Path,
    episodes: Iterable[TrainingEpisode],
    held_path: Path,
    held_out: Callable[[], Iterable[TrainingEpisode]],
) -> None:
    """Write the episodes to train on, then those held out (made afterwards), all or none."""
    import os
    import shutil

    from spmem.errors import InputError
    from spmem.integrations.reference.episodes import Episodes

    new, held_new = path.with_suffix(".new"), held_path.with_suffix(".new")
    for folder in (new, held_new, held_path):
        shutil.rmtree(folder, ignore_errors=True)
    if not Episodes.write(new, episodes):
        raise InputError("the walks have fewer frames with depth than one episode; lower --stride")
    if Episodes.write(held_new, held_out()):
        os.replace(held_new, held_path)
    else:
        shutil.rmtree(held_new)
    os.replace(new, path)  # last: if this exists, the other is complete


class _ProcessGroup:
    """Joins the processes of torchrun, where it started this one; gives the rank and the device."""

    def __init__(self, device: str) -> None:
        self.device, self.joined = device, False

    def __enter__(self) -> tuple[int, str]:
        import os

        import torch.distributed as dist

        if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
            return 0, self.device
        place = self.device
        if self.device == "cuda":
            import torch

            place = f"cuda:{os.environ['LOCAL_RANK']}"
            torch.cuda.set_device(place)
        dist.init_process_group("nccl" if self.device == "cuda" else "gloo")
        self.joined = True
        return dist.get_rank(), place

    def __exit__(self, *error: object) -> None:
        import torch.distributed as dist

        if self.joined:
            dist.destroy_process_group()


def _wait_for_processes() -> None:
    import torch.distributed as dist

    if dist.is_initialized():
        dist.barrier()
