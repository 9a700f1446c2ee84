"""How each keyframe looks: its image's descriptor, made once, kept beside the memory, searched by inner product."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from spmem.arrays import ArraySchema, require
from spmem.camera import LARGEST
from spmem.errors import InputError, MissingExtraError
from spmem.progress import track
from spmem.protocols import (
    Arrays,
    Embedder,
    Kept,
    Observation,
    PartContext,
    TextEmbedder,
    ViewIndex,
)
from spmem.registry import make
from spmem.retrieval.indices.places import make_index
from spmem.returned import name_of, vectors_from

BATCH = 16
"""Keyframes read and described at once."""

LONG = 64
"""Keyframes from which describing them shows a progress bar."""

SAME = 1e-3
"""How far an entry of the probe's descriptor may be off for two embedders to be one (kernels and devices differ)."""

SCHEMA = {
    "ids": ArraySchema("int64", "n", least=0, rising=True),
    "vectors": ArraySchema("float32", "n dim", least=-LARGEST, most=LARGEST),
    "probe": ArraySchema("float32", "dim", least=-LARGEST, most=LARGEST),
}
"""What the arrays that are kept must be."""


class Descriptors:
    """Unit vectors ``[dim]`` of keyframes by id, with an index over them (``faiss`` where installed, else ``flat``).

    A :class:`spmem.protocols.Part`. If the memory was opened with an embedder, keyframes are described as they are stored,
    and asking reads no pixels. Otherwise :class:`spmem.integrations.embedding.colour_layout.ColourLayout` is taken, and
    they are read from the bank when first asked about (:meth:`complete`).

    What was kept is taken back if its embedder is the same: of one class and length, and with the same descriptor of a
    fixed picture, so that other weights are noticed. Otherwise keyframes are described again.
    """

    name = "descriptors"
    derived = cache = True

    def __init__(self, context: PartContext) -> None:
        self._bank, self._views = context.bank, context.views
        self._eager = context.embedder is not None
        self._embedder: Embedder = make("embedder", context.embedder or "colour-layout")
        self._kept: Kept | None = None
        self._index: ViewIndex | None = None
        self._known: dict[int, NDArray[np.float32]] = {}

    # -- as a part ----------------------------------------------------------------------------------

    def observe(self, seen: Observation) -> None:
        """Describe a keyframe that is being stored, if an embedder was given."""
        if self._eager and seen.keyframe is not None:
            self._put([seen.keyframe], self._described(seen.fused.rgb_float()[None]))

    def move(self, ids: NDArray[np.int64], c2w: NDArray[np.float32]) -> None:
        """Nothing: images look the same from elsewhere."""

    def drop(self, ids: NDArray[np.int64], *, keep: bool) -> None:
        """Forget keyframes; unknown ids are skipped."""
        if self._index is None:
            self._kept = None if self._kept is None else _of(self._kept, ids, invert=True)
            return
        self._index.remove(ids)
        for id in ids.tolist():
            self._known.pop(id, None)

    def arrays(self) -> Kept | None:
        """What is to be kept; None if nothing is known."""
        ids = self._views.ids
        if self._index is None:  # nobody asked: what came stays, but for keyframes that are gone
            return None if self._kept is None else _of(self._kept, ids)
        known = np.array([id for id in ids.tolist() if id in self._known], np.int64)
        arrays = {"ids": known, "vectors": self.of(known), "probe": self._probe}
        return arrays, {"embedder": _name(self._embedder), "dim": self._embedder.dim}

    def restore(self, kept: Kept | None) -> None:
        """Keep what was kept until somebody asks; ValueError if it does not fit together."""
        if kept is not None:
            require(kept[0], SCHEMA)
        self._kept = kept

    def verify(self, kept: Kept) -> str | None:
        """Whether what is kept fits together."""
        self.restore(kept)
        return None

    # -- asked --------------------------------------------------------------------------------------

    def complete(self) -> bool:
        """Describe those keyframes that are not yet, and forget all others; True if any was new.

        Reading many shows a progress bar on standard error.
        """
        self._ready()
        ids = self._views.ids
        self.drop(np.setdiff1d(np.array(list(self._known), np.int64), ids), keep=False)
        new = [id for id in ids.tolist() if id not in self._known]
        batches: Iterable[list[int]] = [new[i : i + BATCH] for i in range(0, len(new), BATCH)]
        for batch in track(batches, "Describing keyframes") if len(new) >= LONG else batches:
            frames = [(id, self._bank.read(id).rgb_float()) for id in batch]
            for _, alike in groupby(frames, lambda one: one[1].shape):
                same_size, images = zip(*alike, strict=True)
                self._put(list(same_size), self._described(torch.stack(images)))
        return bool(new)

    def of_image(self, rgb: Float[Tensor, "h w 3"]) -> NDArray[np.float32]:
        """The descriptor ``[dim]`` of an image in [0, 1]."""
        first: NDArray[np.float32] = self._described(rgb[None])[0]
        return first

    def of_text(self, text: str) -> NDArray[np.float32]:
        """The descriptor ``[dim]`` of words. Raises InputError where the embedder knows none."""
        embedder = self._embedder
        if not isinstance(embedder, TextEmbedder):
            raise InputError(
                f"{type(embedder).__name__} describes images only; to ask by text open the memory with an embedder that "
                "reads, as embedder=\"siglip\" does (pip install 'spmem[perception]')"
            )
        who = f"text of embedder {name_of(embedder)}"
        first: NDArray[np.float32] = vectors_from(embedder.text([text]), 1, embedder.dim, who)[0]
        return first

    def of(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Descriptors ``[n, dim]`` of keyframes that are described; KeyError for another."""
        rows = [self._known[id] for id in ids.tolist()]
        return np.stack(rows) if rows else np.zeros((0, self._embedder.dim), np.float32)

    def nearest(
        self, asked: NDArray[np.float32], k: int, hidden: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Ids of at most k keyframes whose descriptors are nearest to ``[dim]``, best first, none of ``hidden``."""
        ids = self._ready().search(asked[None], min(k, len(self._known)), hidden)[1][0]
        found: NDArray[np.int64] = ids[ids >= 0]
        return found

    def _ready(self) -> ViewIndex:
        if self._index is None:
            self._index = _vectors(self._embedder.dim)
            self._probe = self._vectors(_picture())[0]
            if self._kept is not None and self._same(*self._kept):
                self._put(self._kept[0]["ids"].tolist(), self._kept[0]["vectors"])
            self._kept = None
        return self._index

    def _same(self, arrays: Arrays, attributes: Mapping[str, Any]) -> bool:
        name, dim = attributes.get("embedder"), attributes.get("dim")
        return (name, dim) == (_name(self._embedder), self._embedder.dim) and bool(
            np.abs(arrays["probe"] - self._probe).max() <= SAME
        )

    def _described(self, rgb: Float[Tensor, "n h w 3"]) -> NDArray[np.float32]:
        self._ready()
        return self._vectors(rgb)

    def _vectors(self, rgb: Float[Tensor, "n h w 3"]) -> NDArray[np.float32]:
        embedder = self._embedder
        who = f"embedder {name_of(embedder)}"
        return vectors_from(embedder(rgb), len(rgb), embedder.dim, who)

    def _put(self, ids: list[int], vectors: NDArray[np.float32]) -> None:
        self._ready().add(np.array(ids, np.int64), vectors)
        self._known.update(zip(ids, vectors, strict=True))


def _of(kept: Kept, ids: NDArray[np.int64], *, invert: bool = False) -> Kept:
    """What was kept of some keyframes, or of all others."""
    arrays, attributes = kept
    here = np.isin(arrays["ids"], ids, invert=invert)
    return {**arrays, "ids": arrays["ids"][here], "vectors": arrays["vectors"][here]}, attributes


def _vectors(dim: int) -> ViewIndex:
    try:
        return make_index("faiss", dim)
    except MissingExtraError:
        return make_index("flat", dim)


def _name(embedder: Embedder) -> str:
    kind = type(embedder)
    return f"{kind.__module__}.{kind.__qualname__}"


def _picture() -> Float[Tensor, "1 h w 3"]:
    """A picture with colours and edges of all directions, the same everywhere: whole numbers, no sines."""
    y, x = torch.meshgrid(torch.arange(96), torch.arange(128), indexing="ij")
    rings = (x - 64) ** 2 + (y - 48) ** 2
    return torch.stack([rings // 16 % 256, 2 * x, (x + y) * 9 % 256], -1)[None].float() / 255
