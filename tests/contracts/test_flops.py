"""Counted FLOPs against counts by hand."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from genax.nn.convolve import convolve
from genax.nn.projection import project
from genax.nn.splash import splash_attention
from genax.running.flops import count_flops, kernel_flops, matmul_peak


def zeros(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def test_dense():
    layer, x = nn.Dense(7), zeros(3, 5)
    variables = jax.eval_shape(layer.init, jax.random.key(0), x)
    assert count_flops(layer.apply, variables, x) == 2 * 3 * 5 * 7


def test_gradient_of_dense():
    """Forward, and one product more for the gradient of each argument."""
    loss = lambda kernel, x: jnp.square(x @ kernel).sum()  # noqa: E731
    one = 2 * 3 * 5 * 7
    assert count_flops(jax.grad(loss), zeros(5, 7), zeros(3, 5)) == 2 * one
    assert count_flops(jax.grad(loss, (0, 1)), zeros(5, 7), zeros(3, 5)) == 3 * one


def test_forward_derivative_of_a_function_with_a_reverse_rule():
    """The product, and one more for the tangent of each argument that has one."""
    x, kernel, one = zeros(3, 5), zeros(5, 7), 2 * 3 * 5 * 7
    both = lambda x, kernel: jax.jvp(project, (x, kernel), (x, kernel))  # noqa: E731
    alone = lambda x, kernel: jax.jvp(lambda x: project(x, kernel), (x,), (x,))  # noqa: E731
    assert count_flops(both, x, kernel) == 3 * one
    assert count_flops(alone, x, kernel) == 2 * one


def test_batched_product():
    attend = lambda q, k: jnp.einsum("btnh,bsnh->bnts", q, k)  # noqa: E731
    assert count_flops(attend, zeros(2, 5, 3, 4), zeros(2, 6, 3, 4)) == 2 * (2 * 3) * 5 * 6 * 4


def test_convolution():
    layer, x = nn.Conv(7, (3, 3), strides=(2, 2)), zeros(2, 8, 8, 5)
    variables = jax.eval_shape(layer.init, jax.random.key(0), x)
    assert count_flops(layer.apply, variables, x) == 2 * (2 * 4 * 4 * 7) * (3 * 3 * 5)


def test_gradient_of_strided_convolution():
    """The gradient of the input spreads out; the zeros between are not worked."""

    def loss(kernel, x):
        return jnp.square(convolve(x, kernel, (2, 2), "SAME")).sum()

    one = 2 * (2 * 4 * 4 * 7) * (3 * 3 * 5)
    assert count_flops(jax.grad(loss, (0, 1)), zeros(3, 3, 5, 7), zeros(2, 8, 8, 5)) == 3 * one


def test_grouped_convolution():
    layer, x = nn.Conv(6, (3, 3), feature_group_count=3), zeros(2, 8, 8, 6)
    variables = jax.eval_shape(layer.init, jax.random.key(0), x)
    assert count_flops(layer.apply, variables, x) == 2 * (2 * 8 * 8 * 6) * (3 * 3 * 2)


def test_scan_counts_each_iteration():
    def function(kernels, x):
        return lax.scan(lambda x, kernel: (x @ kernel, None), x, kernels)[0]

    assert count_flops(function, zeros(4, 5, 5), zeros(3, 5)) == 4 * 2 * 3 * 5 * 5


def test_cond_counts_its_costliest_branch():
    def function(x):
        return lax.cond(x[0, 0] > 0, lambda x: x @ x @ x, lambda x: x @ x, x)

    assert count_flops(function, zeros(5, 5)) == 2 * 2 * 5**3


def test_nested_programs():
    inner = jax.jit(jax.checkpoint(lambda x: x @ x))
    assert (
        count_flops(lambda x: inner(x) + jax.vmap(lambda row: x @ row)(x), zeros(5, 5)) == 4 * 5**3
    )


def test_kernels_alone():
    """Two products forward; backward three of the queries' kernel, four of the keys'."""
    batch, length, heads, size = 2, 256, 3, 64

    def loss(x, kernel):
        x = x @ kernel
        return splash_attention(x, x, x, causal=True).sum()

    shapes = zeros(batch, length, heads, size), zeros(size, size)
    one = 2 * batch * heads * length**2 * size
    forward, both = (jax.make_jaxpr(f)(*shapes).jaxpr for f in (loss, jax.grad(loss)))
    assert kernel_flops(forward) == 2 * one
    assert kernel_flops(both) == (2 + 3 + 4) * one


def test_what_nothing_reads_is_free():
    """Also within a function whose results nothing reads."""
    inner = jax.jit(lambda x: x @ x)
    assert count_flops(lambda x: (x @ x, inner(x), x + 1)[2], zeros(4, 4)) == 0
    assert count_flops(lambda x: (x @ x, inner(x))[1], zeros(4, 4)) == 2 * 4**3


def test_elementwise_is_free():
    assert count_flops(lambda x: jnp.tanh(x).sum(), zeros(5, 5)) == 0


def test_peak_of_this_device():
    assert matmul_peak() > 1e8
