"""Losses of latent diffusion's autoencoders: of pixels, of features, and of an opponent.

Rombach et al. 2022 (arXiv:2112.10752), appendix G, as in the class `LPIPSWithDiscriminator` of the
public code, after VQGAN (Esser et al. 2021, arXiv:2012.09841). The opponent scores patches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from genax.core.nets import per_example, pure
from genax.core.task import Batch, Loss
from genax.gan.game import HINGE, Game
from genax.hybrid.adaptive_weight import adaptive_weight, kernel_gradients, linearised
from genax.vae.distributions import Gaussian

Images = Float[Array, "b h w c"]
Values = Float[Array, " b"]


class Networks(nn.Module):
    """An autoencoder, and what judges its images.

    autoencoder: has `encode` and `decode`, such as `KLAutoencoder`.
    perceptual: (images, images) -> distances [b], a network that is given; None is none.
    discriminator: images -> scores of patches, the autoencoder's opponent; None is none.
    log_variance: () -> the logarithm of the variance of what is compared; None is 0.
    """

    autoencoder: nn.Module
    perceptual: nn.Module | None = None
    discriminator: nn.Module | None = None
    log_variance: nn.Module | None = None


class LogVariance(nn.Module):
    """One number for all pixels, 0 at first.

    The public code has it as a parameter, but gives it to no optimizer.
    """

    @nn.compact
    def __call__(self, train: bool = False) -> Float[Array, ""]:
        """Return the number."""
        return self.param("value", nn.initializers.zeros, ())


def reconstruct(nets: nn.Module, batch: Batch) -> Images:
    """Return the images of the posteriors' means."""
    return nets.autoencoder.decode(posterior(nets, batch).mean)


def reconstruct_beside(nets: nn.Module, batch: Batch) -> Float[Array, "b h w2 c"]:
    """Return images, and to their right what the autoencoder makes of them."""
    return jnp.concatenate([batch["image"], reconstruct(nets, batch)], axis=2)


def posterior(nets: nn.Module, batch: Batch) -> Gaussian:
    """Return q(z|x) of batch["image"]."""
    return nets.autoencoder.encode(batch["image"])


def divergence(nets: nn.Module, batch: Batch) -> Loss:
    """KL(q(z|x) || N(0, I)) of each image in nats, as a score."""
    return Loss(_summed(posterior(nets, batch).kl_to_standard()))


def perceptual_distance(nets: nn.Module, batch: Batch) -> Loss:
    """Perceptual distance of each image from its reconstruction, as a score: lower is better."""
    return Loss(nets.perceptual(reconstruct(nets, batch), batch["image"]))


def reconstruction_loss(
    nets: nn.Module, batch: Batch, kl_weight: float = 1e-6, perceptual_weight: float = 1.0
) -> Loss:
    """Loss of the autoencoder without an opponent.

    error / exp(s) + n s + kl_weight KL(q(z|x) || N(0, I)), in which the error of an image of n
    numbers is sum |x - y| + n perceptual_weight d(x, y), y is decoded from a draw of q(z|x), d is
    the perceptual distance, and s the logarithm of a variance. Metrics: "error" for each number,
    and "kl".

    batch["image"]: [b, h, w, c] in [-1, 1].
    """
    found, images, _ = _drawn(nets, batch)
    error = _error_of(nets, batch, perceptual_weight)(images)
    return _likelihood(nets, batch, error, _summed(found.kl_to_standard()), kl_weight)


