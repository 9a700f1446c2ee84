"""Training: exact resume, several processes, forms of memory that are forgotten."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from spmem.errors import FormatError, InputError
from spmem.integrations.reference.batches import Look, batches, cut
from spmem.integrations.reference.conditioning import conditions, frames_in, frames_out
from spmem.integrations.reference.config import NANO, ModelConfig
from spmem.integrations.reference.episodes import (
    ARRAYS,
    Episodes,
    TrainingEpisode,
    in_walk,
    record_episode,
)
from spmem.integrations.reference.model import WorldModel
from spmem.integrations.reference.training import MEMORY, TrainConfig, Trainer
from spmem.testing.box import BoxRoom

TINY = replace(NANO, size=32, width=32, layers=2, heads=2, keyframes=2)
SHORT = TrainConfig(steps=6, batch=2, warmup=2, save_every=3, log_every=3)


@pytest.fixture(scope="module")
def episode() -> TrainingEpisode:
    room = BoxRoom()
    return record_episode(room.frames(room.walk(16, width=32, height=32)))


def trainer(
    episode: TrainingEpisode, out: Path, config: TrainConfig = SHORT, model: ModelConfig = TINY
) -> Trainer:
    torch.manual_seed(1)
    return Trainer(WorldModel(model), config, [episode], out)


@pytest.mark.parametrize(("backbone", "stages"), [("attention", (1,)), ("state-space", (1, 2, 3))])
def test_a_run_that_was_interrupted_ends_the_same_to_the_bit(
    episode: TrainingEpisode, tmp_path: Path, backbone: str, stages: tuple[int, ...]
) -> None:
    config, model = replace(SHORT, stages=stages), replace(TINY, backbone=backbone)
    whole = trainer(episode, tmp_path / "whole", config, model)
    whole.fit()
    parted = trainer(episode, tmp_path / "parted", config, model)
    for _ in range(3):
        parted.advance()
    parted.save()
    for _ in range(2):  # these are lost
        parted.advance()
    again = trainer(episode, tmp_path / "parted", config, model)
    assert again.resume()
    assert again.step == 3
    again.fit()
    for one, other in (
        (whole.model.state_dict(), again.model.state_dict()),
        (whole.mean, again.mean),
    ):
        for name in one:
            assert torch.equal(one[name], other[name]), name
    assert (tmp_path / "whole" / "checkpoint.safetensors").read_bytes() == (
        tmp_path / "parted" / "checkpoint.safetensors"
    ).read_bytes()


def test_training_lowers_the_loss(episode: TrainingEpisode, tmp_path: Path) -> None:
    run = trainer(episode, tmp_path, TrainConfig(steps=40, batch=4, warmup=5, lr=3e-3))
    losses = [run.advance() for _ in range(40)]
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:5])


def test_recomputed_activations_change_nothing(episode: TrainingEpisode, tmp_path: Path) -> None:
    plain, again = (
        trainer(episode, tmp_path, replace(SHORT, recompute=recompute))
        for recompute in (False, True)
    )
    for run in (plain, again):
        run.advance()
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name


def test_only_what_reads_memory_is_trained_where_the_backbone_is_frozen(
    episode: TrainingEpisode, tmp_path: Path
) -> None:
    run = trainer(episode, tmp_path, replace(SHORT, memory_only=True))
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    for _ in range(4):
        run.advance()
    changed = {
        name for name, value in run.model.state_dict().items() if not value.equal(before[name])
    }
    assert changed
    assert all(set(MEMORY) & set(name.split(".")) for name in changed)
    assert any(name.startswith("branch") for name in changed)


def test_adapters_train_beside_the_weights_and_merge_into_them(
    episode: TrainingEpisode, tmp_path: Path
) -> None:
    pytest.importorskip("peft")
    config = replace(SHORT, lora=2, lr=1e-2, ema=0.0)
    torch.manual_seed(1)
    model = WorldModel(TINY)
    with torch.no_grad():  # the zeros that training begins with would let nothing through
        for value in model.parameters():
            value.add_(0.05 * torch.randn(value.shape))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    run = Trainer(model, config, [episode], tmp_path)
    trained = [value for value in model.parameters() if value.requires_grad]
    assert sum(v.numel() for v in trained) < 0.1 * sum(v.numel() for v in before.values())
    for _ in range(3):
        run.advance()
    run.save()
    plain = run.averaged()
    changed = {n for n, v in plain.state_dict().items() if not v.equal(before[n])}
    assert changed
    assert all(name.endswith((".q.weight", ".kv.weight", ".out.weight")) for name in changed)
    (one,) = batches([episode], TINY, 2, seed=0, step=0)
    adapted, alone = (m(one.noisy, one.level, one.given)[0] for m in (model.eval(), plain))
    assert torch.allclose(adapted, alone, atol=1e-4)
    again = Trainer(WorldModel(TINY), config, [episode], tmp_path)
    assert again.resume()


def test_a_batch_is_a_function_of_seed_and_step(episode: TrainingEpisode) -> None:
    (first,), (same,), (other,) = (
        batches([episode], TINY, 3, seed=4, step=step) for step in (7, 7, 8)
    )
    assert torch.equal(first.noisy, same.noisy)
    assert torch.equal(first.given.projection, same.given.projection)
    assert not torch.equal(first.clean, other.clean)
    ranks = [batches([episode], TINY, 3, seed=4, step=7, rank=rank) for rank in (0, 1)]
    assert not torch.equal(ranks[0][0].noisy, ranks[1][0].noisy)


def test_frames_go_in_and_come_out_again(episode: TrainingEpisode) -> None:
    clip = cut(episode, 1, TINY)
    scale = clip.scale()
    rgb, depth = frames_out(frames_in(clip, scale), scale)
    assert depth is not None
    assert torch.allclose(rgb, clip.rgb, atol=1e-6)
    assert torch.allclose(depth, clip.depth, rtol=1e-4)


def test_what_is_mirrored_is_the_same_world(episode: TrainingEpisode) -> None:
    """A clip seen in a mirror: warped pixels and rays are those of the clip, left and right exchanged."""

    plain, mirrored = (cut(episode, 2, TINY, Look(mirrored)) for mirrored in (False, True))
    scale = plain.scale()
    one, other = conditions(plain, scale), conditions(mirrored, scale)
    flipped = other.projection.flip(-1)
    assert torch.equal(one.projection, flipped)
    covered = (one.warped[:, :, -1] > 0) & (other.warped[:, :, -1].flip(-1) > 0)
    assert covered.float().mean() > 0.2
    assert covered.sum() > 0.97 * one.warped[:, :, -1].sum()
    colours = one.warped[:, :, :3].movedim(2, -1)[covered]
    assert torch.allclose(
        colours, other.warped.flip(-1)[:, :, :3].movedim(2, -1)[covered], atol=1e-3
    )
    x = torch.tensor([-1.0, 1, 1])  # directions turn over in x, moments in y and z
    signs = torch.cat([x, -x])[:, None, None]
    assert torch.allclose(one.rays, other.rays.flip(-1) * signs, atol=1e-5)


def test_warped_pixels_are_what_the_camera_sees(episode: TrainingEpisode) -> None:
    clip = cut(episode, 2, TINY)
    warped = conditions(clip, clip.scale()).warped[0, TINY.history :]
    truth = clip.rgb[0, TINY.history :].movedim(-1, 1) * 2 - 1
    mask = warped[:, -1] > 0
    assert mask.float().mean() > 0.3
    error = (warped[:, :3] - truth).abs().mean(1)[mask]
    assert error.median() < 0.1


def test_episodes_are_read_as_they_were_written(episode: TrainingEpisode, tmp_path: Path) -> None:
    assert Episodes.write(tmp_path / "episodes", [episode, episode]) == 2
    read = Episodes(tmp_path / "episodes")
    assert len(read) == 2
    for name in ARRAYS:
        assert np.array_equal(getattr(read[1], name), getattr(episode, name)), name
    with pytest.raises(FormatError, match="holds no episodes"):
        Episodes(tmp_path / "nothing")


def test_a_recorded_walk_becomes_episodes() -> None:
    room = BoxRoom()
    walk = room.frames(room.walk(50, width=48, height=36))
    (made,) = in_walk(walk, size=32)
    assert made.rgb.shape == (48, 32, 32, 3)
    assert (made.keyframes[:, 0] >= 0).all()
    assert made.projected_mask.mean() > 0.3


def test_bad_arguments_are_refused(episode: TrainingEpisode, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no episodes"):
        Trainer(WorldModel(TINY), SHORT, [], tmp_path)
    with pytest.raises(InputError, match="batch must be at least 1"):
        TrainConfig(batch=0)
    with pytest.raises(InputError, match="stages are chunks in a row"):
        TrainConfig(stages=())
    with pytest.raises(InputError, match="9 chunks in a row were asked for; episodes have 3"):
        trainer(episode, tmp_path, replace(SHORT, stages=(1, 9)))
    trainer(episode, tmp_path).save()
    other = Trainer(WorldModel(replace(TINY, layers=3)), SHORT, [episode], tmp_path)
    with pytest.raises(FormatError, match="another model"):
        other.resume()
    (tmp_path / "checkpoint.safetensors").write_bytes(b"nothing")
    with pytest.raises(FormatError, match="no checkpoint"):
        trainer(episode, tmp_path).resume()


SHARDED = """
import sys
from dataclasses import replace
from pathlib import Path
import torch, torch.distributed as dist
from spmem.integrations.reference.episodes import Episodes
from spmem.integrations.reference.config import NANO
from spmem.integrations.reference.model import WorldModel
from spmem.integrations.reference.training import TrainConfig, Trainer
torch.set_num_threads(1)
dist.init_process_group("gloo")
episodes = Episodes(sys.argv[1])
config = replace(NANO, size=32, width=32, layers=2, heads=2, keyframes=2, backbone="state-space")
def made(out):
    torch.manual_seed(1)
    return Trainer(WorldModel(config), TrainConfig(steps=4, batch=2, stages=(1, 3), save_every=2), episodes, Path(out))
