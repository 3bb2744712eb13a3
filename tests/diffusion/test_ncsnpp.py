"""NCSN++ and DDPM++: their sizes, their frequencies, and what they refuse.

They are compared with diffusers' UNet2DModel in tests/interop.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError
from genax.diffusion.ncsnpp import PRESETS, NCSNpp
from genax.nn.timestep_embedding import FourierFeatures

TINY = NCSNpp(8, (1, 2), 1, (4,), dropout=0.0)
X, TIMES = jnp.ones((2, 4, 4, 3)), jnp.array([-1.0, 2.0])


def shapes_of(network, x=X, **conditions):
    return jax.eval_shape(
        lambda: network.init(jax.random.key(0), x, jnp.zeros(len(x)), **conditions)
    )


@pytest.mark.parametrize(
    ("preset", "size", "expected", "frozen"),
    [
        ("ncsnpp", 32, 62_758_787, 128),
        pytest.param("ncsnpp-deep", 32, 107_586_947, 128, marks=pytest.mark.long),
        pytest.param("ddpmpp", 32, 61_804_419, 0, marks=pytest.mark.long),
        pytest.param("ddpmpp-deep", 32, 106_632_579, 0, marks=pytest.mark.long),
        pytest.param("ddpm", 32, 35_218_947, 0, marks=pytest.mark.long),
        pytest.param("ncsnpp-ffhq256", 256, 65_574_421, 128, marks=pytest.mark.long),
        pytest.param("ncsnpp-ffhq1024", 1024, 105_785_880, 16, marks=pytest.mark.long),
    ],
)
def test_published_parameter_counts(preset, size, expected, frozen):
    shapes = shapes_of(NCSNpp(**PRESETS[preset]), jnp.zeros((1, size, size, 3)))
    counts = [sum(x.size for x in jax.tree.leaves(shapes.pop("params", {})))]
    counts += [sum(x.size for x in jax.tree.leaves(shapes))]
    assert counts == [expected, frozen]


def random_variables(network, **conditions):
    rng = np.random.default_rng(1)
    return jax.tree.map(
        lambda s: jnp.asarray(rng.normal(size=s.shape, scale=0.3), s.dtype),
        shapes_of(network, **conditions),
    )


def test_frequencies_are_drawn_by_the_seed_and_not_trained():
    shapes = shapes_of(TINY)
    assert set(shapes) == {"params", "fourier"}
    assert "fourier" not in shapes["params"]["time_embedding"]
    features = FourierFeatures(8)
    seeds = (0, 0, 1)
    first, again, other = (features.init(jax.random.key(seed), TIMES) for seed in seeds)
    drawn = [np.asarray(found["fourier"]["frequencies"]) for found in (first, again, other)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.allclose(drawn[0], drawn[2])
    # Eight numbers of standard deviation 16.
    assert 4 < np.std(drawn[0]) < 40
    output, changed = features.apply(first, TIMES, mutable=["fourier"])
    np.testing.assert_array_equal(changed["fourier"]["frequencies"], drawn[0])
    angles = 2 * np.pi * np.asarray(TIMES)[:, None] * drawn[0]
    expected = np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)
    np.testing.assert_allclose(output, expected, atol=1e-3)


@pytest.mark.long
def test_output_depends_on_time_and_input():
    variables = random_variables(TINY)
    apply = jax.jit(lambda x, times: TINY.apply(variables, x, times))
    assert not np.allclose(apply(X, TIMES), apply(X, TIMES + 1), atol=1e-3)
    assert not np.allclose(apply(X, TIMES), apply(X.at[:, 0].add(1.0), TIMES), atol=1e-3)


@pytest.mark.long
@pytest.mark.parametrize("pyramid", ["skip", "residual"])
def test_the_input_reaches_smaller_resolutions_by_the_pyramid(pyramid):
    network = TINY.clone(input_pyramid=pyramid)
    variables = random_variables(network)
    # Without the pyramid's convolution the output is another.
    params = variables["params"]
    assert "down_0_pyramid" in params
    silenced = params | {"down_0_pyramid": jax.tree.map(jnp.zeros_like, params["down_0_pyramid"])}
    apply = jax.jit(lambda params: network.apply(variables | {"params": params}, X, TIMES))
    assert not np.allclose(apply(params), apply(silenced), atol=1e-3)


@pytest.mark.parametrize(
    ("network", "shape", "label", "message"),
    [
        (TINY, (2, 5, 4, 3), None, "multiples of 2"),
        (TINY.clone(num_classes=3), (2, 4, 4, 3), None, "without a label"),
        (TINY, (2, 4, 4, 3), jnp.zeros(2, int), "with a label"),
        (TINY.clone(input_pyramid="fir"), (2, 4, 4, 3), None, "none of none, skip, residual"),
    ],
)
def test_refusals(network, shape, label, message):
    given = {} if label is None else {"label": label}
    with pytest.raises(GenaxError, match=message):
        shapes_of(network, jnp.zeros(shape), **given)


def test_a_null_label_that_the_network_lacks_is_refused():
    assert TINY.clone(num_classes=3, null_class=True).null_label == 3
    with pytest.raises(GenaxError, match="has no label for no condition"):
        TINY.null_label  # noqa: B018
