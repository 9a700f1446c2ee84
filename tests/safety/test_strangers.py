"""A memory folder from a stranger: it runs nothing, leads nowhere, and asks for no more than it holds."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import os
import pickle
import pickletools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import pytest
import zarr
from google_crc32c import value as crc32c
from numcodecs.blosc import Blosc
from numcodecs.zstd import Zstd
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, ZstdCodec
from zarr.core.buffer import default_buffer_prototype

import spmem
from spmem.errors import CorruptMemoryError, InputError, SnapshotNotFoundError, SpmemError
from spmem.stores.keyframes.zarr import ZarrKeyframes
from spmem.testing.sample_frames import sample_frame

pytestmark = pytest.mark.filterwarnings("ignore:.*made anew", "ignore:.*Zarr V3 specification")
Change = Callable[[Any], object]


@pytest.fixture
def bank(path: Path) -> Path:
    """A bank of three keyframes and a group."""
    store = ZarrKeyframes.open(path)
    for number in range(3):
        store.append(sample_frame(number))
    store.write_arrays("cache", {"a": np.arange(6.0)}, {"keyframes": 2})
    store.commit("three")
    store.close()
    return path


def change(path: Path, how: Change) -> None:
    """Commit a change as a stranger would, with Icechunk and Zarr alone."""
    repository = icechunk.Repository.open(icechunk.local_filesystem_storage(str(path)))
    session = repository.writable_session("main")
    root = zarr.open_group(session.store, mode="r+")
    how(root)
    root["keyframes"].attrs.pop("table", None)
    session.commit("changed by other hands")


def read_all(path: Path) -> None:
    store = ZarrKeyframes.open(path, "r")
    for id in store.ids().tolist():
        store.read(id)
    store.read_arrays("cache")


# -- nothing runs -----------------------------------------------------------------------------------


def pickles(content: bytes) -> bool:
    """Whether a pickle of protocol 2 to 5 begins somewhere in these bytes, and parses to its end."""
    for protocol in range(2, 6):
        start = content.find(bytes([0x80, protocol]))
        while start >= 0:
            try:
                if len(list(pickletools.genops(content[start:]))) > 3:
                    return True
            except Exception:  # whatever pickletools says of bytes that are no pickle
                pass
            start = content.find(bytes([0x80, protocol]), start + 1)
    return False


def test_no_file_of_a_memory_holds_a_pickle(written: Path) -> None:
    for protocol in range(2, 6):
        assert pickles(b"before" + pickle.dumps({"a": [1, 2]}, protocol) + b"after")
    files = [file for file in written.rglob("*") if file.is_file()]
    assert len(files) > 20
    assert [file for file in files if pickles(file.read_bytes())] == []


RUNS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
CALLS = {"eval", "exec", "__import__", "compile", "torch.load", "yaml.load"}


@pytest.mark.parametrize("room", ["spmem", "stores", "retrieval", "integrations"])
def test_no_source_runs_what_a_file_says(room: str) -> None:
    root = Path(__file__).parents[2] / room
    sources = list(root.rglob("*.py"))
    assert sources
    for source in sources:
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Import):
                assert not RUNS & {name.name.split(".")[0] for name in node.names}, source
            elif isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] not in RUNS, source
            elif isinstance(node, ast.Call):
                if isinstance(node.func, ast.Name | ast.Attribute):
                    assert ast.unparse(node.func) not in CALLS, f"{source}:{node.lineno}"
                for option in node.keywords:
                    if option.arg == "allow_pickle":
                        assert ast.unparse(option.value) == "False", f"{source}:{node.lineno}"


# -- nothing leads out ------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
@pytest.mark.parametrize("mode", ["r", "a", "w"])
@pytest.mark.parametrize("part", ["chunks", "refs", "a chunk", "a branch", "one more"])
def test_links_are_refused(bank: Path, part: str, mode: str) -> None:
    outside = bank.parent / "outside"
    outside.mkdir()
    (outside / "private").write_text("mine")
    if part in ("chunks", "refs"):
        (bank / part).rename(outside / part)
        (bank / part).symlink_to(outside / part)
    elif part == "one more":
        (bank / "chunks" / "000000000000000000G0").symlink_to(outside / "private")
    else:
        file = next((bank / ("chunks" if part == "a chunk" else "refs/branch.main")).iterdir())
        file.unlink()
        file.symlink_to(outside / "private")
    before = sorted(file.name for file in outside.rglob("*"))
    with pytest.raises(CorruptMemoryError, match="link"):
        ZarrKeyframes.open(bank, mode)
    assert sorted(file.name for file in outside.rglob("*")) == before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes there")
def test_pipes_are_refused(bank: Path) -> None:
    os.mkfifo(bank / "chunks" / "000000000000000000G0")
    with pytest.raises(CorruptMemoryError, match="special"):
        ZarrKeyframes.open(bank, "r")


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_the_folder_itself_may_be_a_link(bank: Path) -> None:
    link = bank.with_name("link")
    link.symlink_to(bank, target_is_directory=True)
    read_all(link)


def test_references_to_other_files_are_refused(path: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret " * 4000)
    ZarrKeyframes.open(path).close()
    config = icechunk.RepositoryConfig.default()
    prefix = f"file://{tmp_path}/"
    config.set_virtual_chunk_container(
        icechunk.VirtualChunkContainer(prefix, icechunk.local_filesystem_store(str(tmp_path)))
    )
    repository = icechunk.Repository.open(
        icechunk.local_filesystem_storage(str(path)),
        config,
        authorize_virtual_chunk_access={prefix: None},
    )
    repository.save_config()
    session = repository.writable_session("main")
    group = zarr.open_group(session.store).create_group("cache")
    made: dict[str, Any] = {"shape": (7,), "chunks": (7,), "dtype": "u1"}
    group.create_array("plain", **made, serializer=BytesCodec(), compressors=())
    group.create_array("packed", **made, compressors=PACKED)
    for name in ("plain", "packed"):
        session.store.set_virtual_ref(f"cache/{name}/c/0", f"file://{secret}", offset=0, length=7)
    session.commit("virtual")
    with pytest.raises(CorruptMemoryError):
        ZarrKeyframes.open(path, "r").read_arrays("cache")
    change(path, lambda root: root["cache"].__delitem__("plain"))
    with pytest.raises(CorruptMemoryError) as raised:
        ZarrKeyframes.open(path, "r").read_arrays("cache")
    assert "virtual chunk" in str(raised.value.__cause__)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/b", "..", "", "a\0b"])
def test_names_are_no_paths(bank: Path, name: str) -> None:
    outside = sorted(bank.parent.iterdir())
    with spmem.open(bank) as memory:
        for make in (memory.fork, memory.tag):
            with pytest.raises(InputError):
                make(name)
        for use, kinds in (
            (memory.at, ("snapshot", "tag", "branch")),
            (memory.merge, ("snapshot", "tag", "branch")),
            (memory.rollback, ("snapshot", "tag")),
            (memory.drop, ("tag", "branch")),
        ):
            for kind in kinds:
                with pytest.raises(SnapshotNotFoundError):
                    use(**{kind: name})
    with pytest.raises(SnapshotNotFoundError):
        spmem.open(bank, branch=name)
    store = ZarrKeyframes.open(bank)
    with pytest.raises(InputError):
        store.write_arrays(name, {}, {})
    assert store.read_arrays(name) is None
    assert sorted(bank.parent.iterdir()) == outside


# -- nothing grows ----------------------------------------------------------------------------------

ZSTD = [ZstdCodec(level=1), Crc32cCodec()]
PACKED = [BloscCodec(cname="zstd", typesize=1, shuffle="shuffle"), Crc32cCodec()]


def replaced(name: str, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: str) -> Change:
    """Put another array in place of a column of the bank's table."""
    like: dict[str, Any] = {"shape": shape, "chunks": chunks, "dtype": dtype}
    codecs = [GzipCodec()] if dtype == "f4" else ZSTD
    return lambda root: root["keyframes"].create_array(
        name, overwrite=True, compressors=codecs, **like
    )


