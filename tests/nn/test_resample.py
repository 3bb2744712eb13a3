"""Changes of resolution against diffusers' and against their definition."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.nn.convolution import FirDownsample
from genax.nn.resample import (
    average_downsample,
    binomial_blur,
    fir_blur,
    fir_downsample,
    fir_upsample,
)
from tests.parity import require

X = np.random.default_rng(0).normal(size=(2, 6, 4, 3)).astype(np.float32)


def nchw(torch, x):
    return torch.tensor(np.array(x)).permute(0, 3, 1, 2)


def nhwc(x):
    return x.detach().permute(0, 2, 3, 1).numpy()


def filtered(x, gain):
    """Every window of four pixels along both axes, weighted by (1, 3, 3, 1), in float64."""
    taps = np.array([1, 3, 3, 1]) * gain / 8
    for axis in (1, 2):
        windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), 4, axis)
        x = windows @ taps
    return x


def test_the_filter_is_a_sum_over_windows():
    padded = np.pad(X, [(0, 0), (1, 1), (1, 1), (0, 0)])
    np.testing.assert_allclose(
        fir_downsample(jnp.asarray(X)), filtered(padded, 1)[:, ::2, ::2], atol=1e-6
    )
    spread = np.zeros((2, 12, 8, 3))
    spread[:, ::2, ::2] = X
    spread = np.pad(spread, [(0, 0), (2, 1), (2, 1), (0, 0)])
    np.testing.assert_allclose(fir_upsample(jnp.asarray(X)), filtered(spread, 2), atol=1e-6)
    padded = np.pad(X, [(0, 0), (2, 2), (2, 2), (0, 0)])
    np.testing.assert_allclose(fir_blur(jnp.asarray(X), 2), filtered(padded, 1), atol=1e-6)


def test_the_binomial_filter_is_a_convolution():
    [torch] = require("torch")
    taps = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
    kernel = taps.expand(3, 1, 3, 3)
    expected = torch.nn.functional.conv2d(nchw(torch, X), kernel, padding=1, groups=3)
    np.testing.assert_allclose(binomial_blur(jnp.asarray(X)), nhwc(expected), atol=1e-6)


def test_constant_images_stay_constant_away_from_the_border():
    ones = jnp.ones((1, 8, 8, 1))
    for resample in (average_downsample, binomial_blur, fir_downsample, fir_upsample):
        np.testing.assert_allclose(resample(ones)[:, 1:-1, 1:-1], 1, atol=1e-6)


def test_agrees_with_diffusers():
    torch, downsampling, upsampling = require(
        "torch", "diffusers.models.downsampling", "diffusers.models.upsampling"
    )
    theirs = nchw(torch, X)
    taps = (1, 3, 3, 1)
    ours = jnp.asarray(X)
    np.testing.assert_allclose(
        fir_downsample(ours), nhwc(downsampling.downsample_2d(theirs, taps)), atol=1e-6
    )
    np.testing.assert_allclose(
        fir_upsample(ours), nhwc(upsampling.upsample_2d(theirs, taps)), atol=1e-6
    )
    layer = downsampling.FirDownsample2D(3, 5, use_conv=True)
    weight = jnp.asarray(layer.Conv2d_0.weight.detach().permute(2, 3, 1, 0).numpy())
    conv = {"kernel": weight, "bias": jnp.asarray(layer.Conv2d_0.bias.detach().numpy())}
    found = FirDownsample(5).apply({"params": {"conv": conv}}, ours)
    np.testing.assert_allclose(found, nhwc(layer(theirs)), atol=1e-6)


@pytest.mark.parametrize(
    "resample", [average_downsample, binomial_blur, fir_downsample, fir_upsample]
)
def test_resampling_is_linear_and_its_gradient_is_the_transpose(resample):
    x = jnp.asarray(X)
    y, back = jax.vjp(resample, x)
    other = jnp.asarray(np.random.default_rng(1).normal(size=y.shape), jnp.float32)
    np.testing.assert_allclose(jnp.vdot(other, resample(x)), jnp.vdot(back(other)[0], x), rtol=1e-4)
