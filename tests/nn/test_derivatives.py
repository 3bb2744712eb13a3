"""Functions with a reverse rule against the derivatives that JAX gives of the same functions."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import genax
from genax.hybrid.selective_scan import _scan
from genax.nn.attention import unstack
from genax.nn.causal_attention import causal_attention
from genax.nn.convolve import _convolve
from genax.nn.gelu import gelu_tanh
from genax.nn.layer_norm import layer_norm
from genax.nn.projection import project
from genax.nn.ring import _attend, _Ring
from genax.nn.rotary import _by_product
from genax.nn.transposed_convolution import transposed_convolution
from genax.transformer.cross_entropy import chunked_cross_entropy, cross_entropy
from tests.contracts.harness import quick_compilation

TARGETS = jnp.array([1, 4])
RING = _Ring(devices=1, turns=1, causal=True, window=None, split=None)
# Each function with the shapes of its arguments, and those of its arguments that are not arrays of
# floating point.
CASES = {
    "gelu_tanh": (gelu_tanh, [(2, 3)], ()),
    "layer_norm": (layer_norm, [(2, 3), (3,), (3,)], ()),
    "layer_norm without bias": (layer_norm, [(2, 3), (3,)], ()),
    "project": (project, [(2, 3, 4), (3, 4, 5)], (2,)),
    "convolve": (
        _convolve,
        [(2, 5, 5, 2), (3, 3, 2, 3)],
        ((2, 2), ((1, 1), (0, 1)), (1, 1), (1, 1)),
    ),
    "transposed_convolution": (transposed_convolution, [(2, 3, 3, 2), (4, 4, 2, 3)], ()),
    "causal_attention": (causal_attention, [(2, 4, 2, 3)] * 3, ()),
    "ring": (_attend, [(2, 4, 2, 3)] * 3, (None, RING)),
    "rotary": (lambda x, *by: _by_product(x, by), [(2, 4, 2, 6), (2, 4, 3), (2, 4, 3)], ()),
    "unstack": (unstack, [(2, 3, 3, 2, 4)], ()),
    "cross_entropy": (cross_entropy, [(2, 5)], (TARGETS,)),
    "selective_scan": (
        _scan,
        [(2, 1, 2, 3), (2, 1, 2, 3), (2, 3), (2, 1, 2, 2), (2, 1, 2, 2), (1, 2, 3)],
        ("xla",),
    ),
    "chunked_cross_entropy": (chunked_cross_entropy, [(2, 3), (5, 3)], (TARGETS, 2)),
}


def plain_rotary(x, *by):
    return _by_product.fun(x, by)


@pytest.fixture(params=CASES, ids=str)
def case(request):
    """A scalar function, the same without its rule, arguments and two directions."""
    function, shapes, others = CASES[request.param]
    plain = plain_rotary if request.param == "rotary" else function.fun
    keys = jax.random.split(jax.random.key(0), 3)
    args, *directions = (
        [
            jax.random.normal(k, shape)
            for k, shape in zip(jax.random.split(key, max(3, len(shapes))), shapes, strict=False)
        ]
        for key in keys
    )

    def scalar(function, *args):
        results = [x for x in jax.tree.leaves(function(*args, *others)) if x.dtype != bool]
        return sum(jnp.sin(x + i).sum() for i, x in enumerate(results))

    return partial(scalar, function), partial(scalar, plain), args, *directions


def derivatives(function, args, first, second):
    """Derivatives of order one and two, in every order of the modes."""
    numbers = tuple(range(len(args)))
    gradient = jax.grad(function, numbers)

    def slope(*args):
        return jax.jvp(function, args, tuple(first))[1]

    def length(*args):
        return sum(jnp.square(x).sum() for x in gradient(*args))

    return {
        "forward": slope(*args),
        "reverse": gradient(*args),
        "reverse of forward": jax.grad(slope, numbers)(*args),
        "forward of reverse": jax.jvp(gradient, tuple(args), tuple(second))[1],
        "forward of forward": jax.jvp(slope, tuple(args), tuple(second))[1],
        "reverse of reverse": jax.grad(length, numbers)(*args),
        "rematerialised": jax.grad(jax.checkpoint(function), numbers)(*args),
    }


@pytest.mark.long
def test_every_mode_gives_what_jax_derives(case):
    function, plain, *args = case
    with quick_compilation():
        ours, expected = (jax.jit(partial(derivatives, f))(*args) for f in (function, plain))
    for name, derived in expected.items():
        for mine, leaf in zip(jax.tree.leaves(ours[name]), jax.tree.leaves(derived), strict=True):
            scale = 1e-30 + np.abs(leaf).max()
            np.testing.assert_allclose(mine / scale, leaf / scale, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("name", ["gelu_tanh", "layer_norm", "project", "causal_attention"])
def test_many_at_a_time(name):
    """Derivatives of a vectorised function: one argument a row, the others shared."""
    function, shapes, others = CASES[name]
    x, *shared = (jax.random.normal(jax.random.key(i), s) for i, s in enumerate(shapes))
    rows = jnp.stack([x, 2 * x, x - 1])

    def total(function, rows, shared):
        each = jax.vmap(lambda x: jnp.sin(function(x, *shared, *others)))(rows)
        return each.sum()

    def both(function):
        value = partial(total, function)
        forward = jax.jvp(value, (rows, shared), (jnp.cos(rows), shared))
        return forward, jax.grad(value, (0, 1))(rows, shared)

    ours, expected = (jax.jit(both, static_argnums=0)(f) for f in (function, function.fun))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=2e-5), ours, expected)


def test_no_function_lacks_forward_mode():
    folder = Path(genax.__file__).parent
    lacking = [
        path.name
        for path in folder.rglob("*.py")
        if ".custom_vjp," in path.read_text() or "@jax.custom_vjp" in path.read_text()
    ]
    assert lacking == []
