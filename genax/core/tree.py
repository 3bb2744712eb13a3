"""Trees by path: "params/encoder/Dense_0/kernel" names a leaf everywhere in genax."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from genax.core.errors import GenaxError

PyTree = Any


def flatten(tree: PyTree) -> dict[str, Any]:
    """Path to leaf, sorted by path."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    named = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
    return dict(sorted(named.items()))


def unflatten(leaves: Mapping[str, Any], like: PyTree) -> PyTree:
    """A tree of the structure of `like` from path to leaf."""
    paths, structure = jax.tree_util.tree_flatten_with_path(like)
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths]
    return jax.tree_util.tree_unflatten(structure, [leaves[name] for name in names])


def map_by_path(function, tree: PyTree) -> PyTree:
    """Apply function(path, leaf) to every leaf."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: function(jax.tree_util.keystr(path, simple=True, separator="/"), leaf),
        tree,
    )


def nest(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dicts from path to leaf."""
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *parents, name = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = leaf
    return tree


def part(tree: Mapping[str, Any], chosen: Callable[[str], bool], above: str = "") -> dict[str, Any]:
    """The part of nested dicts whose paths are chosen, without folders that hold none.

    above: path of the tree, with a slash at its end.
    """
    found = {}
    for name, node in tree.items():
        path = f"{above}{name}"
        if isinstance(node, Mapping):
            if below := part(node, chosen, f"{path}/"):
                found[name] = below
        elif chosen(path):
            found[name] = node
    return found


def joined(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Two nested dicts without a common leaf as one."""
    both = {name: joined(first[name], second[name]) for name in first if name in second}
    return {**first, **second, **both}


def matches(pattern: str, path: str) -> bool:
    """Whether the pattern names this path or a folder above it ("*": one component, "**": any)."""
    return expression(pattern).fullmatch(path) is not None


def expression(pattern: str) -> re.Pattern[str]:
    """The pattern's regular expression: a group for each wildcard, and one for what lies below."""
    parts = (
        "(.*)" if part == "**" else re.escape(part).replace(r"\*", "([^/]*)")
        for part in pattern.split("/")
    )
    return re.compile("/".join(parts) + "(/.*)?")


def select(tree: PyTree, patterns: Sequence[str], whose: str = "pattern") -> dict[str, Any]:
    """Path to leaf, for the leaves that a pattern names.

    whose: what the patterns are, for the message.
    Raises GenaxError for a pattern that names nothing.
    """
    leaves = flatten(tree)
    for pattern in patterns:
        if not any(matches(pattern, path) for path in leaves):
            tops = sorted({"/".join(path.split("/")[:2]) for path in leaves})
            raise GenaxError(f"{whose} {pattern!r} matches no parameter; there are {tops}.")
    return {path: leaf for path, leaf in leaves.items() if any(matches(p, path) for p in patterns)}


def digest(tree: PyTree) -> str:
    """SHA-256 over path, dtype, shape and bytes of every leaf, in path order."""
    sha = hashlib.sha256()
    for path, leaf in flatten(tree).items():
        array = np.ascontiguousarray(_on_host(leaf))
        sha.update(f"{path}|{array.dtype}|{array.shape}|".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()


def _on_host(leaf: Any) -> np.ndarray:
    """The whole array, also if other processes hold parts of it."""
    if getattr(leaf, "is_fully_addressable", True):
        return jax.device_get(leaf)
    return multihost_utils.process_allgather(leaf, tiled=True)
