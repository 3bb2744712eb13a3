"""The three minimisers of VAE-GAN (Larsen et al. 2016, arXiv:1512.09300, algorithm 1).

The encoder minimises the divergence and the error of a reconstruction, the decoder the error and
what it loses against the discriminator, the discriminator that game alone. The error is measured in
the discriminator's features. Each phase draws latents of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.nn import softplus
from jaxtyping import Array, Float

from genax.core.nets import per_example, read, write
from genax.core.task import Batch, Loss
from genax.gan.game import MINIMAX, Game
from genax.hybrid.equilibrium import gate
from genax.vae.distributions import Gaussian

Images = Float[Array, "b h w c"]
Values = Float[Array, " b"]

# What the discriminator is shown as fakes: decoded draws of the prior, of posteriors, or both.
FAKES = {
    "prior": ("prior",),
    "reconstruction": ("reconstruction",),
    "both": ("reconstruction", "prior"),
}
BOTH = FAKES["both"]
COLLECTION = "equilibrium"


def encoder_loss(nets: nn.Module, batch: Batch) -> Loss:
    """Loss of the encoder: KL(q(z|x) || N(0, I)) + |f(x) - f(y)|^2 / 2.

    y is the decoded draw of q(z|x), and f are the discriminator's features, which are normal with
    unit variance around those of y (eq. 8). The constant of that density is left out. Metrics:
    "kl" and "error", in nats.

    batch["image"]: [b, h, w, c] in [-1, 1].
    """
    posterior, images = reconstructed(nets, batch)
    kl = _summed(posterior.kl_to_standard())
    error = feature_error(nets, batch["image"], images)
    return Loss(kl + error, aux={"kl": kl, "error": error})


def decoder_loss(
    nets: nn.Module,
    batch: Batch,
    weight: float,
    game: Game = MINIMAX,
    fakes: Sequence[str] = BOTH,
    gated: bool = False,
) -> Loss:
    """Loss of the decoder: weight error + (1 - weight) times what it minimises of the game.

    The game's part is the sum over the kinds of fakes, as in the official code, in which `weight`
    is 1e-6 for faces. Metrics: "error" and "game".

    game: its objective of the generator; the paper's is MINIMAX.
    fakes: kinds of them, see `FAKES`.
    gated: whether the loss is 0 if the discriminator's phase, before it, has the decoder wait.
    """
    _, images = reconstructed(nets, batch)
    error = feature_error(nets, batch["image"], images)
    shown = {"reconstruction": images} if "reconstruction" in fakes else {}
    if "prior" in fakes:
        shown["prior"] = sampled(nets, batch, train=True)
    scores = judged(nets, batch["image"], *shown.values())[1:]
    played = sum(game.generator(one, one) for one in scores)
    values = weight * error + (1 - weight) * played
    if gated:
        values = values * read(nets, COLLECTION, "decoder", lambda: jnp.ones(()))
    return Loss(values, aux={"error": error, "game": played})


def discriminator_rows(
    nets: nn.Module, batch: Batch, fakes: Sequence[str] = BOTH
) -> dict[str, Values]:
    """Return the losses of the discriminator, one of each image: for `Phase.embed`.

    "real" is -log D(x), and "fake" the mean of -log(1 - D) over the kinds of fakes, so that real
    images weigh as much as all fakes.
    """
    shown = []
    if "reconstruction" in fakes:
        shown.append(reconstructed(nets, batch)[1])
    if "prior" in fakes:
        shown.append(sampled(nets, batch, train=True))
    real, *others = judged(nets, batch["image"], *map(lax.stop_gradient, shown))
    fake = jnp.stack([softplus(other) for other in others]).mean(0)
    return {"real": softplus(-real), "fake": fake}


def discriminator_loss(
    nets: nn.Module,
    batch: Batch,
    rows: dict[str, Values],
    equilibrium: float | Float[Array, ""] = 0.68,
    margin: float = 0.0,
) -> Loss:
    """Loss of the discriminator, 0 if it is to wait. Metrics: "real", "fake" and who moves.

    rows: of the global batch, see `discriminator_rows`.
    equilibrium, margin: see `gate`. A margin of 0 has nobody wait.
    """
    values, aux = rows["real"] + rows["fake"], {name: rows[name] for name in ("real", "fake")}
    if not margin:
        return Loss(values, aux=aux)
    # While initialising there is one too, so that the decoder's phase finds it.
    read(nets, COLLECTION, "decoder", lambda: jnp.ones(()))
    real, fake = (lax.stop_gradient(rows[name]).mean() for name in ("real", "fake"))
    moves = gate(real, fake, equilibrium, margin)
    write(nets, COLLECTION, "decoder", moves.decoder)
    waiting = {"moves": moves.discriminator, "decoder_moves": moves.decoder}
    return Loss(values * moves.discriminator, aux=aux | waiting)


def pixel_loss(nets: nn.Module, batch: Batch, variance: float = 1.0) -> Loss:
    """Loss of the same encoder and decoder as a VAE without a discriminator.

    KL(q(z|x) || N(0, I)) + |x - y|^2 / (2 variance): pixels are normal around those of the decoded
    draw y. Metrics: "kl" and "error", in nats without the constant.
    """
    posterior, images = reconstructed(nets, batch)
    kl = _summed(posterior.kl_to_standard())
    error = 0.5 / variance * _summed(jnp.square(images - batch["image"]))
    return Loss(kl + error, aux={"kl": kl, "error": error})


def reconstructed(nets: nn.Module, batch: Batch) -> tuple[Gaussian, Images]:
    """Return posteriors, and decoded draws from them, in training mode."""
    posterior = nets.encoder(batch["image"], train=True)
    noise = per_example(jax.random.normal, nets, batch, posterior.mean.shape[1:])
    return posterior, nets.decoder(posterior.transform(noise), train=True)


def sampled(nets: nn.Module, batch: Batch, train: bool = False) -> Images:
    """Return decoded draws of the prior, one for each element of batch["index"]."""
    z = per_example(jax.random.normal, nets, batch, (nets.decoder.latent_size,))
    return nets.decoder(z, train=train)


def feature_error(nets: nn.Module, real: Images, images: Images) -> Values:
    """Return |f(x) - f(y)|^2 / 2; both pass the discriminator as one batch, as in its code."""
    features = nets.discriminator(jnp.concatenate([images, real]), train=True).features
    of_images, of_real = jnp.split(features, 2)
    return 0.5 * _summed(jnp.square(of_images - of_real))


def judged(nets: nn.Module, *images: Images) -> list[Values]:
    """Return the scores of several batches, which pass the discriminator as one."""
    scores = nets.discriminator(jnp.concatenate(images), train=True).scores
    return jnp.split(scores, len(images))


def reconstruct(nets: nn.Module, batch: Batch) -> Images:
    """Return the images of the posteriors' means."""
    return nets.decoder(nets.encoder(batch["image"]).mean)


def reconstruct_beside(nets: nn.Module, batch: Batch) -> Float[Array, "b h w2 c"]:
    """Return images, and to their right what the networks make of them."""
    return jnp.concatenate([batch["image"], reconstruct(nets, batch)], axis=2)


def divergence(nets: nn.Module, batch: Batch) -> Loss:
    """KL(q(z|x) || N(0, I)) of each image in nats, as a score."""
    return Loss(_summed(nets.encoder(batch["image"]).kl_to_standard()))


def _summed(x: Float[Array, "b ..."]) -> Values:
    return x.reshape(len(x), -1).sum(-1)
