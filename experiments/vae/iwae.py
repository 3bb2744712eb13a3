"""Burda, Grosse & Salakhutdinov 2016, Importance Weighted Autoencoders (arXiv:1509.00519).

An autoencoder of one stochastic layer that is trained by the bound of `samples` latents with
importance weights, on MNIST that is binarised anew at each reading. With one sample it is the VAE
that the paper compares with. `doubly_reparameterised` takes the encoder's gradient of Tucker et al.
2019 (DReG, arXiv:1810.04152).

    genax train experiments/vae/iwae.py --workdir runs/iwae
    genax train experiments/vae/iwae.py:digits --workdir runs/digits
    genax eval runs/iwae --config.importance_samples=5000

The paper's bounds of test images with 5,000 samples, table 1: 86.76 nats with one sample (the VAE),
85.54 with 5, 84.78 with 50, after 3,280 passes over the data.
"""

from functools import partial

import optax

from genax.core import Phase, Stage
from genax.settings import Variant
from genax.settings.ranges import AMOUNT
from genax.vae.autoencoders import IWAE
from genax.vae.importance import iwae_loss
from genax.vae.settings import DEFAULTS as SHARED
from genax.vae.settings import PUBLISHED, small_variants
from genax.vae.settings import RANGES as SHARED_RANGES
from genax.vae.tasks import adam, autoencoder

DEFAULTS = SHARED | {
    **IWAE.settings,
    "binarisation": "dynamic",
    # k of the bound that is trained.
    "samples": 5,
    "doubly_reparameterised": False,
    "epsilon": 1e-4,
    # Steps of the first of eight stages, each three times as long as the one before, with a rate
    # that falls to a tenth; 0 keeps the rate.
    "first_steps": 0,
    "steps": 20_000,
}
# One pass over 60,000 images in the first stage, 3,280 passes in all.
PAPER = PUBLISHED | {"batch_size": 20, "first_steps": 3_000, "steps": 9_840_000}
VARIANTS = {
    **small_variants(digits={"steps": 2_000}),
    "vae": Variant("the paper's VAE: one sample", PAPER | {"samples": 1}),
    "iwae-5": Variant("the paper's IWAE of 5 samples", PAPER),
    "iwae-50": Variant("the paper's IWAE of 50 samples", PAPER | {"samples": 50}),
}
RANGES = SHARED_RANGES | {"first_steps": AMOUNT}


def rate(config):
    """Return the rate of section 5: 10^(-i / 7) of the first one in stage i = 0 ... 7."""
    if not config.first_steps:
        return config.learning_rate
    ends = [config.first_steps * (3**stage - 1) // 2 for stage in range(1, 8)]
    return optax.piecewise_constant_schedule(
        config.learning_rate, dict.fromkeys(ends, 10 ** (-1 / 7))
    )


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""

    def stage(condition, train):
        bound = partial(
            iwae_loss,
            samples=config.samples,
            doubly_reparameterised=config.doubly_reparameterised,
            condition=condition,
        )
        return Stage([Phase("bound", bound, ("encoder", "decoder"), adam(config, rate(config)))])

    return autoencoder(config, data, stage)
