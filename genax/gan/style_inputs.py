"""What a generator with styles gets besides latents: noise, and second latents to mix styles."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from genax.core.nets import example_keys, per_example
from genax.core.task import Batch
from genax.gan.game import Draw, latents


def with_noise(
    nets: nn.Module, batch: Batch, truncation: float = 1.0, **more: Any
) -> dict[str, Any]:
    """Return a key of the layers' noise for each element, and a truncation: see `truncated`.

    more: further arguments of the generator, such as the layers that are truncated.
    """
    return {"noise": example_keys(nets, batch), "truncation": truncation, **more}


def mixed(
    nets: nn.Module,
    batch: Batch,
    probability: float = 0.9,
    draw: Draw = jax.random.normal,
    layers: int | None = None,
) -> dict[str, Any]:
    """Return keys of noise, second latents, and the layers from which on they give the styles.

    Style mixing (Karras et al. 2019, section 3.1). Each image draws a layer of its own, as in the
    code of the first StyleGAN. That of StyleGAN2-ADA draws one for a batch.

    probability: share of the images that have styles of two latents.
    draw: of latents.
    layers: in play; None is all.
    """
    noise = {"noise": example_keys(nets, batch)}
    if not probability:
        return noise
    layers = layers or nets.generator.num_styles
    crossover = per_example(_crossover, nets, batch, layers, probability)
    return noise | {"second": latents(nets, batch, draw), "crossover": crossover}


def noise_of(keys: Key[Array, " b"], layer: int, shape: tuple[int, ...]) -> Float[Array, "b ..."]:
    """Return the normal noise of a layer, one array for each key."""
    draw = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, layer), shape))
    return draw(keys)


def _crossover(key: Key[Array, ""], layers: int, probability: float) -> Int[Array, ""]:
    chosen, place = jax.random.split(key)
    mixes = jax.random.uniform(chosen) < probability
    return jnp.where(mixes, jax.random.randint(place, (), 1, layers), layers)
