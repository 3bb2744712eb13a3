"""Paths, patterns and digests."""

import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError, tree


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("generator", "generator", True),
        ("generator", "generator/Dense_0/kernel", True),
        ("generator", "generator_2/kernel", False),
        ("generator", "old/generator/kernel", False),
        ("*/kernel", "Dense_0/kernel", True),
        ("*/kernel", "net/Dense_0/kernel", False),
        ("Dense_*", "Dense_12/bias", True),
        ("**/attention", "model/layers/3/attention/kernel", True),
        ("**/kernel", "Dense_0/kernel", True),
        ("model/**/kernel", "model/a/b/kernel", True),
        ("model/**/kernel", "model/a/b/bias", False),
        ("a.b", "aXb", False),
    ],
)
def test_matches(pattern, path, expected):
    assert tree.matches(pattern, path) is expected


LEAVES = {"b": {"kernel": jnp.ones((2, 3)), "bias": jnp.zeros(3)}, "a": (jnp.ones(1), jnp.ones(2))}


def test_flatten_is_in_path_order_and_turns_back():
    flat = tree.flatten(LEAVES)
    assert list(flat) == ["a/0", "a/1", "b/bias", "b/kernel"]
    back = tree.unflatten(flat, LEAVES)
    assert isinstance(back["a"], tuple)
    assert back["b"]["kernel"].shape == (2, 3)
    assert tree.nest({"a/0": 1, "b/bias": 2}) == {"a": {"0": 1}, "b": {"bias": 2}}


def test_select():
    assert list(tree.select(LEAVES, ("b",))) == ["b/bias", "b/kernel"]
    assert list(tree.select(LEAVES, ("*/kernel", "a/1"))) == ["a/1", "b/kernel"]
    with pytest.raises(GenaxError, match=r"'c' matches no parameter; there are .*'b/kernel'"):
        tree.select(LEAVES, ("b", "c"))


def test_digest_sees_every_change():
    original = {"a": np.arange(4, dtype=np.float32), "b": np.zeros((2, 2), np.int32)}
    digests = [
        tree.digest(original),
        tree.digest({**original, "a": original["a"] + 1}),
        tree.digest({**original, "a": original["a"].reshape(2, 2)}),
        tree.digest({**original, "a": original["a"].view(np.int32)}),
        tree.digest({"c": original["a"], "b": original["b"]}),
        tree.digest({"a": original["a"]}),
    ]
    assert len(set(digests)) == len(digests)


def test_digest_is_of_content_alone():
    """Not of the containers, their order, or where the arrays lie."""
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert (
        tree.digest({"a": {"b": x}, "c": x})
        == tree.digest({"c": jnp.asarray(x), "a": {"b": jnp.asarray(x)}})
        == tree.digest({"a/b": x, "c": np.asfortranarray(x)})
    )


def test_parts_are_joined_to_the_whole():
    whole = {"a": {"x": 1, "y": {"z": (2, 3)}}, "b": {"x": 4}}
    chosen = lambda path: tree.matches("*/x", path)  # noqa: E731
    some, rest = tree.part(whole, chosen), tree.part(whole, lambda path: not chosen(path))
    assert some == {"a": {"x": 1}, "b": {"x": 4}}
    assert rest == {"a": {"y": {"z": (2, 3)}}}
    assert tree.joined(some, rest) == tree.joined(rest, some) == whole