def autoencoder_rows(
    nets: nn.Module, batch: Batch, game: Game = HINGE, perceptual_weight: float = 1.0
) -> dict[str, Array]:
    """Return the rows of `adversarial_loss`, one of each image: for `Phase.embed`.

    "error" and "kl" as in `reconstruction_loss`, "game", what the autoencoder minimises of its
    opponent's scores, and the gradients of error and game by the decoder's last kernel. The
    opponent normalises by the batch of reconstructions; its running statistics do not move here.
    """
    found, images, features = _drawn(nets, batch)
    score = pure(nets.discriminator, images, train=True)

    def play(images: Images) -> Values:
        scores = score(images, train=True)
        return game.generator(scores, scores).mean(tuple(range(1, scores.ndim)))

    error, error_slope = linearised(_error_of(nets, batch, perceptual_weight), images)
    played, played_slope = linearised(play, images)
    return {
        "error": error,
        "kl": _summed(found.kl_to_standard()),
        "game": played,
        "error_gradient": kernel_gradients(features, error_slope),
        "game_gradient": kernel_gradients(features, played_slope),
    }


def adversarial_loss(
    nets: nn.Module,
    batch: Batch,
    rows: dict[str, Array],
    kl_weight: float = 1e-6,
    adversarial_weight: float = 0.5,
) -> Loss:
    """Loss of the autoencoder against its opponent.

    The loss of `reconstruction_loss`, and adversarial_weight w times the game, in which w is the
    adaptive weight: the norm of the gradient of the first, without the divergence, by the decoder's
    last kernel, over that of the game's. Metrics: "game" and "weight" besides.

    rows: of the global batch, see `autoencoder_rows`.
    """
    loss = _likelihood(nets, batch, rows["error"], rows["kl"], kl_weight)
    precision = jnp.exp(-_log_variance(nets))
    weight = adaptive_weight(precision * rows["error_gradient"], rows["game_gradient"])
    values = loss.values + adversarial_weight * weight * rows["game"]
    return Loss(values, aux={**loss.aux, "game": rows["game"], "weight": weight})


def discriminator_loss(nets: nn.Module, batch: Batch, game: Game = HINGE) -> Loss:
    """Loss of the opponent: half the game's, of images and of their reconstructions.

    Both pass it in two batches, so that BatchNorm gives each its own statistics. The reconstruction
    is drawn anew by the autoencoder as it is now. Metrics: mean scores of both.
    """
    images = lax.stop_gradient(_drawn(nets, batch)[1])
    real = nets.discriminator(batch["image"], train=True)
    fake = nets.discriminator(images, train=True)
    return Loss(0.5 * game.discriminator(real, fake), aux={"real_score": real, "fake_score": fake})


def _drawn(nets: nn.Module, batch: Batch) -> tuple[Gaussian, Images, Any]:
    """Return posteriors, images of draws from them, and the features of their last layer."""
    found = nets.autoencoder.encode(batch["image"], train=True)
    noise = per_example(jax.random.normal, nets, batch, found.mean.shape[1:])
    decoded = nets.autoencoder.decode(found.transform(noise), train=True, with_features=True)
    return found, *decoded


def _error_of(
    nets: nn.Module, batch: Batch, perceptual_weight: float
) -> Callable[[Images], Values]:
    """Return the function from reconstructions to their errors, in sums over an image's numbers."""
    real = batch["image"]
    distance = None
    if nets.perceptual is not None and perceptual_weight:
        distance = pure(nets.perceptual, real, real)

    def error(images: Images) -> Values:
        total = _summed(jnp.abs(images - real))
        if distance is None:
            return total
        return total + perceptual_weight * real[0].size * distance(images, real)

    return error


def _likelihood(nets: nn.Module, batch: Batch, error: Values, kl: Values, kl_weight: float) -> Loss:
    numbers, log_variance = batch["image"][0].size, _log_variance(nets)
    values = error * jnp.exp(-log_variance) + numbers * log_variance + kl_weight * kl
    return Loss(values, aux={"error": error / numbers, "kl": kl})


def _log_variance(nets: nn.Module) -> Float[Array, ""]:
    return jnp.zeros(()) if nets.log_variance is None else nets.log_variance()


def _summed(x: Float[Array, "b ..."]) -> Values:
    return x.sum(tuple(range(1, x.ndim)))