@pytest.mark.parametrize(
    ("how", "told"),
    [
        (replaced("time", (1 << 40,), (1024,), "f8"), "claims 8,796,093,022,208"),
        (replaced("time", (3,), (1 << 40,), "f8"), "limit is 268,435,456"),
        (replaced("time", (3,), (1024,), "S8"), "wanted numbers"),
        (replaced("time", (3,), (3,), "f4"), "GzipCodec"),
        (replaced("records", (3,), (3,), "u1"), "records are"),
        (replaced("records", (3, 1 << 40), (1, 1024), "u1"), "records are"),
        (replaced("records", (1 << 50, 4), (1, 1024), "u1"), "records are"),
    ],
)
def test_absurd_arrays_are_refused(bank: Path, how: Change, told: str) -> None:
    change(bank, how)
    with pytest.raises(CorruptMemoryError, match=told):
        ZarrKeyframes.open(bank, "r")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("size", (1 << 30, 1 << 30), "134,217,728 pixels"),
        ("size", (0, 48), "134,217,728 pixels"),
        ("bytes", (1 << 60, 0, 0, 0, 0), "longer than its pixels"),
        ("bytes", (-1, 0, 0, 0, 0), "longer than its pixels"),
        ("bytes", (0, 0, 0, 0, 1 << 29), "longer than its pixels and a latent"),
        ("channels", 1 << 30, "16,384 channels"),
        ("size", (65_501, 1), "65,500 a side"),
        ("size", (-48, -64), "134,217,728 pixels"),
        ("size", ((1 << 31) - 1, (1 << 31) - 1), "134,217,728 pixels"),
        ("bytes", ((1 << 63) - 1,) * 5, "longer than its pixels"),
        ("channels", -1, "16,384 channels"),
        ("c2w", np.nan, "not rigid"),
        ("c2w", 3e38, "not rigid"),
        ("c2w", 0, "not rigid"),
        ("K", 0, "camera that cannot be"),
        ("K", -np.inf, "camera that cannot be"),
        ("time", np.inf, "no number"),
        ("time", np.nan, "no number"),
    ],
)
def test_absurd_rows_are_refused(bank: Path, name: str, value: Any, told: str) -> None:
    change(bank, lambda root: root[f"keyframes/{name}"].__setitem__(1, value))
    with pytest.raises(CorruptMemoryError, match=rf"keyframe 1 claims.*{told}"):
        ZarrKeyframes.open(bank, "r")