whole = made(sys.argv[2] + "/whole")
whole.fit()
half = made(sys.argv[2] + "/half")
half.advance(), half.advance(), half.save()
again = made(sys.argv[2] + "/half")
assert again.resume() and again.step == 2
again.fit()
dist.barrier()
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_train_one_sharded_model(episode: TrainingEpisode, tmp_path: Path) -> None:
    Episodes.write(tmp_path / "episodes", [episode])
    (tmp_path / "run.py").write_text(SHARDED)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    command += ["--master-port=0", "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"]
    command += [str(tmp_path / "run.py"), str(tmp_path / "episodes"), str(tmp_path)]
    root = Path(__file__).parents[3]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    whole, half = (tmp_path / name / "checkpoint.safetensors" for name in ("whole", "half"))
    assert whole.read_bytes() == half.read_bytes()
    model = replace(TINY, backbone="state-space")
    one = trainer(episode, tmp_path / "whole", model=model)  # one reads what two have written
    assert one.resume()
    assert one.step == 4
    torch.manual_seed(1)
    start = WorldModel(model).state_dict()
    assert not any(value.equal(start[name]) for name, value in one.mean.items() if "draw" in name)


def test_the_log_is_written_for_tensorboard_too(episode: TrainingEpisode, tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = trainer(episode, tmp_path, replace(SHORT, tensorboard=True))
    run.fit(lambda run: run.show("samples", np.full((8, 12, 3), 128, np.uint8)))
    told = events.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    lines = (tmp_path / "log.csv").read_text().splitlines()[1:]
    steps, losses = zip(
        *((int(line.split(",")[0]), float(line.split(",")[1])) for line in lines), strict=True
    )
    assert [one.step for one in told.Scalars("loss")] == list(steps) == [3, 6]
    assert [one.value for one in told.Scalars("loss")] == pytest.approx(losses, abs=1e-4)
    assert [(one.step, one.width, one.height) for one in told.Images("samples")] == [
        (3, 12, 8),
        (6, 12, 8),
    ]
