"""The Merkle tree of the audit log: RFC 6962, RFC 9162."""

from __future__ import annotations

import hashlib

import pytest

from flowpersist.sealed.merkle import (
    Frontier,
    consistency_spans,
    inclusion_root,
    inclusion_spans,
    is_consistent,
    leaf_hash,
    node_hash,
    whole_spans,
)

SIZES = range(34)
LEAVES = [bytes([number]) * (number % 5) for number in SIZES]
#: The leaves and roots that implementations of Certificate Transparency share; the last is that of all eight.
KNOWN_LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
KNOWN_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def tree(leaves):
    """The hash of a list of leaves, as section 2.1 of RFC 6962 defines it."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaf_hash(leaves[0])
    parted = 1 << (len(leaves) - 1).bit_length() - 1
    return node_hash(tree(leaves[:parted]), tree(leaves[parted:]))


ROOTS = [tree(LEAVES[:size]) for size in SIZES]


def grown(leaves):
    frontier = Frontier()
    for leaf in leaves:
        frontier.add(leaf_hash(leaf))
    return frontier.root()


def hashes(spans):
    """The hashes of ranges, each put together of whole subtrees as a store keeps them."""
    made = []
    for span in spans:
        frontier = Frontier()
        for first, end in whole_spans(span):
            frontier.add(tree(LEAVES[first:end]), (end - first).bit_length() - 1)
        assert frontier.root() == tree(LEAVES[span[0] : span[1]])
        made.append(frontier.root())
    return made


def test_roots_are_those_that_others_make():
    leaves = [bytes.fromhex(leaf) for leaf in KNOWN_LEAVES]
    assert [grown(leaves[:size]).hex() for size in range(9)] == KNOWN_ROOTS


def test_a_tree_that_grows_has_the_roots_of_the_definition():
    assert [grown(LEAVES[:size]) for size in SIZES] == ROOTS


@pytest.mark.parametrize("size", SIZES)
def test_each_leaf_has_a_proof_that_fits_it_alone(size):
    for index in range(size):
        proof = hashes(inclusion_spans(index, size))
        leaf = leaf_hash(LEAVES[index])
        assert inclusion_root(index, size, leaf, proof) == ROOTS[size]
        assert inclusion_root(index, size, leaf_hash(b"other"), proof) != ROOTS[size]
        for other in range(-1, size + 1):
            assert other == index or inclusion_root(other, size, leaf, proof) != ROOTS[size]
        for wrong in (proof[:-1], [*proof, bytes(32)], proof[::-1]):
            assert wrong == proof or inclusion_root(index, size, leaf, wrong) != ROOTS[size]


@pytest.mark.parametrize("size", SIZES)
def test_each_tree_is_proven_to_begin_with_each_smaller_one_and_with_no_other(size):
    for old in range(size + 1):
        proof = hashes(consistency_spans(old, size)) if old else []
        assert is_consistent(old, ROOTS[old], size, ROOTS[size], proof)
        assert not is_consistent(old, leaf_hash(b"other"), size, ROOTS[size], proof)
        assert old in {0, size} or not is_consistent(old, ROOTS[old], size, leaf_hash(b"other"), proof)
        assert not is_consistent(old, ROOTS[old], size, ROOTS[size], [*proof, bytes(32)])
        assert not proof or not is_consistent(old, ROOTS[old], size, ROOTS[size], proof[:-1])
        for place in range(len(proof)):
            altered = [*proof[:place], bytes(32), *proof[place + 1 :]]
            assert not is_consistent(old, ROOTS[old], size, ROOTS[size], altered)


def test_a_tree_does_not_begin_with_a_larger_one_or_a_false_empty_one():
    assert not is_consistent(3, ROOTS[3], 2, ROOTS[2], [])
    assert not is_consistent(-1, ROOTS[0], 2, ROOTS[2], [])
    assert not is_consistent(0, b"no root", 0, b"no root", [])
    assert not is_consistent(3, ROOTS[3], 3, ROOTS[4], [])
