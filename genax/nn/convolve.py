"""The 2-D convolution, with gradients that are convolutions in the same layout."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from genax.core.mesh import split_batch
from genax.nn.derivatives import set_reverse_rule

Pads = tuple[tuple[int, int], tuple[int, int]]
Pair = tuple[int, int]
DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def convolve(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "kh kw c f"],
    strides: Pair = (1, 1),
    padding: str | Sequence[Pair] = "SAME",
    dilation: Pair = (1, 1),
) -> Float[Array, "b H W f"]:
    """Cross-correlate images with a kernel.

    padding: "SAME", "VALID" or ((top, bottom), (left, right)), in pixels.
    dilation: distance of the kernel's neighbours in the image.

    On a mesh the result is split over the batch, see `split_batch`.

    The gradients are the numbers that JAX derives. JAX writes them with permuted dimension numbers.
    XLA's CPU compiler rearranges these only in a program's outermost computation: inside a scan or
    a cond it falls back to a loop, 70 times slower for the kernel's gradient. Here the arrays are
    permuted instead, which other compilers fold away. Gradients are convolutions of this kind
    again, so those of a penalty on gradients are too.
    """
    if isinstance(padding, str):
        spans = _spans(kernel, dilation)
        padding = lax.padtype_to_pads(x.shape[1:3], spans, strides, padding)
    (top, bottom), (left, right) = padding
    pads = ((top, bottom), (left, right))
    return split_batch(_convolve(x, kernel, tuple(strides), pads, (1, 1), tuple(dilation)))


def _spans(kernel: Array, dilation: Pair) -> Pair:
    """Return the rows and the columns of the image that a window covers."""
    height, width = (
        (taps - 1) * apart + 1 for taps, apart in zip(kernel.shape[:2], dilation, strict=True)
    )
    return height, width


@partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4, 5))
def _convolve(x: Array, kernel: Array, strides: Pair, padding: Pads, apart: Pair, dilation: Pair):
    """Convolve x, whose pixels lie `apart`, with a kernel whose taps lie `dilation` apart."""
    return lax.conv_general_dilated(
        x,
        kernel,
        strides,
        padding,
        lhs_dilation=apart,
        rhs_dilation=dilation,
        dimension_numbers=DIMENSIONS,
    )


def _forward(x, kernel, *how):
    return _convolve(x, kernel, *how), (x, kernel)


def _backward(strides: Pair, padding: Pads, apart: Pair, dilation: Pair, saved, gradient):
    x, kernel = saved
    of_x, of_kernel, of_flipped = [], [], []
    for size, gap, span, stride, (before, _), out in zip(
        x.shape[1:3],
        apart,
        _spans(kernel, dilation),
        strides,
        padding,
        gradient.shape[1:3],
        strict=True,
    ):
        wide, spread = (size - 1) * gap + 1, (out - 1) * stride + 1
        # What the last window does not reach of the padded input has no gradient.
        of_x.append((span - 1 - before, wide + before - spread))
        of_kernel.append((before, spread + span - 1 - wide - before))
        of_flipped.append((span - 1 - before, wide + before - out))
    flipped = jnp.swapaxes(kernel[::-1, ::-1], 2, 3)
    x_gradient = _convolve(gradient, flipped, apart, tuple(of_x), strides, dilation)
    image, window, how = x, gradient, (tuple(of_kernel), apart, strides)
    exchanged = strides == (1, 1) and math.prod(gradient.shape[1:3]) > math.prod(x.shape[1:3])
    if exchanged:
        # XLA would exchange an image with a larger window and read it backwards, for which it has
        # no fast code on a CPU: all convolutions of StyleGAN2's step took 20 times as long, and the
        # gradient of a penalty on slopes of a 4x4 convolution of stride 2 took 8 times as long.
        image, window, how = gradient, x, (tuple(of_flipped), strides, apart)
    found = _convolve(image.transpose(3, 1, 2, 0), window.transpose(1, 2, 0, 3), dilation, *how)
    if exchanged:
        return x_gradient, found[:, ::-1, ::-1].transpose(1, 2, 3, 0)
    return x_gradient, found.transpose(1, 2, 0, 3)


set_reverse_rule(_convolve, _forward, _backward)