@pytest.mark.parametrize(
    ("name", "values", "told"),
    [
        ("id", [0, 1, 3], "never given"),
        ("id", [0, 1, 1 << 62], "never given"),
        ("id", [-3, 0, 1], "never given"),
        ("id", [0, 2, 1], "do not ascend"),
        ("id", [1, 1, 2], "do not ascend"),
        ("uid", np.zeros((3, 16)), "the same uid"),
    ],
)
def test_absurd_identities_are_refused(bank: Path, name: str, values: Any, told: str) -> None:
    change(bank, lambda root: root[f"keyframes/{name}"].__setitem__(slice(None), np.array(values)))
    with pytest.raises(CorruptMemoryError, match=told):
        ZarrKeyframes.open(bank, "r")


def scribble(root: Any, name: str, chance: np.random.Generator) -> None:
    """Fill a column of the table, or make it anew in another shape and dtype, with whatever there is."""
    rows, like = root["keyframes"], root[f"keyframes/{name}"]
    shape: tuple[int, ...] = like.shape
    if chance.random() < 0.5:
        dtype = np.dtype(str(chance.choice(["u1", "i2", "i8", "u8", "f2", "f4", "f8", "c8", "b1"])))
        shape = [shape, (3,), (0,), (3, 1), (), (7, *shape[1:])][chance.integers(6)]
        chunks = tuple(max(1, edge) for edge in shape)
        made = {"shape": shape, "chunks": chunks, "dtype": dtype, "compressors": ZSTD}
        like = rows.create_array(name, overwrite=True, **made)
    size = int(np.prod(shape)) * like.dtype.itemsize
    noise = np.frombuffer(chance.bytes(size), np.uint8)
    noise = noise & (chance.integers(0, 256, dtype=np.uint8) if chance.random() < 0.5 else 255)
    like[...] = noise.view(bool if like.dtype == bool else like.dtype).reshape(shape)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.filterwarnings("ignore")
def test_whatever_a_table_holds_is_an_error_of_ours_or_harmless(bank: Path, seed: int) -> None:
    from spmem.stores.keyframes.zarr.table import COLUMNS

    chance = np.random.default_rng(seed)
    names = [str(name) for name in chance.choice(sorted(COLUMNS), chance.integers(1, 3))]
    change(bank, lambda root: [scribble(root, name, chance) for name in names])
    with contextlib.suppress(SpmemError):
        store = ZarrKeyframes.open(bank, "a" if seed % 2 else "r")
        store.cameras()[0], store.times(), store.sizes(), store.uids()
        for id in store.ids().tolist():
            with contextlib.suppress(SpmemError):
                store.read(id)
        if seed % 2:
            store.append(sample_frame(7))
            store.commit("went on")
            ZarrKeyframes.open(bank, "r")


