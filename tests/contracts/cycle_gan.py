"""CycleGAN's shape (Zhu et al. 2017): four networks, and pools of earlier fakes in the state."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax

from genax.core import Loss, Phase, Stage, Task, example_keys, read, write
from tests.contracts.layers import MLP

IMAGE = (4, 4, 1)
ELEMENT = {name: jax.ShapeDtypeStruct(IMAGE, jnp.float32) for name in ("image_a", "image_b")}
# Each element of a batch has slots of its own in the pool, so that no two of a batch write one.
BATCH, SLOTS = 16, 2


class Networks(nn.Module):
    a_to_b: nn.Module
    b_to_a: nn.Module
    discriminator_a: nn.Module
    discriminator_b: nn.Module


def exchange(nets, batch, name, fakes):
    """For each fake itself or an earlier one, whose slot it takes (Shrivastava et al. 2017)."""
    images = read(nets, "pool", f"{name}_images", lambda: jnp.zeros((BATCH * SLOTS, *IMAGE)))
    filled = read(nets, "pool", f"{name}_filled", lambda: jnp.zeros(BATCH * SLOTS, jnp.int32))
    draws = jax.vmap(lambda key: jax.random.randint(key, (2,), 0, jnp.array([SLOTS, 2])))
    choice, coin = draws(example_keys(nets, batch)).T
    slots = batch["index"] * SLOTS + choice
    empty = filled[slots] == 0
    stored = empty | (coin == 1)
    expanded = stored[:, None, None, None]
    old = images[slots]
    write(nets, "pool", f"{name}_images", images.at[slots].set(jnp.where(expanded, fakes, old)))
    write(nets, "pool", f"{name}_filled", filled.at[slots].set(1))
    return jnp.where(expanded & ~empty[:, None, None, None], old, fakes)


def least_squares(logits, target):
    return jnp.square(logits[:, 0] - target)


def generators_loss(nets, batch):
    """Adversarial terms and cycle consistency, eq. 3."""
    a, b = batch["image_a"], batch["image_b"]
    fake_a, fake_b = nets.b_to_a(b), nets.a_to_b(a)
    cycle = jnp.abs(nets.b_to_a(fake_b) - a) + jnp.abs(nets.a_to_b(fake_a) - b)
    values = least_squares(nets.discriminator_a(fake_a), 1.0)
    values += least_squares(nets.discriminator_b(fake_b), 1.0)
    return Loss(values + 10.0 * cycle.mean((1, 2, 3)), aux={"cycle": cycle})


def discriminator_a_loss(nets, batch):
    fakes = exchange(nets, batch, "a", lax.stop_gradient(nets.b_to_a(batch["image_b"])))
    real = least_squares(nets.discriminator_a(batch["image_a"]), 1.0)
    return Loss(0.5 * (real + least_squares(nets.discriminator_a(fakes), 0.0)))


def discriminator_b_loss(nets, batch):
    fakes = exchange(nets, batch, "b", lax.stop_gradient(nets.a_to_b(batch["image_a"])))
    real = least_squares(nets.discriminator_b(batch["image_b"]), 1.0)
    return Loss(0.5 * (real + least_squares(nets.discriminator_b(fakes), 0.0)))


def make(dtype: Any = jnp.float32) -> Task:
    networks = Networks(
        a_to_b=MLP(IMAGE, dtype=dtype),
        b_to_a=MLP(IMAGE, dtype=dtype),
        discriminator_a=MLP((1,), dtype=dtype),
        discriminator_b=MLP((1,), dtype=dtype),
    )
    adam = optax.adam(2e-4, b1=0.5)
    phases = [
        Phase("generators", generators_loss, ("a_to_b", "b_to_a"), adam),
        Phase("discriminator_a", discriminator_a_loss, ("discriminator_a",), adam),
        Phase("discriminator_b", discriminator_b_loss, ("discriminator_b",), adam),
    ]
    return Task(networks, [Stage(phases)], summed=("pool",))
