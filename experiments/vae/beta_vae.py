"""Higgins et al. 2017, beta-VAE: Learning Basic Visual Concepts (ICLR 2017).

A VAE whose divergence from the prior weighs `beta`, so that few dimensions of the latent are used
and each stands for one cause of variation.

    genax train experiments/vae/beta_vae.py --workdir runs/beta
    genax train experiments/vae/beta_vae.py:digits --workdir runs/digits

Settings of `dsprites` and `celeba` are those of table 1. The paper states neither batch nor number
of steps: 64 and 300,000 are those of FactorVAE (Kim & Mnih 2018).
"""

from functools import partial

import optax

from genax.settings import Variant
from genax.vae import settings
from genax.vae.autoencoders import DSPRITES
from genax.vae.convolutional import CELEBA
from genax.vae.tasks import adam, autoencoder, elbo_stage

DEFAULTS = settings.DEFAULTS | settings.ELBO | settings.DISENTANGLED
DEFAULTS |= {
    "beta": 4.0,
    # Whether the optimizer is Adagrad or Adam, which alone reads b1, b2 and epsilon.
    "adagrad": False,
}
SPRITES = settings.DSPRITES | DSPRITES.settings
SPRITES |= {"adagrad": True, "learning_rate": 1e-2, "batch_size": 64, "steps": 300_000}
FACES = settings.PUBLISHED | CELEBA.settings
FACES |= {"dataset": "tfds:celeb_a", "size": 64, "likelihood": "gaussian", "beta": 250.0}
FACES |= {"learning_rate": 1e-4, "batch_size": 64, "steps": 300_000}
VARIANTS = {
    **settings.small_variants(digits={"latent_size": 6}),
    "shapes": Variant("embedded sprites with their factors, in a minute", settings.SHAPES),
    "dsprites": Variant("dSprites with the fully connected networks of the paper", SPRITES),
    "celeba": Variant("CelebA at 64x64 with the convolutions of the paper", FACES),
}
RANGES = settings.RANGES


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    adagrad = optax.adagrad(config.learning_rate, initial_accumulator_value=0.0)
    chosen = adagrad if config.adagrad else adam(config)
    return autoencoder(config, data, partial(elbo_stage, config, optimizer=chosen))
