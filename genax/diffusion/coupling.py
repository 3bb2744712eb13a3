"""Couplings: which noise a training image is joined with."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float
from optax.assignment import hungarian_algorithm

from genax.core import batch_axis, gather

# (clean, noise) of a part of the batch -> the noise of each clean image.
Coupling = Callable[[Float[Array, "b ..."], Float[Array, "b ..."]], Float[Array, "b ..."]]


def independent(
    clean: Float[Array, "b ..."], noise: Float[Array, "b ..."]
) -> Float[Array, "b ..."]:
    """Return the noise as it was drawn for each image."""
    return noise


def optimal_transport(
    clean: Float[Array, "b ..."], noise: Float[Array, "b ..."]
) -> Float[Array, "b ..."]:
    """Return the noise of the global batch in the order that is nearest to the images.

    The sum over the batch of squared distances between image and noise is the least one (minibatch
    optimal transport, Tong et al. 2024, section 3.2, and Pooladian et al. 2023). Each noise is used
    once, while the paper's code draws pairs of the same plan with replacement. All devices solve
    the assignment of the global batch, whose memory and time grow with the square and the cube of
    its size: 12 ms for 128 images on a CPU.

    Raises GenaxError in a microbatch, in which the rest of the batch is not at hand.
    """
    images, noises = (gather(x.reshape(len(x), -1)) for x in (clean, noise))
    # |image|^2 and |noise|^2 are the same for every order.
    rows, columns = hungarian_algorithm(-jnp.matmul(images, noises.T, precision="highest"))
    order = jnp.zeros(len(images), int).at[rows].set(columns)
    axis = batch_axis()
    if axis is not None:
        order = lax.dynamic_slice_in_dim(order, lax.axis_index(axis) * len(clean), len(clean))
    return noises[order].reshape(noise.shape)
