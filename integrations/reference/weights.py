"""Weights as files: safetensors, with a configuration beside them that holds their hash. Works without a network."""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from spmem.errors import FormatError, MissingExtraError, UnknownNameError
from spmem.integrations.reference.config import ModelConfig
from spmem.integrations.reference.model import WorldModel

SHIPPED = Path(__file__).parent / "pretrained"
WEIGHTS, CONFIG = "model.safetensors", "config.json"


def save(model: WorldModel, folder: str | Path) -> Path:
    """Write a model as float16 ``model.safetensors``, and ``config.json`` with the SHA-256 of it; returns the folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: value.detach().to("cpu", torch.float16).contiguous()
        for name, value in model.state_dict().items()
    }
    save_file(tensors, folder / WEIGHTS)
    (folder / WEIGHTS).chmod(0o644)  # safetensors writes for the owner alone
    about = {"model": asdict(model.config), "sha256": _hash_file(folder / WEIGHTS)}
    (folder / CONFIG).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    return folder


def load(name: str | Path) -> WorldModel:
    """The model of a folder, or a shipped one by name, as float32.

    No memory is taken for a network whose weights are not there: the file's shapes are compared first.

    Raises:
        FormatError: The weights are damaged, or not those of the configuration.
        UnknownNameError: Neither a folder nor a shipped name.
    """
    folder = Path(name)
    if not folder.is_dir():
        shipped = sorted(path.name for path in SHIPPED.iterdir()) if SHIPPED.is_dir() else []
        if str(name) not in shipped:
            raise UnknownNameError("model", str(name), shipped)
        folder = SHIPPED / str(name)
    path = folder / WEIGHTS
    for file in (folder / CONFIG, path):
        if not file.is_file():
            raise FormatError(folder, f"has no {file.name}")
    try:
        about = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        config, digest = ModelConfig(**about["model"]), about["sha256"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise FormatError(folder / CONFIG, f"describes no model: {error}") from error
    if _hash_file(path) != digest:
        raise FormatError(
            path, f"is not what {CONFIG} was written with: its SHA-256 is another; copy both again"
        )
    try:
        _require_weights(path, config)
        model = WorldModel(config)
        model.load_state_dict(load_file(path))
    except (RuntimeError, TypeError, OverflowError, SafetensorError) as error:
        raise FormatError(path, f"holds not the weights of {CONFIG}: {error}") from error
    return model.eval()


def _require_weights(path: Path, config: ModelConfig) -> None:
    """Raise FormatError unless the file has the weights of such a network, of their shapes."""
    with safe_open(path, "pt") as file:
        found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    if config.layers + config.branch > len(found):
        raise FormatError(
            path, f"has {len(found)} tensors; {CONFIG} has {config.layers + config.branch} layers"
        )
    with torch.device("meta"):
        model = WorldModel(config)
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    for name in sorted(found.keys() ^ wanted.keys()):
        raise FormatError(
            path, f"{'lacks' if name in wanted else 'has the unknown'} tensor {name[:80]}"
        )
    for name, shape in wanted.items():
        if found[name] != shape:
            raise FormatError(
                path, f"{name} is {list(found[name])}; {CONFIG} makes it {list(shape)}"
            )


def upload(model: WorldModel, repository: str, **options: Any) -> str:
    """Save into a folder and upload it as a model to the Hugging Face Hub; returns the commit's address.

    ``options`` are those of ``HfApi.upload_folder``.
    """
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise MissingExtraError("huggingface_hub", "perception", "push_to_hub") from error
    with tempfile.TemporaryDirectory() as folder:
        save(model, folder)
        api = HfApi()
        api.create_repo(repository, exist_ok=True)
        return str(api.upload_folder(repo_id=repository, folder_path=folder, **options))


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
