"""Layers with an equalised learning rate against PyTorch's own layers with scaled weights."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.gan.equalised import (
    HE,
    EqualisedConv,
    EqualisedDense,
    EqualisedDownsample,
    EqualisedUpsample,
)
from genax.gan.pixel_norm import pixel_norm
from tests.parity import require

RNG = np.random.default_rng(0)


def made(module, x):
    """The module's parameters, its biases no longer zero, and what it makes of x."""
    params = module.init(jax.random.key(0), x)["params"]
    params = {name: leaf + (name == "bias") * 0.3 for name, leaf in params.items()}
    return params, module.apply({"params": params}, x)


@pytest.mark.parametrize("rate", [1.0, 0.01])
def test_a_dense_layer(rate):
    [torch] = require("torch")
    x = jnp.asarray(RNG.normal(size=(5, 7)), jnp.float32)
    module = EqualisedDense(3, gain=HE, rate=rate)
    params, found = made(module, x)
    weight = torch.tensor(np.array(params["kernel"]).T) * HE * rate / 7**0.5
    bias = torch.tensor(np.array(params["bias"])) * rate
    expected = torch.nn.functional.linear(torch.tensor(np.array(x)), weight, bias)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("strides", "padding"), [((1, 1), 1), ((2, 2), 0)])
def test_a_convolution(strides, padding):
    [torch] = require("torch")
    x = jnp.asarray(RNG.normal(size=(2, 8, 8, 4)), jnp.float32)
    module = EqualisedConv(6, strides=strides, padding=((padding, padding),) * 2, gain=0.5)
    params, found = made(module, x)
    weight = torch.tensor(np.array(params["kernel"]).transpose(3, 2, 0, 1)) * 0.5 / 36**0.5
    expected = torch.nn.functional.conv2d(
        torch.tensor(np.array(x).transpose(0, 3, 1, 2)),
        weight,
        torch.tensor(np.array(params["bias"])),
        strides,
        padding,
    )
    expected = expected.numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("module", [EqualisedUpsample(6, gain=HE), EqualisedDownsample(6, gain=HE)])
def test_a_change_of_resolution_is_one_of_the_image_and_a_convolution(module):
    """The official code's layers: nearest upsampling before, means of 2x2 pixels after."""
    [torch] = require("torch")
    F = torch.nn.functional
    x = jnp.asarray(RNG.normal(size=(2, 8, 4, 5)), jnp.float32)
    params, found = made(module, x)
    weight = torch.tensor(np.array(params["kernel"]).transpose(3, 2, 0, 1)) * HE / 45**0.5
    images = torch.tensor(np.array(x).transpose(0, 3, 1, 2))
    if isinstance(module, EqualisedUpsample):
        expected = F.conv2d(F.interpolate(images, scale_factor=2), weight, padding=1)
    else:
        expected = F.avg_pool2d(F.conv2d(images, weight, padding=1), 2)
    expected = expected.numpy().transpose(0, 2, 3, 1) + params["bias"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rate", [1.0, 0.01])
def test_weights_begin_alike_whatever_the_layer_and_its_rate(rate):
    """The layer's outputs have the variance of He; parameters that of N(0, 1 / rate^2)."""
    x = jnp.asarray(RNG.normal(size=(64, 400)), jnp.float32)
    module = EqualisedDense(500, gain=HE, rate=rate)
    params = module.init(jax.random.key(1), x)["params"]
    np.testing.assert_allclose(params["kernel"].std() * rate, 1.0, rtol=0.01)
    np.testing.assert_allclose(module.apply({"params": params}, x).std(), HE, rtol=0.05)


def test_a_layer_without_bias_and_one_that_begins_at_one():
    x = jnp.zeros((1, 2))
    variables = EqualisedDense(3, use_bias=False).init(jax.random.key(0), x)
    assert set(variables["params"]) == {"kernel"}
    found, _ = EqualisedDense(3, bias_init=nn.initializers.ones).init_with_output(
        jax.random.key(0), x
    )
    np.testing.assert_array_equal(found, np.ones((1, 3)))


def test_pixel_norm():
    x = jnp.asarray(RNG.normal(size=(2, 3, 3, 5)), jnp.float32)
    expected = x / np.sqrt(np.square(np.array(x)).mean(-1, keepdims=True) + 1e-8)
    np.testing.assert_allclose(pixel_norm(x), expected, rtol=1e-6)
    np.testing.assert_array_equal(pixel_norm(jnp.zeros((1, 4))), np.zeros((1, 4)))
