"""Settings: overridden by text, compared, refused."""

import re
from pathlib import Path

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from genax.core import GenaxError
from genax.settings import base_config, from_config
from genax.settings.flat import flat
from genax.settings.overrides import difference, override


def config():
    return base_config(
        rate=0.5, widths=(8, 16), name="adam", flag=False, net={"depth": 2}, limit=None
    )


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("steps", "7", 7),
        ("rate", "1e-3", 1e-3),
        ("rate", "2", 2.0),
        ("flag", "true", True),
        ("flag", "False", False),
        ("name", "12", "12"),
        ("widths", "(4,)", (4,)),
        ("widths", "[4, 5]", (4, 5)),
        ("widths", "4", (4,)),
        ("net.depth", "3", 3),
        ("parallel.mesh", "data=2,fsdp=2", "data=2,fsdp=2"),
        ("limit", "5", 5),
        ("limit", "text", "text"),
    ],
)
def test_a_setting_keeps_its_type(key, text, value):
    found = flat(override(config(), {key: text}))
    assert found[key] == value
    assert type(found[key]) is type(value)
    assert {k: v for k, v in found.items() if k != key} == {
        k: v for k, v in flat(config()).items() if k != key
    }


@pytest.mark.parametrize(
    ("key", "given", "value"),
    [
        ("steps", 7, 7),
        ("steps", np.int64(7), 7),
        ("rate", 2, 2.0),
        ("rate", np.float64(0.25), 0.25),
        ("flag", True, True),
        ("name", Path("a/b"), "a/b"),
        ("widths", [4, 5], (4, 5)),
        ("widths", 4, (4,)),
        ("net", {"depth": 3}, 3),
        ("limit", 5, 5),
    ],
)
def test_a_value_of_python_keeps_the_type_too(key, given, value):
    found = flat(override(config(), {key: given}))
    key = "net.depth" if key == "net" else key
    assert found[key] == value
    assert type(found[key]) is type(value)


@pytest.mark.parametrize(
    ("key", "given", "said"),
    [
        ("steps", 1.5, "config.steps=1.5: expected int"),
        ("steps", True, "config.steps=True: expected int"),
        ("name", 3, "config.name=3: expected str"),
        ("rate", float("inf"), "expected a finite number"),
        ("widths", (4, "wide"), "expected tuple"),
        ("net", 3, "no setting config.net; the closest is config.net.depth"),
        ("net", {"dept": 3}, "no setting config.net.dept; the closest is config.net.depth"),
    ],
)
def test_a_value_of_python_that_is_refused(key, given, said):
    with pytest.raises(GenaxError, match=re.escape(said)):
        override(config(), {key: given})


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("steps", "1.0"),
        ("steps", "true"),
        ("rate", "fast"),
        ("rate", "true"),
        ("flag", "1"),
        ("flag", "yes"),
        ("widths", "wide"),
        ("net.depth", "(2,)"),
    ],
)
def test_a_value_of_another_type_is_refused(key, text):
    with pytest.raises(GenaxError, match=re.escape(f"config.{key}={text}: expected")):
        override(config(), {key: text})


@pytest.mark.parametrize(
    ("typo", "closest"),
    [
        ("stepz", "steps"),
        ("net.dept", "net.depth"),
        ("mesh", "parallel.mesh"),
        ("net", "net.depth"),
    ],
)
def test_an_unknown_setting_names_the_closest(typo, closest):
    with pytest.raises(
        GenaxError, match=f"no setting config.{typo}; the closest is config.{closest}"
    ):
        override(config(), {typo: "1"})


def test_overriding_leaves_the_original_and_stays_locked():
    original = config()
    changed = override(original, {"steps": "1"})
    assert original.steps == 1000
    with pytest.raises((KeyError, AttributeError)):
        changed.stepz = 3


def test_flat_names_every_leaf():
    nested = {"a": 1, "b": {"c": {"d": 2}}, "e": ConfigDict({"f": (1, 2)})}
    assert flat(nested) == {"a": 1, "b.c.d": 2, "e.f": (1, 2)}


def test_difference():
    old = {"a": 1, "data": {"b": 2}, "database": 1, "t": [1, 2], "gone": 0}
    new = {"a": 1, "data": {"b": 3}, "database": 2, "t": (1, 2), "come": 0}
    assert difference(old, new) == [
        "come: (none) -> 0",
        "data.b: 2 -> 3",
        "database: 1 -> 2",
        "gone: 0 -> (none)",
    ]
    assert difference(old, new, ["data"]) == ["data.b: 2 -> 3"]
    assert difference(old, old) == []


class Network(nn.Module):
    depth: int
    width: int = 3
    use_bias: bool = True
    dtype: type = jnp.float32


def test_a_network_takes_the_settings_that_its_fields_are_named_after():
    settings = base_config(depth=2, width=8, name="adam", parent="none", dtype="bfloat16")
    network = from_config(Network, settings, use_bias=False, width=4)
    assert network == Network(depth=2, width=4, use_bias=False, dtype=jnp.dtype("bfloat16"))
    assert network.name is None


def test_a_function_takes_the_settings_that_its_parameters_are_named_after():
    def double(steps, rest=1):
        return 2 * steps + rest

    assert from_config(double, base_config(steps=5)) == 11
    assert from_config(double, base_config(steps=5), steps=1, rest=0) == 2
