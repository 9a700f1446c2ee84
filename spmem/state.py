"""The state of a memory: its keyframes, and the parts that are made of them.

A state is of one branch. Going back in history, or making everything again, replaces it as a whole (:meth:`State.on`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from spmem import checkpoint
from spmem.checks import PoseCheck, ScaleCheck
from spmem.config import MemoryConfig, RetrievalConfig
from spmem.device import as_device
from spmem.errors import InputError, MissingExtraError, StoreError, UnknownNameError
from spmem.keyframes import new_uid
from spmem.parts.cache import ViewCache
from spmem.parts.map import Map
from spmem.parts.recent import WorkingMemory
from spmem.parts.views import KeyframeViews
from spmem.protocols import (
    CommittingStore,
    ConfigurableStore,
    DepthEstimator,
    DynamicSegmenter,
    Embedder,
    ImageIndex,
    KeyframeStore,
    Observation,
    Part,
    PartContext,
    ProjectionFilter,
    Retriever,
    VersionedStore,
)
from spmem.registry import PluginError, find, make, names
from spmem.retention import Policy, RetentionCandidates, choose
from spmem.types import Frame, Projection
from spmem.views import Views


@dataclass(frozen=True)
class Options:
    """What a memory is opened with besides its bank: arguments of :func:`spmem.open`, by the same names.

    Pickles if the parts that it was given do; a memory travels between processes as this and its bank.
    """

    config: MemoryConfig | None = None
    device: torch.device | str = "cpu"
    depth: DepthEstimator | str | None = None
    segmenter: DynamicSegmenter | str | None = None
    embedder: Embedder | str | None = None
    budget: int | str | None = None
    retention: str | Policy | None = None

    def configured(self, stored: MemoryConfig | None) -> MemoryConfig:
        """The configuration of a memory that was written with the stored one (None: it is new).

        Raises:
            InputError: The stored map was built with another geometry or fusion.
        """
        config = self.config or stored or MemoryConfig()
        if stored and (config.geometry, config.fusion) != (stored.geometry, stored.fusion):
            raise InputError(
                f"the stored map was built with geometry={stored.geometry!r} and {stored.fusion}; "
                "open it without a config, or with these"
            )
        kept = config.retention
        if self.budget is not None:
            kept = replace(kept, budget=self.budget)
        if isinstance(self.retention, str):
            kept = replace(kept, policy=self.retention)
        return replace(config, retention=kept)


class State:
    """The keyframes of a branch, all that is made of them, and what is not committed yet.

    Args:
        bank: The keyframes.
        options: What the memory is opened with.
        writable: Whether it may change.

    Raises:
        UnknownNameError: The configuration names a part that does not exist.
        InputError: A configuration that the stored map was not built with.
        CorruptMemoryError: What is stored cannot be restored.
    """

    def __init__(
        self, bank: KeyframeStore, options: Options | None = None, *, writable: bool = True
    ) -> None:
        self.bank, self.options, self.writable = bank, options or Options(), writable
        stored = checkpoint.stored_config(bank)
        self.config = self.options.configured(stored)
        self.changed = writable and stored != self.config
        self.corrected = False  # a map of before and keyframes of now would contradict each other
        if writable and stored is None:
            bank.write_arrays(checkpoint.CONFIG, {}, self.config.to_json())
        if isinstance(bank, ConfigurableStore):
            bank.configure(self.config.keyframes)
        policy = self.options.retention
        self._policy: Policy = (
            policy if callable(policy) else find("retention", self.config.retention.policy)
        )

        context = PartContext(
            config=self.config,
            bank=bank,
            views=Views(),
            device=as_device(self.options.device),
            embedder=make("embedder", self.options.embedder),
        )
        self.views, self.map, self.recent = context.views, Map(context), WorkingMemory(context)
        self.parts = named_parts(
            [KeyframeViews(context), self.map, *other_parts(context), self.recent]
        )
        self._rules: dict[str, ViewCache[Retriever]] = {}
        for part in self.parts.values():
            checkpoint.restore(part, bank)

        self._checks = (PoseCheck(), ScaleCheck()) if self.config.check_poses else ()
        self._uncommitted = self._dropped = 0
        recent = [frame.time for frame in self.recent if frame.time is not None]
        self._next_time = 1.0 + max([-1.0, float(self.views.times.max(initial=-1.0)), *recent])

    def on(self, bank: KeyframeStore, *, writable: bool = True) -> State:
        """A state like this one, restored from a bank."""
        return State(bank, self.options, writable=writable)

    # -- what is asked ------------------------------------------------------------------------------

    def rule(self, method: str | Retriever) -> tuple[str, Retriever]:
        """A rule, by name or as it is, and what to call it; it has observed every view.

        Raises:
            UnknownNameError: No rule has this name.
            InputError: Neither a name nor a rule.
        """
        if not isinstance(method, str | Retriever):
            raise InputError(
                f"method is the name of a rule or a Retriever, got {type(method).__name__}"
            )
        name = method if isinstance(method, str) else type(method).__name__
        return name, self._rule_part(method).current()

    def _rule_part(self, method: str | Retriever) -> ViewCache[Retriever]:
        """A rule as a part; one that has a name is kept under it, and restored when it is first used."""
        if not isinstance(method, str):
            key = f"{type(method).__name__} at {id(method):x}"
            part = self._rules.get(key) or ViewCache(key, method, self.views, kept=False)
        elif (key := rule_group(method)) in self._rules:
            part = self._rules[key]
        else:
            part = rule_part(method, self.config.retrieval, self.views)
            checkpoint.restore(part, self.bank)
        self._rules[key] = self.parts[key] = part
        return part

    def render(self, cameras: Any) -> Projection:
        """The scene along a trajectory, with a mask of what is believed."""
        projection = self.map.store.render(cameras)
        for part in self.parts.values():
            if isinstance(part, ProjectionFilter):
                projection = part.believed(projection)
        return projection

    def images(self) -> ImageIndex:
        """The part that knows what keyframes look like."""
        for part in self.parts.values():
            if isinstance(part, ImageIndex):
                return part
        raise InputError("no part of this memory describes images")

    # -- what changes -------------------------------------------------------------------------------

    def dated(self, frame: Frame) -> Frame:
        """The frame with a time: a second after the frame before it, unless it has one."""
        return frame if frame.time is not None else frame.replace(time=self._next_time)

    def check(self, frame: Frame) -> None:
        """Compare a frame's pose with the first frames'. Raises ConventionError."""
        for check in self._checks:
            check(frame)

    def store(self, frame: Frame, fused: Frame) -> int | None:
        """Take a frame, of which ``fused`` goes into the map; the keyframe's id, or None if it is not kept."""
        surfel_ids = self.map.fuse(fused)
        self.changed = True
        self._next_time = (frame.time or 0.0) + 1.0
        new = not len(self.bank) or self.map.novelty(surfel_ids) >= self.config.keyframes.novelty
        return self._observe(Observation(frame, fused, surfel_ids, uid=new_uid() if new else None))

    def merge(self, frame: Frame, uid: bytes) -> int | None:
        """Take a keyframe of another branch, whatever it shows; its id here, None if the budget dropped it at once."""
        fused, surfel_ids = self.map.take(frame)
        self.changed = True
        return self._observe(Observation(fused, fused, surfel_ids, uid=uid, live=False))

    def _observe(self, seen: Observation) -> int | None:
        """Keep a frame if it has a uid, and let all parts observe it; the keyframe's id."""
        if seen.uid is not None:
            seen = replace(seen, keyframe=self.bank.append(seen.fused, seen.uid))
        dropped: NDArray[np.int64] = np.empty(0, np.int64)
        try:
            for part in self.parts.values():
                if part is not self.recent:
                    part.observe(seen)
            if seen.keyframe is not None:
                dropped = self._keep_to_budget()
        except BaseException:  # of an embedder or a policy, say: nothing of the keyframe stays
            if seen.keyframe is not None:
                self.drop(np.array([seen.keyframe]))
            raise
        self.recent.observe(seen)
        if seen.keyframe is None:
            return None
        self._commit_by_itself(f"keyframe {seen.keyframe}")
        return None if seen.keyframe in dropped else seen.keyframe

    def move(self, ids: NDArray[np.int64], c2w: NDArray[np.float32]) -> None:
        """Give keyframes other poses ``[n, 4, 4]``, ids ascending; no change if one of them cannot be read."""
        self._require_index()
        self.map.move(ids, c2w)
        self.changed = self.corrected = True
        self.bank.move(ids, c2w)
        for part in self._parts_after_map():
            part.move(ids, c2w)

    def drop(self, ids: NDArray[np.int64], *, keep: bool = False) -> None:
        """Drop keyframes, ids ascending; without ``keep`` take back what they gave, or change nothing if one cannot be read."""
        self._require_index()
        self.map.drop(ids, keep=keep)
        self.changed = self.corrected = True
        self.bank.remove(ids)
        for part in self._parts_after_map():
            part.drop(ids, keep=keep)

    def _parts_after_map(self) -> list[Part]:
        """All parts but the map, the views last: the others compare with what these were."""
        return [part for part in reversed(self.parts.values()) if part is not self.map]

    def _require_index(self) -> None:
        """Make or restore the configured rule, so that its index follows and is kept; one that cannot be made has none."""
        with suppress(InputError, UnknownNameError, PluginError, MissingExtraError):
            self._rule_part(self.config.retrieval.method)

    def _keep_to_budget(self) -> NDArray[np.int64]:
        """Drop keyframes that exceed the budget, and return their ids; what they showed stays in the map."""
        budget = self.config.retention.budget
        if budget is None:
            return np.empty(0, np.int64)
        candidates = RetentionCandidates(
            ids=self.views.ids,
            times=self.views.times,
            bytes=self.bank.sizes(),
            geometry=self.map.store,
        )
        ids = np.sort(choose(candidates, budget, self._policy))
        if len(ids):
            self.drop(ids, keep=True)
            self._dropped += len(ids)
        return ids

    # -- commits ------------------------------------------------------------------------------------

    def save(self) -> None:
        """Hand all that is no keyframe to the bank; durable with its next commit."""
        self._require_index()
        checkpoint.save(self.parts.values(), self.config, self.bank)
        self._uncommitted = 0

    def commit(self, message: str) -> str | None:
        """Make everything durable in one step; the snapshot's id. A bank that does not commit keeps what it is given."""
        self.corrected = True  # so that, if this fails, the next automatic commit is a whole one
        self.save()
        bank = self.bank
        snapshot = bank.commit(message) if isinstance(bank, CommittingStore) else None
        self.changed = self.corrected = False
        if 4 * self._dropped >= max(len(bank), 1) and isinstance(bank, VersionedStore):
            with suppress(StoreError):  # a fork is open for writing; the next commit tries again
                bank.reclaim(keep=1)
                self._dropped = 0
        return snapshot

    def _commit_by_itself(self, message: str) -> None:
        self._uncommitted += 1
        if self._uncommitted != self.config.keyframes.commit_every:
            return
        self._uncommitted = 0
        if self.corrected:
            self.commit(message)
        elif isinstance(self.bank, CommittingStore):
            self.bank.commit(message, wait=False)

    def rebuilt(self) -> State:
        """A state made again from the keyframes, with this one's working memory; durable with its next commit."""
        checkpoint.clear(self.parts.values(), self.bank)
        fresh = self.on(self.bank)
        fresh.changed = fresh.corrected = True
        return fresh


