"""Kim & Mnih 2018, Disentangling by Factorising (arXiv:1802.05983).

A VAE, and a discriminator that tells its latents from latents whose dimensions are shuffled over
the batch. The VAE pays `gamma` for what the discriminator sees: the total correlation.

    genax train experiments/vae/factor_vae.py --workdir runs/factor
    genax train experiments/vae/factor_vae.py:digits --workdir runs/digits

`dsprites` has the networks and settings of appendix A.
"""

from functools import partial

import optax

from genax.core import Phase, Stage
from genax.settings import Variant
from genax.settings.ranges import COUNT, NOT_NEGATIVE
from genax.vae import settings
from genax.vae.convolutional import DIGITS_CONV, FACTOR_DSPRITES, MNIST_CONV
from genax.vae.factor_vae import (
    FactorNetworks,
    LatentDiscriminator,
    discriminator_loss,
    factor_loss,
    latent_draws,
)
from genax.vae.tasks import adam, autoencoder

DEFAULTS = settings.DEFAULTS | {
    **MNIST_CONV.settings,
    **settings.DISENTANGLED,
    # The weight of the total correlation.
    "gamma": 10.0,
    # Layers of the discriminator, and its Adam, of b1 = 0.5 and b2 = 0.9.
    "discriminator_hidden": (256,) * 3,
    "discriminator_rate": 1e-4,
    "batch_size": 64,
    "steps_per_call": 1,
}
EMBEDDED = DIGITS_CONV.settings | {"latent_size": 6, "discriminator_hidden": (64,) * 2}
SPRITES = settings.DSPRITES | FACTOR_DSPRITES.settings
SPRITES |= {"gamma": 35.0, "discriminator_hidden": (1000,) * 6}
SPRITES |= {"learning_rate": 1e-4, "steps": 300_000}
VARIANTS = settings.small_variants(digits=EMBEDDED | {"steps": 1_500, "steps_per_call": 1}) | {
    "shapes": Variant(
        "embedded sprites with their factors, in a minute",
        settings.SHAPES | {"discriminator_hidden": (64,) * 2, "steps_per_call": 1},
    ),
    "dsprites": Variant(
        "dSprites with the convolutions and the discriminator of the paper", SPRITES
    ),
}
RANGES = {
    **settings.RANGES,
    "gamma": NOT_NEGATIVE,
    "discriminator_hidden": COUNT,
    "discriminator_rate": NOT_NEGATIVE,
}


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""

    def beside(networks):
        discriminator = LatentDiscriminator(config.discriminator_hidden, config.dtype)
        return FactorNetworks(networks.encoder, networks.decoder, discriminator)

    def stage(condition, train):
        game = partial(factor_loss, gamma=config.gamma, condition=condition)
        tells = optax.adam(config.discriminator_rate, b1=0.5, b2=0.9)
        draws = partial(latent_draws, condition=condition)
        phases = [
            Phase("elbo", game, ("encoder", "decoder"), adam(config)),
            Phase("discriminator", discriminator_loss, ("discriminator",), tells, embed=draws),
        ]
        # Algorithm 2 takes both gradients at the parameters before the step.
        return Stage(phases, together=True)

    return autoencoder(config, data, stage, beside=beside)
