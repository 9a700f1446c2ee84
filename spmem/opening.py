"""``spmem.open``: the one place that knows concrete parts and puts them together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any

import torch

from spmem import checkpoint
from spmem.config import MemoryConfig
from spmem.device import as_device
from spmem.errors import InputError
from spmem.memory import SpatialMemory
from spmem.protocols import (
    DepthEstimator,
    DynamicSegmenter,
    Embedder,
    GeometryStore,
    KeyframeStore,
)
from spmem.registry import SHIPPED, find, make
from spmem.retrieval.descriptors import Descriptors
from spmem.retrieval.rules import retriever
from spmem.stores.retention import Policy
from spmem.torch_modes import out_of_modes


@out_of_modes
def open(
    path: str | PathLike[str] | None = None,
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
        path: A local folder; an address (``s3://bucket/prefix``, ``gs://``, ``az://``); or None: RAM only, gone with the
            process.
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
        retention: What goes first then: a policy by name, or one of your own (:data:`spmem.stores.retention.Policy`);
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
    if mode not in ("a", "r", "w"):
        raise InputError(f'mode must be "a", "r" or "w", got {mode!r}')
    if path is None and (mode == "r" or branch != "main" or storage_options):
        raise InputError(
            'a memory in RAM starts empty; mode="r", a branch and storage_options need a path'
        )
    where = as_device("cpu" if device is None else device)
    if path is None:
        from spmem.stores.keyframes.ram import RamKeyframes

        bank: KeyframeStore = RamKeyframes()
    else:
        from spmem.stores.keyframes.zarr import ZarrKeyframes

        how = None if config is None else config.keyframes
        bank = ZarrKeyframes.open(path, mode, how, branch=branch, options=storage_options)
    opened = Opening(config, where, depth, segmenter, embedder, budget, retention)
    try:
        return opened(bank, mode != "r")
    except BaseException:
        bank.close()
        raise


@dataclass(frozen=True)
class Opening:
    """How the parts of a memory are put together over a bank: :func:`open`'s arguments of the same names.

    Pickles where the parts that it was given do; a memory travels between processes as this and its bank.
    """

    config: MemoryConfig | None
    device: torch.device | str
    depth: DepthEstimator | str | None
    segmenter: DynamicSegmenter | str | None
    embedder: Embedder | str | None
    budget: int | str | None
    retention: str | Policy | None

    def __call__(self, bank: KeyframeStore, writable: bool) -> SpatialMemory:
        """The memory that a bank holds, to write or to read."""
        settings, where = self._settings(bank, writable), torch.device(self.device)
        if hasattr(bank, "configure"):
            bank.configure(settings.keyframes)
        geometry = _geometry(settings)
        checkpoint.restore_geometry(geometry, bank, where)
        views = checkpoint.restore_views(bank)
        policy = (
            self.retention
            if callable(self.retention)
            else find("retention", settings.retention.policy)
        )
        return SpatialMemory(
            geometry,
            bank,
            lambda name: retriever(name, settings.retrieval),
            settings,
            views=views,
            free=checkpoint.restore_free(bank, views, settings.retrieval.reach),
            index=checkpoint.restore_index(bank, views, settings.retrieval),
            policy=policy,
            recent=checkpoint.restore_recent(bank, where, settings.recent),
            depth=make("depth_estimator", self.depth),
            segmenter=make("dynamic_segmenter", self.segmenter),
            descriptors=Descriptors(
                make("embedder", self.embedder), checkpoint.restore_descriptors(bank)
            ),
            save=lambda memory: checkpoint.save(memory, bank),
            again=self,
            device=where,
            writable=writable,
        )

    def _settings(self, bank: KeyframeStore, writable: bool) -> MemoryConfig:
        settings = _configuration(bank, self.config, writable=writable)
        kept, named = settings.retention, self.retention
        kept = replace(kept, budget=kept.budget if self.budget is None else self.budget)
        kept = replace(kept, policy=named if isinstance(named, str) else kept.policy)
        return replace(settings, retention=kept)


def _geometry(config: MemoryConfig) -> GeometryStore:
    """The configured store; a map that is drawn as discs does so itself, without copying its surfels."""
    store: Callable[..., GeometryStore] = find("geometry_store", config.geometry)
    if config.renderer == "discs":
        return store(config.fusion)
    if config.geometry not in SHIPPED["geometry_store"]:
        raise InputError(
            f"the geometry store {config.geometry!r} draws itself; renderer={config.renderer!r} goes with "
            f"{' or '.join(SHIPPED['geometry_store'])}"
        )
    return store(config.fusion, renderer=make("renderer", config.renderer))


def _configuration(
    bank: KeyframeStore, given: MemoryConfig | None, *, writable: bool
) -> MemoryConfig:
    stored = bank.read_arrays(checkpoint.CONFIG)
    if stored is None:
        new = given or MemoryConfig()
        if writable:
            bank.write_arrays(checkpoint.CONFIG, {}, new.to_json())
        return new
    built = MemoryConfig.from_json(stored[1])
    if given is None:
        return built
    if (given.geometry, given.fusion) != (built.geometry, built.fusion):
        raise InputError(
            f"the stored map was built with geometry={built.geometry!r} and {built.fusion}; "
            "open it without a config, or with these"
        )
    return given
