"""``spmem.open``: the one place that knows concrete parts and puts them together."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike, fspath
from typing import Any

import torch

from spmem.config import KeyframeConfig, MemoryConfig
from spmem.device import as_device
from spmem.errors import InputError, UnknownNameError
from spmem.memory import SpatialMemory
from spmem.protocols import DepthEstimator, DynamicSegmenter, Embedder, KeyframeStore
from spmem.registry import find, names
from spmem.retention import Policy
from spmem.state import Options, State
from spmem.torch_modes import out_of_modes


@out_of_modes
def open(
    path: str | PathLike[str] | KeyframeStore | None = None,
    *,
    mode: str = "a",
    config: MemoryConfig | None = None,
    device: torch.device | str | None = None,
    depth: DepthEstimator | str | None = None,
    segmenter: DynamicSegmenter | str | None = None,
    embedder: Embedder | str | None = None,
    budget: int | str | None = None,
    retention: str | Policy | None = None,
    branch: str = "main",
    storage_options: Mapping[str, Any] | None = None,
) -> SpatialMemory:
    """Open a memory.

    Args:
        path: A local folder; an address (``s3://bucket/prefix``, ``gs://``, ``az://``, or of a scheme that an installed
            package registers as a ``keyframe_store``); None: RAM only, gone with the process; or a keyframe store.
        mode: ``a`` opens or makes; ``r`` only reads; ``w`` makes anew in place of the memory there.
        config: None takes the stored configuration, or the defaults for a new memory. What the stored map was built
            with (``geometry``, ``fusion``) cannot be changed by opening.
        device: Where a stored map is to live (default CPU; ``"cuda"`` is the current CUDA device); a new map goes where
            its first frame is.
        depth: Lifts frames that come without depth: an estimator or the name of one.
        segmenter: Keeps what moves out of the map: a segmenter or the name of one.
        embedder: Describes keyframes as they are stored, for ``find`` by image and text: an embedder or the name of
            one. None takes ``colour-layout`` when first asked by image. One memory keeps the descriptors of one
            embedder: with another, they are made anew.
        budget: What keyframes may take: a number of them, or bytes like ``"2 GB"``; None takes the configuration's.
        retention: What goes first then: a policy by name, or one of your own (:data:`spmem.retention.Policy`);
            None takes the configuration's.
        branch: The line of history, as ``memory.fork`` named it.
        storage_options: For an address: ``endpoint_url``, ``region``, ``access_key_id``, … as Icechunk's storage of that
            kind takes them. What is not given comes from the environment.

    Returns:
        A context manager; leaving it commits and closes.

    Raises:
        NotAMemoryError: Something else is at ``path``, or nothing and mode is ``r``.
        SchemaError: A newer spmem wrote it.
        SnapshotNotFoundError: There is no such branch.
        ReadOnlyError: The folder cannot be written and mode is not ``r``.
        UnknownNameError: A part that the configuration names does not exist.
        DeviceError: A device that this machine has not.
        InputError: An unknown mode, a configuration that the stored map was not built with, or a renderer for a
            geometry store that draws itself.

    Example:
        >>> import spmem
        >>> with spmem.open() as memory:
        ...     len(memory.keyframes)
        0
    """
    where = as_device("cpu" if device is None else device)
    if isinstance(path, KeyframeStore):
        bank = path
        if mode not in ("a", "r") or branch != "main" or storage_options:
            raise InputError(
                "a keyframe store is opened as it is: mode 'a' or 'r', no branch, no storage_options"
            )
    else:
        keyframes = None if config is None else config.keyframes
        bank = open_store(path, mode, keyframes, branch=branch, options=storage_options)
    options = Options(config, where, depth, segmenter, embedder, budget, retention)
    try:
        return SpatialMemory(State(bank, options, writable=mode != "r"))
    except BaseException:
        bank.close()
        raise


def open_store(
    path: str | PathLike[str] | None,
    mode: str = "a",
    config: KeyframeConfig | None = None,
    *,
    branch: str = "main",
    options: Mapping[str, Any] | None = None,
) -> KeyframeStore:
    """Open the keyframe store at a path or an address, by its scheme; None is RAM. As :func:`open` does, which see.

    Raises:
        InputError: An unknown mode, or a scheme that no store is registered for.
    """
    if mode not in ("a", "r", "w"):
        raise InputError(f'mode must be "a", "r" or "w", got {mode!r}')
    if path is None:
        path = "memory://"
    try:
        address = fspath(path)
    except TypeError:
        raise InputError(
            f"a memory's path is text, a path or None, got a {type(path).__name__}"
        ) from None
    scheme = address.split("://", 1)[0] if isinstance(address, str) and "://" in address else ""
    try:
        store = find("keyframe_store", scheme)
    except UnknownNameError as error:
        known = ", ".join(f"{name}://" for name in names("keyframe_store") if name)
        raise InputError(
            f"{address!r}: no keyframe store opens {scheme}://; memories lie in local folders and under {known}"
        ) from error
    opened: KeyframeStore = store(path, mode, config, branch=branch, options=options)
    return opened
