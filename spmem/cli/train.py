"""``spmem train``: the bundled generator, from nothing or from weights, on drawn houses or on your own walks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spmem.cli.shell import Json, show
from spmem.standard_output import print_json

if TYPE_CHECKING:
    from spmem.integrations.reference.episodes import TrainingEpisode
    from spmem.integrations.reference.training import Trainer

SHOWN = 4
"""Clips on a sheet of samples."""
FIRST = 1000
"""The first house that is trained on; those before it are held out."""
HELD_HOUSES = 2
"""Of the houses held out, how many are drawn for the samples: the last ones, as benchmarks take the first."""


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
    from spmem.plugins import find

    with _processes(device) as (rank, place):
        torch.manual_seed(seed)
        if init is None:
            config = find("size", size, {name: lambda c=c: c for name, c in SIZES.items()})()
            model = WorldModel(replace(config, backbone=backbone))
        else:
            model = load(init)
        path, apart = out / "episodes", out / "held_out"
        if rank == 0 and not path.exists():
            pixels = model.config.size
            if walk:
                made = _ButLast(_walked(walk, stride, pixels))
                _write(path, made, apart, lambda: made.last)
            else:
                seeds = range(FIRST, FIRST + houses)
                kept = range(FIRST - HELD_HOUSES, FIRST)
                _write(
                    path,
                    _drawn(seeds, moving, pixels, "Drawing houses"),
                    apart,
                    lambda: _drawn(kept, moving, pixels, "Drawing held-out houses"),
                )
        _wait()
        episodes = Episodes(path)
        held = list(Episodes(apart)) if apart.exists() else []
        shown_of = held or [episodes[len(episodes) - 1]]
        config_ = TrainConfig(
            steps=steps,
            batch=batch,
            stages=_stages(stages),
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
        trainer.fit(lambda run: last.update(_sample(run, shown_of)))
        final = trainer.averaged()
        if rank == 0:
            folder = save(final, out / "model")
            told = {
                "steps": trainer.step,
                "episodes": len(episodes),
                "held-out episodes": len(held),
                "model": str(folder),
            }
            of = "held out" if held else "of what was trained on"
            psnr = {f"PSNR {name}, {of}, dB": value for name, value in last.items()}
            if as_json:
                print_json(told | psnr)
            else:
                shown = {name: str(value) for name, value in told.items()}
                shown |= {name: f"{value:.1f}" for name, value in psnr.items()}
                show("Trained", shown | {"samples": str(out / "samples")})


def _sample(run: Trainer, held: list[TrainingEpisode]) -> dict[str, float]:
    """Draw the sheet of this step."""
    from PIL import Image

    from spmem.integrations.reference.samples import sheet

    model = run.averaged()
    if run.rank:
        return {}
    image, told = sheet(model, held, clips=SHOWN)
    folder = run.out / "samples"
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(folder / f"{run.step:06d}.png")
    run.show("samples", image)
    return told


def _stages(text: str) -> tuple[int, ...]:
    """Of ``1,2,4``."""
    from spmem.errors import InputError

    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"stages are numbers of chunks, as 1,2,4; got {text!r}") from error


class _ButLast:
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


def _drawn(seeds: range, moving: float | None, size: int, what: str) -> Iterator[TrainingEpisode]:
    """An episode in each house."""
    from spmem.integrations.readers import track
    from spmem.integrations.reference.episodes import MOVING, in_house

    share = MOVING if moving is None else moving
    for seed in track(seeds, what):
        yield in_house(seed, size=size, moving=share)


def _walked(walks: list[Path], stride: int, size: int) -> Iterator[TrainingEpisode]:
    """The episodes of recorded walks."""
    from spmem.integrations.readers import open_walk, track
    from spmem.integrations.reference.episodes import in_walk

    for walk in walks:
        frames = track(open_walk(walk), f"Reading {walk.name}")
        yield from in_walk(frames, size=size, stride=stride)


def _write(
    path: Path,
    made: Iterable[TrainingEpisode],
    apart: Path,
    held: Callable[[], Iterable[TrainingEpisode]],
) -> None:
    """The episodes to train on, and those held out (asked for afterwards), written whole or not at all."""
    import os
    import shutil

    from spmem.errors import InputError
    from spmem.integrations.reference.episodes import Episodes

    new, beside = path.with_suffix(".new"), apart.with_suffix(".new")
    for folder in (new, beside, apart):
        shutil.rmtree(folder, ignore_errors=True)
    if not Episodes.write(new, made):
        raise InputError("the walks have fewer frames with depth than one episode; lower --stride")
    if Episodes.write(beside, held()):
        os.replace(beside, apart)
    else:
        shutil.rmtree(beside)
    os.replace(new, path)  # last: where this is, the other is too


class _processes:
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


def _wait() -> None:
    import torch.distributed as dist

    if dist.is_initialized():
        dist.barrier()
