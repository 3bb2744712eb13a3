"""The weight that makes two losses pull alike at a network's last layer (Esser et al. 2021, eq. 7).

Gradients at the layer are rows of `Phase.embed`, one for each example. So their means are those of
the global batch on every layout and in microbatches, and the weight is exact.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Images = Float[Array, "b h w c"]
Values = Float[Array, " b"]
Kernels = Float[Array, "b 3 3 c f"]

EPSILON, MOST = 1e-4, 1e4


def linearised(measure: Callable[[Images], Values], images: Images) -> tuple[Values, Images]:
    """Return measure(images) and the slope of its sum by the images.

    The gradient of what is returned first goes through `images` alone, by that slope, which is the
    exact one. So the layers of `measure` are worked backwards once, although both the weight and
    the loss need their gradient. No gradient reaches what `measure` closes over.
    """
    held = lax.stop_gradient(images)
    values, back = jax.vjp(measure, held)
    (slope,) = back(jnp.ones_like(values))
    return values + (slope * (images - held)).sum((1, 2, 3)), slope


def kernel_gradients(features: Float[Array, "b h w c"], slopes: Float[Array, "b h w f"]) -> Kernels:
    """Return each example's gradient by the kernel of a 3x3 convolution that makes images.

    features: the input of the convolution, which has zeros around it.
    slopes: gradients by its output.
    """
    _, height, width, _ = features.shape
    around = [(0, 0), (1, 1), (1, 1), (0, 0)]
    padded = jnp.pad(lax.stop_gradient(features).astype(jnp.float32), around)
    taps = [
        jnp.einsum("bhwc,bhwf->bcf", padded[:, row : row + height, column : column + width], slopes)
        for row in range(3)
        for column in range(3)
    ]
    return jnp.stack(taps, axis=1).reshape(len(features), 3, 3, *taps[0].shape[1:])


def adaptive_weight(first: Kernels, second: Kernels) -> Float[Array, ""]:
    """Return |E first| / (|E second| + 1e-4), at most 1e4, without a gradient.

    first, second: gradients of two losses by one kernel, a row for each example of the global
      batch.
    """
    norms = [jnp.sqrt(jnp.square(rows.mean(0)).sum()) for rows in (first, second)]
    return lax.stop_gradient(jnp.clip(norms[0] / (norms[1] + EPSILON), 0, MOST))
