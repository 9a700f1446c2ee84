"""Memories under s3://, on a real HTTP server that the test starts."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import spmem
from spmem import Frame, KeyframeConfig, MemoryConfig, SpatialMemory
from spmem.cli import app
from spmem.errors import ConflictError, InputError, NotAMemoryError, StoreError
from spmem.stores.keyframes.zarr import ZarrKeyframes
from spmem.testing.box import BoxRoom

boto3 = pytest.importorskip("boto3")
servers = pytest.importorskip("moto.server")

EVERY = MemoryConfig(recent=1, keyframes=KeyframeConfig(novelty=0.0, commit_every=0))
KEYS = {"region": "us-east-1", "access_key_id": "someone", "secret_access_key": "secret"}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """A server with one empty bucket, ``walks``."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = servers.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    names = {"region_name": "us-east-1", "aws_access_key_id": "a", "aws_secret_access_key": "b"}
    boto3.client("s3", endpoint_url=url, **names).create_bucket(Bucket="walks")
    yield url
    server.stop()


@pytest.fixture
def options(endpoint: str) -> dict[str, Any]:
    return {"endpoint_url": endpoint, **KEYS}


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    room = BoxRoom()
    return room.frames(room.walk(6, width=64, height=48, sweep=5.0), time=0.0)


def answers(memory: SpatialMemory, frames: list[Frame]) -> list[torch.Tensor]:
    told = []
    for frame in frames[::2]:
        context = memory.retrieve(frame.camera[None], k=2)
        told += [context.projection.rgb, context.projection.depth, context.coverage]
        told += [keyframe.frame.rgb for keyframe in context.keyframes]
    return told


def same(some: list[torch.Tensor], others: list[torch.Tensor]) -> bool:
    return len(some) == len(others) and all(map(torch.equal, some, others))


@pytest.mark.slow
def test_a_memory_lives_in_a_bucket(options: dict[str, Any], frames: list[Frame]) -> None:
    address = "s3://walks/house/first"
    with spmem.open(address, config=EVERY, storage_options=options) as memory:
        for frame in frames[:3]:
            memory.store(frame)
        first = memory.commit("three")
        then = answers(memory, frames)
        for frame in frames[3:]:
            memory.store(frame)
        memory.commit("six")
        now = answers(memory, frames)
        with memory.fork("left") as fork:
            fork.remove(0)
    with spmem.open(address, mode="r", storage_options=options) as memory:
        assert [one.message for one in memory.snapshots()] == ["six", "three"]
        assert memory.branches() == ["left", "main"]
        assert same(answers(memory, frames), now)
        assert first is not None
        with memory.at(first) as past:
            assert same(answers(past, frames), then)
    with spmem.open(address, branch="left", storage_options=options) as memory:
        assert list(memory.keyframes) == [1, 2, 3, 4, 5]
    with spmem.open(address, storage_options=options) as memory:
        memory.rollback()
        assert same(answers(memory, frames), then)
        memory.drop(branch="left")
        assert memory.reclaim(keep=1) > 0
        assert same(answers(memory, frames), then)


def test_the_second_of_two_banks_is_refused(options: dict[str, Any], frames: list[Frame]) -> None:
    first = ZarrKeyframes.open("s3://walks/banks", options=options)
    second = ZarrKeyframes.open("s3://walks/banks", options=options)
    for number, bank in enumerate((first, second)):
        bank.append(frames[number])
    first.commit("first")
    with pytest.raises(ConflictError, match="another writer"):
        second.commit("second")
    again = ZarrKeyframes.open("s3://walks/banks", "r", options=options)
    assert torch.equal(again.read(0).camera.c2w, frames[0].camera.c2w)


@pytest.mark.slow
def test_the_second_of_two_writers_is_refused(options: dict[str, Any], frames: list[Frame]) -> None:
    address = "s3://walks/two"
    first = spmem.open(address, config=EVERY, storage_options=options)
    first.store(frames[0])
    first.commit("together")
    second = spmem.open(address, storage_options=options)
    first.store(frames[1])
    first.commit("first")
    second.store(frames[2])
    with pytest.raises(ConflictError, match="another writer"):
        second.commit("second")
    with second.fork("second") as saved:
        saved.commit("saved")
    assert first.merge("second") == {1: 2}
    first.close()
    with spmem.open(address, mode="r", storage_options=options) as memory:
        assert [memory.keyframes[id].time for id in memory.keyframes] == [0.0, 1.0, 2.0]


def test_what_is_not_there_is_told(
    options: dict[str, Any], frames: list[Frame], capfd: pytest.CaptureFixture[str]
) -> None:
    def refused(address: str, mode: str, **changed: Any) -> None:
        spmem.open(address, mode=mode, storage_options={**options, **changed})

    with pytest.raises(NotAMemoryError, match=r"s3://walks/none.*nothing is there"):
        refused("s3://walks/none", "r")
    for mode in "ra":
        with pytest.raises(StoreError, match=r"s3://nowhere/walk.*NoSuchBucket"):
            refused("s3://nowhere/walk", mode)
    with pytest.raises(InputError, match="endpoint_ulr"):
        refused("s3://walks/none", "r", endpoint_ulr="http://localhost")
    with pytest.raises(StoreError, match=r"s3://walks/none: no server answers at http://127.*:9 "):
        refused("s3://walks/none", "a", endpoint_url="http://127.0.0.1:9")
    refused("s3://walks/there", "a")
    with pytest.raises(InputError, match="delete the prefix"):
        refused("s3://walks/there", "w")
    assert capfd.readouterr().out == ""


def test_wrong_keys_are_told(options: dict[str, Any]) -> None:
    spmem.open("s3://walks/keys", storage_options=options).close()
    check_keys(options["endpoint_url"], from_now=True)
    try:
        with pytest.raises(StoreError, match=r"s3://walks/keys.*AccessKey"):
            spmem.open("s3://walks/keys", mode="r", storage_options=options)
    finally:
        check_keys(options["endpoint_url"], from_now=False)


def check_keys(endpoint: str, *, from_now: bool) -> None:
    """Let the server believe no keys from now on, or all."""
    import requests

    first = "0" if from_now else "inf"
    requests.post(f"{endpoint}/moto-api/reset-auth", data=first.encode(), timeout=10)


def test_no_credentials_are_told_in_one_line(
    endpoint: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StoreError, match="s3://walks/none"):
        spmem.open("s3://walks/none", mode="r", storage_options={"endpoint_url": endpoint})
    assert capfd.readouterr().out == ""


def test_commands_take_addresses(
    endpoint: str, options: dict[str, Any], frames: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    with spmem.open("s3://walks/told", config=EVERY, storage_options=options) as memory:
        for frame in frames[:2]:
            memory.store(frame)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    for words in (["info"], ["retrieve", "--frame", "0"]):
        result = CliRunner().invoke(app, [words[0], "s3://walks/told", *words[1:], "--json"])
        assert result.exit_code == 0, result.stderr
        told = json.loads(result.stdout)
        if words == ["info"]:
            assert (told["memory"], told["keyframes"]) == ("s3://walks/told", 2)
            assert told["bytes"]["total"] >= told["bytes"]["keyframes"] > 0
