"""The Merkle tree of RFC 6962 (section 2.1) with SHA-256: roots, and proofs as RFC 9162 verifies them (2.1.3, 2.1.4).

A tree of ``size`` leaves has one shape. What is stored of it are hashes of whole subtrees, of 2^height leaves each;
``spans`` says which of them make the hash of any range.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeAlias

from attrs import define, field

__all__ = [
    "HASH_BYTES",
    "Frontier",
    "Span",
    "consistency_spans",
    "inclusion_root",
    "inclusion_spans",
    "is_consistent",
    "leaf_hash",
    "node_hash",
    "whole_spans",
]

HASH_BYTES: Final = 32
#: Leaves from the first one, inclusive, to the second one, exclusive.
Span: TypeAlias = tuple[int, int]


def leaf_hash(data: bytes) -> bytes:
    """The hash of a leaf."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of a node above two others."""
    return hashlib.sha256(b"\x01" + left + right).digest()


@define
class Frontier:
    """The right edge of a tree that grows: the hashes of the whole subtrees that it consists of, the largest first."""

    size: int = 0
    _parts: list[tuple[int, bytes]] = field(factory=list)

    def add(self, subtree: bytes, height: int = 0) -> None:
        """Append the hash of a whole subtree of 2^height leaves, no higher than the last one that is there."""
        self.size += 1 << height
        while self._parts and self._parts[-1][0] == height:
            _, left = self._parts.pop()
            subtree, height = node_hash(left, subtree), height + 1
        self._parts.append((height, subtree))

    def root(self) -> bytes:
        """The root of the tree so far; that of no leaves is the hash of nothing."""
        if not self._parts:
            return hashlib.sha256(b"").digest()
        *left, (_, root) = self._parts
        for _, subtree in reversed(left):
            root = node_hash(subtree, root)
        return root


def whole_spans(span: Span) -> Iterator[Span]:
    """The whole subtrees, each 2^n leaves at a multiple of 2^n, that a range consists of, from left to right.

    For a range that stands in a proof, they never get higher from left to right.
    """
    first, end = span
    while first < end:
        most = (end - first).bit_length() - 1
        height = min(most, (first & -first).bit_length() - 1) if first else most
        yield first, first + (1 << height)
        first += 1 << height


def _split(first: int, end: int) -> int:
    """Where the tree over a range of two or more leaves parts: behind the largest power of two below its size."""
    return first + (1 << (end - first - 1).bit_length() - 1)


def inclusion_spans(index: int, size: int) -> list[Span]:
    """The ranges whose hashes are the proof that the leaf ``index`` stands in a tree of ``size``, in its order."""
    spans: list[Span] = []
    first, end = 0, size
    while end - first > 1:
        middle = _split(first, end)
        spans.append((middle, end) if index < middle else (first, middle))
        first, end = (first, middle) if index < middle else (middle, end)
    return spans[::-1]


def consistency_spans(old: int, size: int) -> list[Span]:
    """The ranges whose hashes are the proof that a tree of ``size`` begins with the one of ``old`` leaves, not 0."""
    spans: list[Span] = []
    first, end, whole = 0, size, True
    while old < end:
        middle = _split(first, end)
        if old <= middle:
            spans.append((middle, end))
            end = middle
        else:
            spans.append((first, middle))
            first, whole = middle, False
    if not whole:
        spans.append((first, end))
    return spans[::-1]


def inclusion_root(index: int, size: int, leaf: bytes, proof: Sequence[bytes]) -> bytes | None:
    """The root of a tree of ``size`` in which the leaf of that hash stands at ``index``; None: the proof is none."""
    if not 0 <= index < size:
        return None
    node, last, root = index, size - 1, leaf
    for one in proof:
        if last == 0:
            return None
        if node & 1 or node == last:
            root = node_hash(one, root)
            node, last = _climbed(node, last)
        else:
            root = node_hash(root, one)
        node, last = node >> 1, last >> 1
    return root if last == 0 else None


def is_consistent(old: int, old_root: bytes, size: int, root: bytes, proof: Iterable[bytes]) -> bool:
    """Whether the tree of ``size`` with that root begins with the tree of ``old`` leaves with the other."""
    path = list(proof)
    if not 0 < old < size:
        # Every tree begins with the empty one, whose root is known.
        empty = old or hmac.compare_digest(old_root, Frontier().root())
        same = old < size or hmac.compare_digest(old_root, root)
        return 0 <= old <= size and not path and bool(empty) and same
    if old & (old - 1) == 0:
        path.insert(0, old_root)
    roots = _roots(old, size, path)
    return roots is not None and hmac.compare_digest(roots[0], old_root) and hmac.compare_digest(roots[1], root)


def _roots(old: int, size: int, path: Sequence[bytes]) -> tuple[bytes, bytes] | None:
    """The roots of both trees that a proof of consistency makes (RFC 9162, 2.1.4.2); None where it is none."""
    if not path:
        return None
    node, last = old - 1, size - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    before = after = path[0]
    for one in path[1:]:
        if last == 0:
            return None
        if node & 1 or node == last:
            before, after = node_hash(one, before), node_hash(one, after)
            node, last = _climbed(node, last)
        else:
            after = node_hash(after, one)
        node, last = node >> 1, last >> 1
    return (before, after) if last == 0 else None


def _climbed(node: int, last: int) -> tuple[int, int]:
    """Up to the height at which the node is a right child, or the leftmost one."""
    while not node & 1 and node:
        node, last = node >> 1, last >> 1
    return node, last
