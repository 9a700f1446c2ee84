"""Postings in chains of blocks: for each voxel the slots that saw it and how much, appended in constant time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from spmem.arrays import ArraySchema, require
from spmem.kernels.hashing import find
from spmem.kernels.jit import njit

POOL = ("slot", "weight", "filled", "next")

BLOCK = 8
"""Postings that lie together; a chain runs from the newest block to the oldest."""

SCHEMA = {
    "key": ArraySchema("uint64", "voxels", least=1),
    "head": ArraySchema("int32", "voxels", least=0, below="blocks"),
    "slot": ArraySchema("int32", f"blocks {BLOCK}", least=0, below="slots"),
    "weight": ArraySchema("uint8", f"blocks {BLOCK}"),
    "filled": ArraySchema("uint8", "blocks", most=BLOCK),
    "next": ArraySchema("int32", "blocks", least=-1, below="blocks"),
}
"""What the arrays that are kept must be before kernels follow them; ``next`` leads to earlier blocks alone."""

U8: TypeAlias = NDArray[np.uint8]
I32: TypeAlias = NDArray[np.int32]
I64: TypeAlias = NDArray[np.int64]
U64: TypeAlias = NDArray[np.uint64]


class PostingChains(NamedTuple):
    """An open-addressed table of voxels, and a pool of blocks; both with room to grow.

    key ``[c]`` uint64 and head ``[c]`` int32, the newest block of a voxel's chain, -1 = free; c is a power of two.
    slot ``[b, 8]`` int32 and weight ``[b, 8]`` uint8 > 0 of the postings; filled ``[b]`` uint8, how many; next ``[b]``
    int32, an earlier block, -1 = none. used ``[2]`` int64: the voxels and the blocks in use.
    """

    key: U64
    head: I32
    slot: I32
    weight: U8
    filled: U8
    next: I32
    used: I64

    @property
    def nbytes(self) -> int:
        """Bytes in use, without the room to grow."""
        voxels, blocks = map(int, self.used)
        return 12 * voxels + (5 * BLOCK + 5) * blocks


def lists(voxels: int = 0, blocks: int = 0) -> PostingChains:
    """Empty chains with room for so many voxels and blocks."""
    places = max(1 << 10, 1 << int(2 * voxels).bit_length())
    room = max(256, blocks)
    return PostingChains(
        np.zeros(places, np.uint64),
        np.full(places, -1, np.int32),
        np.zeros((room, BLOCK), np.int32),
        np.zeros((room, BLOCK), np.uint8),
        np.zeros(room, np.uint8),
        np.full(room, -1, np.int32),
        np.zeros(2, np.int64),
    )


def with_room(old: PostingChains, postings: int) -> PostingChains:
    """The same chains, grown where so many new postings might not find room."""
    voxels, blocks = old.used.tolist()
    if 2 * (voxels + postings) > len(old.key):
        wider = lists(voxels + postings)
        _rehash(old.key, old.head, wider.key, wider.head)
        old = old._replace(key=wider.key, head=wider.head)
    if blocks + postings > len(old.slot):
        longer = lists(0, max(2 * len(old.slot), blocks + postings))
        for name in POOL:
            getattr(longer, name)[:blocks] = getattr(old, name)[:blocks]
        old = longer._replace(key=old.key, head=old.head, used=old.used)
    return old


def post(to: PostingChains, key: U64, slot: I32, weight: U8) -> None:
    """Append postings ``[m]``; the chains must have room."""
    _post(key, slot, weight, to.key, to.head, to.slot, to.weight, to.filled, to.next, to.used)


def vote(of: PostingChains, key: U64, weight: I32, votes: I32, budget: int) -> I32:
    """Add ``weight`` times the postings' own to the votes ``[slots]`` of each, voxel by voxel, until the budget is spent.

    Returns the slots that were voted for, each once; votes must be zero before.
    """
    return _vote(
        key, weight, of.key, of.head, of.slot, of.weight, of.filled, of.next, votes, budget
    )


def arrays_of(of: PostingChains) -> dict[str, NDArray[Any]]:
    """What is in use, for a cache."""
    taken, blocks = of.head >= 0, int(of.used[1])
    pool = {name: getattr(of, name)[:blocks] for name in POOL}
    return {"key": of.key[taken], "head": of.head[taken], **pool}


def lists_of(arrays: Mapping[str, NDArray[Any]], slots: int) -> PostingChains:
    """Inverse of :func:`arrays_of`.

    Raises:
        ValueError: Arrays that no chains over so many slots give; following them could leave the pool, or never end.
    """
    blocks = require(arrays, SCHEMA, slots=max(slots, 1))["blocks"]
    earlier = bool((arrays["next"] < np.arange(blocks)).all())
    filled = np.arange(BLOCK) < arrays["filled"][:, None]
    if not earlier or not bool((arrays["weight"][filled] > 0).all()):
        raise ValueError("the cached index does not fit together")
    voxels = len(arrays["key"])
    new = lists(voxels, blocks)
    _rehash(arrays["key"], arrays["head"], new.key, new.head)
    for name in POOL:
        getattr(new, name)[:blocks] = arrays[name]
    new.used[:] = voxels, blocks
    return new


def without(old: PostingChains, renamed: I32) -> PostingChains:
    """The chains of the postings whose slot is renamed to one >= 0, in the order in which they were appended."""
    new = lists(*old.used.tolist())
    _copy(renamed, old.key, old.head, old.slot, old.weight, old.filled, old.next, new.key, new.head, new.slot, new.weight, new.filled, new.next, new.used)  # fmt: skip
    return new


@njit()
def _find(key: np.uint64, keys: U64) -> np.int64:
    """Where a voxel is in the table, or would be; its key is a hash already."""
    return find(keys, key, np.int64(key >> np.uint64(7)), 1)


@njit()
def _rehash(keys: U64, head: I32, new_keys: U64, new_head: I32) -> None:
    for i in range(len(keys)):
        if head[i] >= 0:
            at = _find(keys[i], new_keys)
            new_keys[at], new_head[at] = keys[i], head[i]


@njit()
def _append(
    key: np.uint64, one: np.int32, share: np.uint8, keys: U64, head: I32, slot: I32, weight: U8,
    count: U8, next_: I32, used: I64,
) -> None:  # fmt: skip
    at = _find(key, keys)
    block = head[at]
    if block < 0:
        keys[at] = key
        used[0] += 1
    if block < 0 or count[block] == BLOCK:
        new = used[1]
        used[1] += 1
        next_[new], count[new], head[at] = block, 0, new
        block = new
    slot[block, count[block]], weight[block, count[block]] = one, share
    count[block] += 1


@njit()
def _post(
    key: U64, slots: I32, shares: U8, keys: U64, head: I32, slot: I32, weight: U8, count: U8,
    next_: I32, used: I64,
) -> None:  # fmt: skip
    for i in range(len(key)):
        _append(key[i], slots[i], shares[i], keys, head, slot, weight, count, next_, used)


@njit()
def _vote(
    key: U64, amount: I32, keys: U64, head: I32, slot: I32, weight: U8, count: U8, next_: I32,
    votes: I32, budget: int,
) -> I32:  # fmt: skip
    touched = np.empty(min(len(votes), budget + BLOCK), np.int32)
    found, read = 0, 0
    for i in range(len(key)):
        block = head[_find(key[i], keys)]
        while block >= 0 and read < budget:
            for n in range(count[block]):
                one = slot[block, n]
                if votes[one] == 0 and found < len(touched):
                    touched[found] = one
                    found += 1
                votes[one] += amount[i] * np.int32(weight[block, n])
            read += count[block]
            block = next_[block]
    return touched[:found]


@njit()
def _copy(
    renamed: I32, old_keys: U64, old_head: I32, old_slot: I32, old_weight: U8, old_count: U8,
    old_next: I32, keys: U64, head: I32, slot: I32, weight: U8, count: U8, next_: I32, used: I64,
) -> None:  # fmt: skip
    way = np.empty(len(old_next), np.int32)
    for at in range(len(old_keys)):
        length, block = 0, old_head[at]
        while block >= 0:
            way[length] = block
            length += 1
            block = old_next[block]
        for step in range(length - 1, -1, -1):
            block = way[step]
            for n in range(old_count[block]):
                one = renamed[old_slot[block, n]]
                if one >= 0:
                    _append(old_keys[at], one, old_weight[block, n], keys, head, slot, weight, count, next_, used)  # fmt: skip