@pytest.mark.parametrize("file", ["keyframes", "keyframes/time", "keyframes/records", "cache/a"])
@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{", b"{}", b'{"zarr_format": 3, "node_type": "array"}', b"[" * 100_000, b"\xff"],
)
def test_metadata_that_is_none_is_an_error_of_ours(bank: Path, file: str, content: bytes) -> None:
    repository = icechunk.Repository.open(icechunk.local_filesystem_storage(str(bank)))
    session = repository.writable_session("main")
    buffer = default_buffer_prototype().buffer.from_bytes(content)
    try:
        asyncio.run(session.store.set(f"{file}/zarr.json", buffer))
        session.commit("scribbled")
    except Exception:  # Icechunk keeps no metadata that it cannot read
        return
    with pytest.raises(SpmemError):
        read_all(bank)


def test_a_picture_of_another_size_is_not_unpacked(bank: Path) -> None:
    change(bank, lambda root: root["keyframes/size"].__setitem__(1, (8, 8)))
    store = ZarrKeyframes.open(bank, "r")
    with pytest.raises(CorruptMemoryError, match=r"keyframe 1\b.*48x64"):
        store.read(1)


def test_groups_claim_no_more_than_they_hold(bank: Path) -> None:
    def claim(root: Any) -> None:
        root["cache"].create_array(
            "b", shape=(1 << 38,), chunks=(1024,), dtype="u1", compressors=PACKED
        )

    change(bank, claim)
    with pytest.raises(CorruptMemoryError) as raised:
        ZarrKeyframes.open(bank, "r").read_arrays("cache")
    assert "cache/b claims 274,877,906,944 bytes" in str(raised.value.__cause__)


ZEROS = np.zeros(1 << 27, np.uint8)


@pytest.mark.parametrize(
    ("key", "bomb", "told"),
    [
        ("keyframes/records/c/1/0", lambda: Zstd(1).encode(ZEROS), "claims 134,217,728 bytes"),
        ("keyframes/records/c/1/0", lambda: b"\x28\xb5\x2f\xfd\0\x58" + bytes(9), "claims no size"),
        ("keyframes/records/c/1/0", lambda: b"no frame at all", "no Zstandard frame"),
        ("cache/a/c/0", lambda: Blosc("zstd", 1).encode(ZEROS), "claims 134,217,728 bytes"),
        ("cache/a/c/0", lambda: Blosc("zstd", 1).encode(ZEROS)[:-9], "of its length"),
    ],
)
def test_bombs_are_not_unpacked(bank: Path, key: str, bomb: Callable[[], bytes], told: str) -> None:
    repository = icechunk.Repository.open(icechunk.local_filesystem_storage(str(bank)))
    session = repository.writable_session("main")
    packed = bytes(bomb())
    content = packed + crc32c(packed).to_bytes(4, "little")
    buffer = default_buffer_prototype().buffer.from_bytes(content)
    asyncio.run(session.store.set(key, buffer))
    session.commit("bomb")
    with pytest.raises(CorruptMemoryError) as raised:
        read_all(bank)
    assert told in f"{raised.value} {raised.value.__cause__}"


def test_the_guard_leaves_what_is_stored_as_it_is(bank: Path) -> None:
    store = ZarrKeyframes.open(bank)
    store.append(sample_frame(3))
    store.remove(np.array([1]))
    store.write_arrays("cache", {"a": np.arange(9.0)}, {})
    store.commit("more")
    repository = icechunk.Repository.open(icechunk.local_filesystem_storage(str(bank)))
    root = zarr.open_group(repository.readonly_session("main").store, mode="r")
    for name, codec in (("keyframes/records", "zstd"), ("keyframes/id", "zstd"), ("cache/a", "blosc")):  # fmt: skip
        array: Any = root[name]
        assert [part.to_dict()["name"] for part in array.metadata.codecs] == ["bytes", codec, "crc32c"]  # fmt: skip
    read_all(bank)
