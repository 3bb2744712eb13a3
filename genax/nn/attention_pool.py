"""Pooling of a feature map by attention."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genax.core.errors import GenaxError


class AttentionPool(nn.Module):
    """The mean pixel attends to all pixels and itself, as in CLIP's ResNets and ADM's classifier.

    Radford et al. 2021, section 2.4. Positions are learned, so the size of the feature map is fixed
    when the parameters are made.
    """

    features: int
    num_heads: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], train: bool = False
    ) -> Float[Array, "b features"]:
        """Return the pooled features.

        Raises GenaxError if heads do not divide the channels.
        """
        b, h, w, c = x.shape
        if c % self.num_heads:
            raise GenaxError(
                f"AttentionPool: {c} channels do not divide into {self.num_heads} heads; choose "
                "their number among the divisors of the channels."
            )
        pixels = x.reshape(b, h * w, c)
        pixels = jnp.concatenate([pixels.mean(1, keepdims=True), pixels], axis=1)
        init = nn.initializers.normal(c**-0.5)
        position = self.param("position_embedding", init, (h * w + 1, c))
        pixels = pixels + position.astype(pixels.dtype)

        def project(y, name):
            heads = nn.Dense(c, dtype=self.dtype, name=name)(y)
            return heads.reshape(b, -1, self.num_heads, c // self.num_heads)

        query = project(pixels[:, :1], "query")
        key, value = project(pixels, "key"), project(pixels, "value")
        y = jax.nn.dot_product_attention(query, key, value).reshape(b, c)
        return nn.Dense(self.features, dtype=self.dtype, name="out")(y)
