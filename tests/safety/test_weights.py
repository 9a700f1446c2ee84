"""Weights from a stranger: a configuration takes no memory that the file of weights does not pay for."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from spmem.errors import FormatError
from spmem.integrations.reference import weights


def model(folder: Path, config: Any, content: bytes | None = None) -> Path:
    """A folder with weights, all of one number, and their hash in the configuration."""
    folder.mkdir()
    file = folder / "model.safetensors"
    if content is None:
        names = weights.load("nano").state_dict()
        save_file({name: torch.zeros(1) for name in names}, file)
    else:
        file.write_bytes(content)
    about = {"model": config, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    text = config if isinstance(config, str) else json.dumps(about)
    (folder / "config.json").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"width": 1 << 14}, "makes it"),
        ({"size": 1 << 16}, "makes it"),
        ({"history": 1 << 30}, "makes it"),
        ({"refine": 1 << 30}, "makes it|holds not the weights"),
        ({"layers": 1 << 30}, "has 1073741825 layers"),
        ({"branch": 1 << 30}, "has 1073741828 layers"),
        ({"layers": -1}, "layers must be from 0"),
        ({"width": 128.0}, "width must be of type int"),
        ({"depth": "yes"}, "depth must be of type bool"),
        ({"colour": 3}, "describes no model"),
        ("[" * 100_000, "describes no model"),
        ('{"model": ' + "9" * 5000 + "}", "describes no model"),
    ],
)
def test_networks_that_the_file_does_not_hold(
    tmp_path: Path, config: Any, problem: str, frugal: None
) -> None:
    with pytest.raises(FormatError, match=problem):
        weights.load(model(tmp_path / "model", config))


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 1 << 60),
        struct.pack("<Q", 90 << 20) + b"{",
        struct.pack("<Q", 64)
        + b'{"a":{"dtype":"F32","shape":[1073741824],"data_offsets":[0,4]}}'.ljust(64)
        + bytes(4),
        struct.pack("<Q", 2) + b"{}",
        b"",
    ],
)
def test_files_of_weights_that_claim_more_than_they_hold(
    tmp_path: Path, content: bytes, frugal: None
) -> None:
    with pytest.raises(FormatError, match=r"model\.safetensors"):
        weights.load(model(tmp_path / "model", {}, content))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes there")
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_pipe_is_no_file_of_weights(tmp_path: Path, name: str) -> None:
    folder = model(tmp_path / "model", {}, b"")
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(FormatError, match=f"has no {name}"):
        weights.load(folder)
