"""The trainer: flow matching with a noise level of its own for each frame, plain torch, resumed exactly.

One process, or several under torchrun: then the model is sharded by FSDP2, and each process draws clips of its own.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from spmem.errors import FormatError, InputError, MissingExtraError
from spmem.integrations.reference.batches import Batch, batches, check_chunks
from spmem.integrations.reference.episodes import TrainingEpisode
from spmem.integrations.reference.lora import adapt, merged
from spmem.integrations.reference.model import WorldModel
from spmem.integrations.reference.objective import descend
from spmem.progress import track

MEMORY = ("seen", "branch", "zero", "references", "nothing", "look", "draw")
"""Names of the modules that read memory, or say how much of it is taken over."""


@dataclass(frozen=True)
class TrainConfig:
    """How to train.

    steps: In all.
    batch: Clips a step, in each process.
    stages: How the context grows: chunks in a row of every clip, in equal shares of ``steps``. ``(1, 2, 4)`` is a third of
        the steps with one, a third with two, each going on from the model's own answers, a third with four.
    through: Chunks in a row that gradients pass through (:func:`~spmem.integrations.reference.objective.descend`).
    lr: Learning rate, after ``warmup`` steps and before the last fifth of ``steps``, in which it falls to 0.
    warmup: Steps.
    decay: Weight decay.
    ema: Decay of the running mean of the weights, which is what is kept.
    seed: Seed of everything that is drawn.
    augment: Mirror clips and exchange their colours at random; not for a scene of one's own.
    bf16: Autocast to bfloat16.
    recompute: Recompute activations in the backward pass.
    memory_only: Train only what reads memory; the backbone stays as it is.
    lora: Train adapters of this rank on the attention instead of the weights (peft); 0 for none.
    log_every: Steps between lines of the log.
    tensorboard: Write the log for TensorBoard too, into ``tensorboard/`` (extra ``train``).
    save_every: Steps between checkpoints.
    """

    steps: int = 2000
    batch: int = 8
    stages: tuple[int, ...] = (1,)
    through: int = 2
    lr: float = 1e-3
    warmup: int = 100
    decay: float = 0.01
    ema: float = 0.998
    seed: int = 0
    augment: bool = True
    bf16: bool = False
    recompute: bool = False
    memory_only: bool = False
    lora: int = 0
    log_every: int = 20
    tensorboard: bool = False
    save_every: int = 100

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "through", "log_every", "save_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.stages or min(self.stages) < 1:
            raise InputError(f"stages are chunks in a row, each at least 1, got {self.stages}")
        if self.lora < 0 or (self.lora and self.memory_only):
            raise InputError("lora is a rank >= 0, and goes without memory_only")
        if not self.lr > 0 or not 0 <= self.ema < 1:
            raise InputError(f"lr must be > 0 and ema in [0, 1), got {self.lr} and {self.ema}")

    def rate(self, step: int) -> float:
        """The learning rate at a step."""
        rise = min((step + 1) / max(self.warmup, 1), 1.0)
        fall = min((self.steps - step) / max(self.steps / 5, 1), 1.0)
        return self.lr * rise * max(fall, 0.0)

    def chunks(self, step: int) -> int:
        """Chunks in a row at a step."""
        return self.stages[min(step * len(self.stages) // self.steps, len(self.stages) - 1)]


class Trainer:
    """A model, its running mean, its optimizer and where they stand.

    Args:
        model: Trained in place; sharded where torch.distributed is initialised.
        config: How.
        episodes: What to train on.
        out: Folder for ``checkpoint.safetensors`` and ``log.csv``.

    Raises:
        InputError: There are no episodes, or too short ones for the longest of ``config.stages``.
        MissingExtraError: ``config.tensorboard`` without TensorBoard.
    """

    def __init__(
        self, model: WorldModel, config: TrainConfig, episodes: Sequence[TrainingEpisode], out: Path
    ) -> None:
        if not len(episodes):
            raise InputError("there are no episodes to train on")
        check_chunks(episodes[0], max(config.stages))
        self.model, self.config, self.episodes, self.out = model.train(), config, episodes, out
        model.recompute = config.recompute
        if config.lora:
            adapt(model, config.lora)
        if config.memory_only:
            for name, value in model.named_parameters():
                value.requires_grad_(bool(set(MEMORY) & set(name.split("."))))
        self.rank = 0
        if dist.is_initialized():
            self.rank = dist.get_rank()
            for layer in [*model.layers, *model.branch]:
                fully_shard(layer)
            fully_shard(model)
        self.mean = {name: value.detach().clone() for name, value in model.state_dict().items()}
        self.optimizer = torch.optim.AdamW(
            [value for value in model.parameters() if value.requires_grad],
            lr=config.lr,
            betas=(0.9, 0.95),
            weight_decay=config.decay,
        )
        self.step = 0
        self._device = next(model.parameters()).device
        self._board = (
            _open_tensorboard(out / "tensorboard") if config.tensorboard and not self.rank else None
        )
        self._ahead = ThreadPoolExecutor(1)
        self._next: tuple[int, Future[list[Batch]]] | None = None

    def fit(self, saved: Callable[[Trainer], None] | None = None) -> None:
        """Train up to ``config.steps``, with a progress bar; ``saved`` is called after each checkpoint."""
        config, values, since = self.config, list[float](), perf_counter()
        for _ in track(range(self.step, config.steps), "Training"):
            values.append(self.advance())
            if self.step % config.log_every == 0 or self.step == config.steps:
                self._append_log_line(
                    sum(values) / len(values), len(values) / (perf_counter() - since)
                )
                values, since = [], perf_counter()
            if self.step % config.save_every == 0 or self.step == config.steps:
                self.save()
                if saved is not None:
                    saved(self)

    def advance(self) -> float:
        """One step; its loss."""
        config, chunks = self.config, self._next_batches()
        for group in self.optimizer.param_groups:
            group["lr"] = config.rate(self.step)
        self.optimizer.zero_grad()
        value = descend(
            self.model, self.model.config, chunks, through=config.through, bf16=config.bf16
        )
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        keep = min(config.ema, (1 + self.step) / (10 + self.step))
        for name, now in self.model.state_dict().items():
            self.mean[name].lerp_(now, 1 - keep)
        return value

    def _next_batches(self) -> list[Batch]:
        """The batches of this step, a chunk each, while the next step's are being made in a thread."""

        def submit(step: int) -> Future[list[Batch]]:
            config = self.config
            return self._ahead.submit(
                batches,
                self.episodes,
                self.model.config,
                config.batch,
                seed=config.seed,
                step=step,
                rank=self.rank,
                chunks=config.chunks(step),
                augment=config.augment,
            )

        now = self._next if self._next and self._next[0] == self.step else None
        chunks = (now[1] if now else submit(self.step)).result()
        self._next = (self.step + 1, submit(self.step + 1))
        return [one.to(self._device) for one in chunks]

    def averaged(self) -> WorldModel:
        """A model of its own with the running mean of the weights, on the CPU; to be called in every process."""
        whole = {name: _gather_full_tensor(value).cpu() for name, value in self.mean.items()}
        model = WorldModel(self.model.config)
        model.load_state_dict(merged(whole))
        return model.eval()

    def save(self) -> Path:
        """Write all that going on takes, whole or not at all; the latest replaces the one before."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"mean.{name}": value for name, value in self.mean.items()}
        for i, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{name}": value for name, value in moments.items()}
        whole = {
            name: _gather_full_tensor(value).cpu().contiguous() for name, value in tensors.items()
        }
        about = {
            "step": self.step,
            "model": asdict(self.model.config),
            "train": asdict(self.config),
        }
        path = self.out / "checkpoint.safetensors"
        if self.rank == 0:
            self.out.mkdir(parents=True, exist_ok=True)
            new = path.with_suffix(".new")
            save_file(whole, new, {"spmem": json.dumps(about)})
            os.replace(new, path)
        if dist.is_initialized():
            dist.barrier()
        return path

    def resume(self) -> bool:
        """Go on from the checkpoint in the folder; False if there is no checkpoint.

        With the same configuration and episodes, and as many processes, the run then is what it would have been, bit for
        bit on a CPU.

        Raises:
            FormatError: It is of another model, or damaged.
        """
        path = self.out / "checkpoint.safetensors"
        if not path.exists():
            return False
        about, tensors = read_checkpoint(path)
        if about["model"] != asdict(self.model.config):
            raise FormatError(path, f"is a checkpoint of another model: {about['model']}")
        for name, value in self.model.state_dict().items():
            value.copy_(_shard_like(tensors[f"model.{name}"], value))
            self.mean[name].copy_(_shard_like(tensors[f"mean.{name}"], value))
        trained = [value for value in self.model.parameters() if value.requires_grad]
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, index, field = name.split(".")
                kept = value if field == "step" else _shard_like(value, trained[int(index)])
                state.setdefault(int(index), {})[field] = kept
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        self.step = about["step"]
        return True

    def _append_log_line(self, value: float, rate: float) -> None:
        """A line of ``log.csv``."""
        if self.rank:
            return
        self.out.mkdir(parents=True, exist_ok=True)
        path = self.out / "log.csv"
        new = not path.exists()
        with path.open("a", newline="") as file:
            lines = csv.writer(file)
            if new:
                lines.writerow(["step", "loss", "lr", "clips_per_s"])
            speed, lr = rate * self.config.batch, self.config.rate(self.step - 1)
            lines.writerow([self.step, f"{value:.5f}", f"{lr:.3g}", f"{speed:.2f}"])
        if self._board is not None:
            for name, one in (("loss", value), ("lr", lr), ("clips_per_s", speed)):
                self._board.add_scalar(name, one, self.step)
            self._board.flush()

    def show(self, name: str, image: NDArray[np.uint8]) -> None:
        """A picture ``[H, W, 3]`` of this step, where there is a TensorBoard."""
        if self._board is not None:
            self._board.add_image(name, image, self.step, dataformats="HWC")
            self._board.flush()


def read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a checkpoint says about itself, and its tensors.

    Raises:
        FormatError: It is damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            about = json.loads(file.metadata()["spmem"])
            return about, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:
        raise FormatError(path, f"is no checkpoint: {error}") from error


def _open_tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError("tensorboard", "train", "TrainConfig(tensorboard=True)") from error
    return SummaryWriter(str(folder))


def _gather_full_tensor(value: Tensor) -> Tensor:
    return value.full_tensor() if isinstance(value, DTensor) else value


def _shard_like(value: Tensor, like: Tensor) -> Tensor:
    """Shared out as another tensor is."""
    if isinstance(like, DTensor):
        return distribute_tensor(value, like.device_mesh, like.placements)
    return value