def rule_part(name: str, config: RetrievalConfig, views: Views) -> ViewCache[Retriever]:
    """A rule as a part that has observed nothing, kept in a group that is named after it."""
    rule: Retriever = find("retriever", name)(config)
    return ViewCache(rule_group(name), rule, views)


def rule_group(name: str) -> str:
    """The group of a rule's index."""
    return "rule." + re.sub(r"[^A-Za-z0-9_.-]", "_", name)


def other_parts(context: PartContext) -> list[Part]:
    """The parts of the registry, not restored, those that the configuration wants."""
    made = [find("part", name)(context) for name in names("part")]
    return [part for part in made if part is not None]


def every_part(context: PartContext, kept: Iterable[str]) -> Iterator[Part]:
    """All parts, not restored: those that every memory has, and rules whose indices are among the kept groups."""
    yield from (KeyframeViews(context), *other_parts(context))
    for name in names("retriever"):
        if rule_group(name) in kept:
            yield rule_part(name, context.config.retrieval, context.views)
    yield from (Map(context), WorkingMemory(context))


def named_parts(parts: Iterable[Part]) -> dict[str, Part]:
    """Parts by name. Raises PluginError if two have one name."""
    named: dict[str, Part] = {}
    for part in parts:
        if part.name in named or part.name in checkpoint.RESERVED:
            raise PluginError(f"two parts are kept under the name {part.name!r}; uninstall one")
        named[part.name] = part
    return named
