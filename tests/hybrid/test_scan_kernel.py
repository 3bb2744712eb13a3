"""The Pallas kernel of the selective scan, interpreted, gives XLA's numbers."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from genax.ahead.programs import topology
from genax.core import GenaxError
from genax.core.mesh import make_mesh
from genax.hybrid import scan_kernel
from genax.hybrid.selective_scan import selective_scan
from tests.parity import require


def draw(d, sequences=2, length=5, n=4):
    """x, time_step, A, B, C and the state before the first token."""
    rng = np.random.default_rng(0)
    shared = (sequences, length, n)
    arrays = (
        rng.standard_normal((sequences, length, d)),
        rng.uniform(0.0, 1.0, (sequences, length, d)),
        -rng.uniform(0.5, 2.0, (d, n)),
        rng.standard_normal(shared),
        rng.standard_normal(shared),
        rng.standard_normal((sequences, n, d)),
    )
    return tuple(map(jnp.float32, arrays))


def total(kernel, *args):
    y, state = selective_scan(*args, chunk=3, kernel=kernel)
    return jnp.sin(y).sum() + jnp.square(state).sum(), (y, state)


def run(kernel, args):
    """Value and gradients, and the slope along the arguments themselves by forward mode."""
    gradients, found = jax.grad(partial(total, kernel), range(6), has_aux=True)(*args)
    slope = jax.jvp(lambda *args: total(kernel, *args)[0], args, args)[1]
    return gradients, found, slope


def check(found, expected):
    for ours, theirs in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5 * np.abs(theirs).max())


@pytest.mark.long
@pytest.mark.parametrize("place", ["tpu", "gpu"])
def test_values_and_derivatives_are_those_of_xla(place, monkeypatch):
    """Channels are in three blocks, and chunks do not divide the length."""
    args: Any = draw(384)
    expected = jax.jit(partial(run, "xla"))(args)
    interpreted = partial(scan_kernel.pl.pallas_call)

    def call(*how, interpret, **options):
        return interpreted(*how, interpret=True, **options)

    monkeypatch.setattr(scan_kernel.pl, "pallas_call", call)
    monkeypatch.setattr(scan_kernel, "platform", lambda: place)
    check(jax.jit(partial(run, "pallas"))(args), expected)


@pytest.mark.long
def test_each_device_works_on_its_part():
    mesh = make_mesh("data=2,tensor=2", jax.devices()[:4])
    args: Any = draw(8, sequences=4)
    gradient = jax.grad(partial(total, "xla"), range(6), has_aux=True)
    expected = jax.jit(gradient)(*args)
    spec = PartitionSpec("data", None, "tensor")
    placed = (jax.device_put(args[0], NamedSharding(mesh, spec)), *args[1:])

    @jax.jit
    def split(*args):
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return jax.grad(partial(total, "pallas"), range(6), has_aux=True)(*args)

    check(jax.device_get(split(*placed)), expected)


def shapes(place=lambda spec: None):
    """Return those of a sequence whose length no chunk divides."""
    sizes = {"x": (4, 1000, 512), "A": (512, 16), "B": (4, 1000, 16)}
    specs = {"x": PartitionSpec("data", None, "tensor"), "A": PartitionSpec("tensor")}
    specs["B"] = PartitionSpec("data")
    return [
        jax.ShapeDtypeStruct(sizes[name], jnp.float32, sharding=place(specs[name]))
        for name in ("x", "x", "A", "B", "B")
    ]


def gradients(*args):
    return jax.grad(
        lambda *args: jnp.square(selective_scan(*args, kernel="pallas")[0]).sum(), range(5)
    )(*args)


@pytest.mark.long
def test_the_compiler_of_tpus_takes_it():
    require("libtpu", extra="tpu")
    mesh = make_mesh("data=2,tensor=2", topology("v5e:2x2"))
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        compiled = jax.jit(gradients).lower(*shapes(partial(NamedSharding, mesh))).compile()
    assert compiled.as_text().count("tpu_custom_call") == 2


@pytest.mark.long
def test_triton_takes_it(monkeypatch):
    """A program for NVIDIA's GPUs is made as far as it can be without one."""
    monkeypatch.setattr(scan_kernel, "platform", lambda: "gpu")
    program = jax.jit(gradients).trace(*shapes()).lower(lowering_platforms=("cuda",))
    assert program.as_text().count("xla.gpu.triton") == 2


def test_an_unknown_kernel_is_refused():
    with pytest.raises(GenaxError, match="scan='triton' is unknown; choose one of xla, pallas"):
        selective_scan(*draw(2), kernel="triton")
