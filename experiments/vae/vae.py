"""Kingma & Welling 2014, Auto-Encoding Variational Bayes (arXiv:1312.6114).

A variational autoencoder with one hidden layer on either side and a Bernoulli likelihood. Other
likelihoods, convolutions, binary images, a warm-up of the divergence and free bits are settings.

    genax train experiments/vae/vae.py --workdir runs/vae
    genax train experiments/vae/vae.py:conv --workdir runs/conv

Variant cpu on two CPU cores: 58 seconds, compilation and evaluation included. Test ELBO -104.7
nats, importance-weighted bound with 50 samples -100.5 nats.
"""

from functools import partial

import optax
from flax import linen as nn

from genax.core import GenaxError
from genax.settings import Variant
from genax.vae.autoencoders import PYTORCH_EXAMPLE
from genax.vae.convolutional import DIGITS_CONV, MNIST_CONV
from genax.vae.settings import DEFAULTS as SHARED
from genax.vae.settings import DIGITS, ELBO, PUBLISHED, small_variants
from genax.vae.settings import RANGES as SHARED_RANGES
from genax.vae.tasks import adam, autoencoder, elbo_stage

DEFAULTS = SHARED | {
    **ELBO,
    # Whether the optimizer is Adagrad, as in the paper, or Adam, which alone reads b1, b2, epsilon.
    "adagrad": False,
    # Needs Adagrad.
    "weight_decay": 0.0,
}
MAP = PUBLISHED | {
    "adagrad": True,
    # The prior N(0, I) of the weights, as a share of each of 60,000 images.
    "weight_decay": 1 / 60_000,
    "learning_rate": 0.02,
    "steps": 1_000_000,
}
PYTORCH = PUBLISHED | {
    **PYTORCH_EXAMPLE.settings,
    "batch_size": 128,
    "steps": 4_690,
    "steps_per_call": 10,
    "checkpoint_every": 1_000,
    "sample_every": 5_000,
    "eval_every": 0,
}
CONV = MNIST_CONV.settings | {"binarisation": "dynamic", "beta_warmup_steps": 1_000}
VARIANTS = {
    **small_variants(),
    "mnist": Variant("MNIST as in the paper, section 5: Adagrad, MAP, 10^8 samples seen", MAP),
    "pytorch": Variant("MNIST as in PyTorch's examples: 400 ReLU, Adam, 10 epochs", PYTORCH),
    "conv": Variant("MNIST, binarised at each reading: convolutions, on two cores", CONV),
    "digits-conv": Variant("8x8 digits: convolutions, in seconds", DIGITS | DIGITS_CONV.settings),
    "digits-logistic": Variant(
        "8x8 digits of 17 grey levels with their likelihood, in seconds",
        DIGITS | {"likelihood": "discretised_logistic", "levels": 17},
    ),
}
RANGES = SHARED_RANGES


def optimizer(config):
    """Return Adam, or the paper's Adagrad with decayed weights.

    Raises GenaxError for decay without Adagrad.
    """
    if not config.adagrad:
        if config.weight_decay:
            raise GenaxError(
                f"config.weight_decay={config.weight_decay} is the weights' prior of the paper, "
                "which goes with its optimizer: set config.adagrad=True, or weight_decay=0."
            )
        return adam(config)
    decay = optax.add_decayed_weights(config.weight_decay)
    return optax.chain(decay, optax.adagrad(config.learning_rate, initial_accumulator_value=0.0))


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    # The paper draws all weights from N(0, 0.01).
    weights = nn.initializers.normal(0.1) if config.adagrad else nn.initializers.lecun_normal()
    stage = partial(elbo_stage, config, optimizer=optimizer(config))
    return autoencoder(config, data, stage, kernel_init=weights)
