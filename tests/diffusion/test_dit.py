"""The Diffusion Transformer: sizes, initial weights, conditions, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError, tree
from genax.diffusion.dit import (
    CONDITIONINGS,
    DIT_PRESETS,
    PARTITION_RULES,
    DiT,
    square_positions,
)
from genax.nn.patches import patchify, unpatchify
from genax.nn.stack import with_layers_of

TINY = DiT(8, 2, 16, 2, 2, num_classes=3, null_class=True)
RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(2, 8, 8, 3)), jnp.float32)
CONDITIONED = pytest.mark.parametrize(
    "conditioning",
    [CONDITIONINGS[0], *(pytest.param(name, marks=pytest.mark.long) for name in CONDITIONINGS[1:])],
)
TIMES, LABEL = jnp.array([3, 900]), jnp.array([3, 0])


def shapes_of(dit: DiT, x=X, **conditions):
    make = lambda: dit.init(jax.random.key(0), x, jnp.zeros(len(x)), **conditions)  # noqa: E731
    return jax.eval_shape(make)


def random_variables(dit: DiT, **conditions):
    """Variables without compiling an initialisation, none of them zero."""
    rng = np.random.default_rng(1)

    def draw(shape):
        return jnp.asarray(rng.normal(size=shape.shape, scale=0.2), shape.dtype)

    return jax.tree.map(draw, shapes_of(dit, **conditions))


@pytest.mark.parametrize("name", DIT_PRESETS)
def test_published_parameter_counts(name):
    preset = DIT_PRESETS[name]
    sizes = (preset.patch_size, preset.hidden_size, preset.num_layers, preset.num_heads)
    dit = DiT(32, *sizes, out_channels=8, num_classes=1000, null_class=True, scan_layers=True)
    variables = shapes_of(dit, jnp.zeros((1, 32, 32, 4)), label=jnp.zeros(1, int))
    assert set(variables) == {"params"}
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == preset.params


def test_positions_have_the_column_first():
    """The formula has sines and cosines of the column, then those of the row."""
    found = square_positions(3, 16)
    rates = [1.0, 0.1, 0.01, 0.001]
    for row in range(3):
        for column in range(3):
            angles = np.array([[place * rate for rate in rates] for place in (column, row)])
            expected = np.concatenate([f(a) for a in angles for f in (np.sin, np.cos)])
            np.testing.assert_allclose(found[3 * row + column], expected, atol=1e-6)
    with pytest.raises(GenaxError, match="multiple of 4, not 18"):
        square_positions(3, 18)


def test_patches_are_put_together_in_the_order_rows_columns_channels():
    images = jnp.arange(2.0 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    rows = patchify(images, 2)
    np.testing.assert_array_equal(rows[0, 1], images[0, :2, 2:4].reshape(-1))
    np.testing.assert_array_equal(unpatchify(rows, 2, 4, 6), images)


@CONDITIONED
def test_starts_at_zero_with_the_published_initial_weights(conditioning):
    dit = replace(TINY, conditioning=conditioning, hidden_size=64, parent=None)
    output, variables = jax.jit(dit.init_with_output)(jax.random.key(0), X, TIMES, label=LABEL)
    np.testing.assert_array_equal(output, jnp.zeros_like(X))
    for path, leaf in tree.flatten(variables["params"]).items():
        zero = "modulation" in path or path.startswith("final_layer/output")
        if zero or path.endswith("bias"):
            assert not leaf.any(), path
        elif path.startswith(("time_embedding", "labels")):
            assert np.std(leaf) == pytest.approx(0.02, rel=0.2), path
        elif path.endswith("kernel"):
            # Uniform: Xavier's of the kernel as a matrix.
            rows = leaf.shape[0] if "attention/output" not in path else 64
            bound = np.sqrt(6 / (rows + leaf.size / rows))
            assert 0.9 * bound < np.abs(leaf).max() <= bound, path
        else:
            np.testing.assert_array_equal(leaf, 1.0)


@CONDITIONED
def test_time_and_label_matter_at_each_place(conditioning):
    dit = replace(TINY, conditioning=conditioning, parent=None)
    variables = random_variables(dit, label=LABEL)
    apply = jax.jit(lambda times, label: dit.apply(variables, X, times, label=label))
    here = apply(TIMES, LABEL)
    assert here.shape == X.shape
    for other in (apply(TIMES + 1, LABEL), apply(TIMES, LABEL - 1)):
        assert (np.abs(other - here).max(-1) > 1e-6)[0].all()
    assert np.isnan(apply(TIMES, jnp.array([4, 0]))[0]).all()


@pytest.mark.long
@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_scanned_and_rematerialised_layers_are_the_same(conditioning):
    dit = replace(TINY, conditioning=conditioning, parent=None)
    variables = random_variables(dit, label=LABEL)
    scanned = replace(dit, scan_layers=True, remat="full", parent=None)
    wanted = tree.flatten(shapes_of(scanned, label=LABEL))
    stacked = tree.nest(with_layers_of(wanted, tree.flatten(variables)))

    def gradient(dit, variables):
        def loss(params):
            output = dit.apply({"params": params}, X, TIMES, label=LABEL)
            return jnp.square(output - X).mean(), output

        return jax.jit(jax.grad(loss, has_aux=True))(variables["params"])

    expected, output = gradient(dit, variables)
    found, other = gradient(scanned, stacked)
    np.testing.assert_allclose(other, output, atol=1e-5)
    paths = tree.flatten(found)
    flat = with_layers_of(paths, tree.flatten(expected))
    for path, leaf in paths.items():
        scale = np.abs(flat[path]).max()
        np.testing.assert_allclose(leaf, flat[path], rtol=1e-4, atol=1e-5 * scale, err_msg=path)


@pytest.mark.long
def test_an_interval_is_added_and_has_a_tangent():
    dit = replace(TINY, two_times=True, num_classes=None, parent=None)
    times, interval = jnp.array([0.2, 0.9]), jnp.array([0.1, 0.5])
    variables = random_variables(dit, interval=interval)
    apply = lambda times, given: dit.apply(variables, X, times, interval=given)  # noqa: E731
    once = jax.jit(apply)
    assert not np.allclose(once(times, interval), once(times, interval + 0.1), atol=1e-6)
    ones = jnp.ones_like(times)
    _, tangent = jax.jit(lambda: jax.jvp(apply, (times, interval), (ones, 0 * ones)))()
    step = 1e-2
    slope = (once(times + step, interval) - once(times - step, interval)) / (2 * step)
    np.testing.assert_allclose(tangent, slope, atol=1e-2 * np.abs(slope).max())


def test_dtype_is_of_the_computation_only():
    half = replace(TINY, dtype=jnp.bfloat16, parent=None)
    variables = shapes_of(half, label=LABEL)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    apply = lambda variables: half.apply(variables, X, TIMES, label=LABEL)  # noqa: E731
    assert jax.eval_shape(apply, variables).dtype == jnp.float32
    factors = [
        factor.aval.dtype
        for equation in jax.make_jaxpr(apply)(variables).eqns
        if equation.primitive.name == "dot_general"
        for factor in equation.invars
    ]
    assert set(factors) == {jnp.dtype("bfloat16")}


@pytest.mark.parametrize("scan", [False, True])
def test_every_rule_places_a_parameter(scan):
    """adaLN is a third of the parameters, and split like the others."""
    cross = replace(TINY, conditioning="cross_attention", scan_layers=scan, parent=None)
    networks = (replace(TINY, scan_layers=scan, parent=None), cross)
    leaves: dict = {}
    for dit in networks:
        leaves |= tree.flatten(shapes_of(dit, label=LABEL)["params"])
    split = {
        path
        for path, leaf in leaves.items()
        for pattern, axes in PARTITION_RULES
        if tree.matches(pattern, f"denoiser/{path}") and len(axes) == len(leaf.shape)
    }
    blocks = {path for path in leaves if path.startswith("blocks") and path.endswith("kernel")}
    assert blocks <= split
    assert "final_layer/modulation/kernel" in split


@pytest.mark.parametrize(
    ("changes", "shape", "conditions", "message"),
    [
        ({}, (2, 8, 6, 3), {"label": LABEL}, r"positions are for \[b, 8, 8, c\]"),
        ({"patch_size": 3}, (2, 8, 8, 3), {"label": LABEL}, "patches of 3 do not divide"),
        ({}, (2, 8, 8, 3), {}, "was called without a label"),
        ({"num_classes": None}, (2, 8, 8, 3), {"label": LABEL}, "was called with a label"),
        ({"two_times": True}, (2, 8, 8, 3), {"label": LABEL}, "was called without an interval"),
        ({}, (2, 8, 8, 3), {"label": LABEL, "interval": TIMES}, "was called with an interval"),
        (
            {"conditioning": "film"},
            (2, 8, 8, 3),
            {"label": LABEL},
            "conditioning='film' is unknown",
        ),
        ({"num_heads": 3}, (2, 8, 8, 3), {"label": LABEL}, "heads"),
        ({"hidden_size": 18}, (2, 8, 8, 3), {"label": LABEL}, "multiple of 4, not 18"),
        ({"num_layers": 0}, (2, 8, 8, 3), {"label": LABEL}, "at least one layer"),
    ],
)
def test_refusals(changes, shape, conditions, message):
    dit = replace(TINY, **changes, parent=None)
    with pytest.raises(GenaxError, match=message):
        jax.eval_shape(
            lambda: dit.init(jax.random.key(0), jnp.zeros(shape), jnp.zeros(2), **conditions)
        )


def test_labels_without_a_row_and_networks_without_a_null_label():
    assert TINY.null_label == 3
    with pytest.raises(GenaxError, match=r"null_class=True\) got label 4: labels are 0 to 3"):
        TINY.init(jax.random.key(0), X, TIMES, label=jnp.array([4, 0]))
    with pytest.raises(GenaxError, match=r"DiT\(num_classes=3, null_class=False\) has no label"):
        _ = replace(TINY, null_class=False, parent=None).null_label
