"""The mapping network of StyleGAN, from latents to styles, and truncation of styles."""

from __future__ import annotations

import math
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from genax.gan.equalised import EqualisedDense
from genax.gan.pixel_norm import pixel_norm
from genax.nn.labels import check_label, one_hot


def leaky(x: Array, gain: float = 1.0) -> Array:
    """Leaky ReLU of slope 0.2, times sqrt(2) and a gain."""
    return nn.leaky_relu(x, 0.2) * (math.sqrt(2) * gain)


class MappingNetwork(nn.Module):
    """Mapping network from latents, labels or both to styles.

    Karras et al. 2019 (arXiv:1812.04948), figure 1b. Latents and embedded labels have a mean
    square of 1 before they are joined, as in the code of StyleGAN2-ADA.

    features: size of a style.
    num_layers: layers of `features` units.
    num_classes: labels; None is none.
    rate: factor of the learning rate of all layers but the embedding's.
    """

    features: int = 512
    num_layers: int = 8
    num_classes: int | None = None
    rate: float = 0.01
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, z: Float[Array, "b z"] | None, label: Int[Array, " b"] | None = None
    ) -> Float[Array, "b d"]:
        """Return styles, float32. A label that is no class gives NaN.

        z: None if labels alone are mapped.
        Raises GenaxError for a missing or superfluous label and, outside of jit, for no class.
        """
        check_label(self, label)
        parts = [] if z is None else [pixel_norm(z.astype(jnp.float32))]
        if label is not None:
            embed = EqualisedDense(self.features, name="labels")
            parts.append(pixel_norm(embed(one_hot(self, label))))
        x = jnp.concatenate(parts, axis=-1)
        dense = partial(EqualisedDense, self.features, rate=self.rate)
        for number in range(self.num_layers):
            x = leaky(dense(name=f"layer_{number}")(x))
        return x


def truncated(
    styles: Float[Array, "b layers d"],
    mean: Float[Array, " d"],
    truncation: float | Float[Array, "..."],
    layers: int | None = None,
) -> Float[Array, "b layers d"]:
    """Return styles nearer to the mean style: mean + truncation (style - mean).

    Karras et al. 2019, appendix B.

    truncation: 1 is no truncation, 0 the mean image; one number or one for each image.
    layers: how many of the first layers are truncated; None is all.
    """
    factor = jnp.broadcast_to(jnp.asarray(truncation, jnp.float32), (len(styles),))[:, None, None]
    if layers is not None:
        factor = jnp.where(jnp.arange(styles.shape[1])[:, None] < layers, factor, 1.0)
    return mean + factor * (styles - mean)
