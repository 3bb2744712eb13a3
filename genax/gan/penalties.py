"""Penalties on slopes and scores: each a function of a network or its scores and of a weight.

A network is a pure function that maps each input by itself. `genax.core.pure` makes one of a bound
network, and `Round.score` is the discriminator as one.
"""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from genax.core.nets import gather, per_example, read, write
from genax.core.task import Batch
from genax.gan.game import Augment, Round, Scores, for_each_image

Network = Callable[[Array], Array]
Weight = float | Float[Array, ""]
# Under a square root, whose slope at 0 is infinite.
EPSILON = 1e-12


def squared_slopes(network: Network, inputs: Float[Array, "b ..."]) -> Float[Array, " b"]:
    """Squared norm of the gradient of each input's summed outputs by that input.

    An output of several inputs, such as the score of a pack, has one gradient by all of them.
    """

    def total(x):
        outputs = network(x)
        return outputs.sum(), outputs

    slopes, outputs = jax.grad(total, has_aux=True)(inputs)
    squares = jnp.square(slopes.astype(jnp.float32)).reshape(len(outputs), -1).sum(-1)
    return for_each_image(squares, len(inputs))


def zero_centred(
    network: Network, inputs: Float[Array, "b ..."], weight: Weight
) -> Float[Array, " b"]:
    """weight / 2 |grad D(x)|^2: R1 on real images, R2 on fakes.

    Mescheder et al. 2018 (arXiv:1801.04406), eq. 9 and 10.
    """
    return 0.5 * weight * squared_slopes(network, inputs)


def unit_slope(
    network: Network, inputs: Float[Array, "b ..."], weight: Weight, target: float = 1.0
) -> Float[Array, " b"]:
    """weight (|grad D(x)| - target)^2.

    Gulrajani et al. 2017 (arXiv:1704.00028), eq. 3, with x between real images and fakes;
    ProGAN's target is 1 (750 in its variant for CIFAR-10).
    """
    return weight * jnp.square(jnp.sqrt(squared_slopes(network, inputs) + EPSILON) - target)


def between(
    nets: nn.Module, batch: Batch, real: Float[Array, "b ..."], fake: Float[Array, "b ..."]
) -> Float[Array, "b ..."]:
    """Points on the lines from fakes to real images, one uniform number for each pair."""
    share = per_example(jax.random.uniform, nets, batch, (1,) * (real.ndim - 1))
    return fake + share * (real - fake)


def path_lengths(
    synthesise: Network, styles: Float[Array, "b *layers d"], noise: Float[Array, "b h w c"]
) -> Float[Array, " b"]:
    """|J_w^T y|, the length of an image's change along its styles.

    Karras et al. 2020 (arXiv:1912.04958), eq. 4. As in the official code, noise is divided by
    sqrt(h w), and the squares are summed over a style and averaged over layers. The penalty
    compares lengths with their mean, so they are rows of the whole batch: the function belongs in
    `Phase.embed`, and `path_length_penalty` in the loss.
    """
    noise = noise / jnp.sqrt(noise.shape[1] * noise.shape[2])
    slopes = jax.grad(lambda w: (synthesise(w) * noise).sum())(styles)
    squares = jnp.square(slopes.astype(jnp.float32)).sum(-1).reshape(len(styles), -1)
    return jnp.sqrt(squares.mean(-1) + EPSILON)


def path_length_penalty(
    lengths: Float[Array, " b"], mean: Float[Array, ""], weight: Weight, decay: float = 0.01
) -> tuple[Float[Array, " b"], Float[Array, ""]]:
    """weight (length - mean)^2, and the moved mean.

    As in the official code, the mean is moved first and a gradient flows through its move.

    lengths: of the global batch.
    mean: running mean, 0 at the start.
    """
    moved = mean + decay * (lengths.mean() - mean)
    return weight * jnp.square(lengths - moved), moved


def r1(nets: nn.Module, batch: Batch, found: Round, weight: Weight = 1.0) -> Float[Array, " b"]:
    """`zero_centred` at batch["image"]."""
    return zero_centred(found.score, batch["image"], weight)


def r2(nets: nn.Module, batch: Batch, found: Round, weight: Weight = 1.0) -> Float[Array, " b"]:
    """`zero_centred` at the fakes."""
    return zero_centred(found.score, found.fakes, weight)


def gradient_penalty(
    nets: nn.Module, batch: Batch, found: Round, weight: Weight = 10.0, target: float = 1.0
) -> Float[Array, " b"]:
    """`unit_slope` between batch["image"] and the fakes: WGAN-GP."""
    points = between(nets, batch, batch["image"], found.fakes)
    return unit_slope(found.score, points, weight, target)


def drift(nets: nn.Module, batch: Batch, found: Round, weight: float = 1e-3) -> Scores:
    """weight D(x)^2 at batch["image"], which keeps a critic's scores near 0.

    Karras et al. 2018 (arXiv:1710.10196), appendix A.1.
    """
    return weight * jnp.square(found.real)


def dragan_penalty(
    nets: nn.Module, batch: Batch, found: Round, weight: Weight = 10.0, spread: float = 0.5
) -> Float[Array, " b"]:
    """`unit_slope` near batch["image"]: DRAGAN.

    Kodali et al. 2017 (arXiv:1705.07215), algorithm 1. The paper's noise is Gaussian. Here, as in
    the official code, a point lies on the line from an image x to x + spread std u. One uniform
    number is its place on the line, and u has one for each pixel. std is the deviation of all
    pixels of the global batch.
    """
    real = batch["image"]
    noise = per_example(jax.random.uniform, nets, batch, real.shape[1:])
    moved = real + spread * gather(real).std() * noise
    return unit_slope(found.score, between(nets, batch, moved, real), weight)


def consistency(
    nets: nn.Module, batch: Batch, found: Round, augment: Augment, weight: Weight = 10.0
) -> Scores:
    """weight (D(x) - D(T(x)))^2 at batch["image"]: what a discriminator says of a changed image.

    Zhang et al. 2020 (arXiv:1910.12027), eq. 3.

    augment: T, such as flips and shifts, apart from what augments the game.
    """
    real = batch["image"]
    changed = found.score(augment(nets, batch)(real))
    gap = jnp.square(found.score(real) - changed)
    return weight * for_each_image(gap, len(real))


def le_cam(
    nets: nn.Module,
    batch: Batch,
    found: Round,
    weight: Weight = 0.3,
    decay: float = 0.99,
    start: int = 1000,
) -> Scores:
    """weight (relu(D(x) - a)^2 + relu(b - D(G(z)))^2), with a and b the scores so far.

    Tseng et al. 2021 (arXiv:2104.03310), eq. 5, with the relu of the official code. a is the
    running mean of the scores of fakes, b that of real images. They are in the collection
    "running". Before step `start` they copy the last mean and nothing is penalised. The official
    code moves them before they are compared; here the penalty reads those of the step before, which
    are of the whole batch on every layout.
    """
    gaps = []
    waiting = batch["step"] < start
    for name, scores in (("fake_score", found.fake), ("real_score", found.real)):
        mean = read(nets, "running", name, lambda: jnp.zeros(()))
        kept = jnp.where(waiting, 0.0, decay)
        write(nets, "running", name, kept * mean + (1 - kept) * lax.stop_gradient(scores.mean()))
        gaps.append(found.real - mean if name == "fake_score" else mean - found.fake)
    above, below = (jnp.square(jax.nn.relu(gap)) for gap in gaps)
    return jnp.where(waiting, 0.0, weight) * (above + below)
