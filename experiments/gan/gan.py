"""Goodfellow et al. 2014, Generative adversarial networks (arXiv:1406.2661).

Perceptrons: a generator with ReLU, a discriminator with maxout and dropout. The objective is
non-saturating as in the paper's section 3, or eq. 1 by `game=minimax`. Small variants use Adam; the
variant mnist has the paper's networks and settings, those of mnist.yaml in the authors' code. That
file reads 50,000 images in [0, 1] and starts the last bias at the pixels' marginals; here 60,000 in
[-1, 1] are read, and the bias starts at 0.

    genax train experiments/gan/gan.py --workdir runs/gan
    genax train experiments/gan/gan.py:digits --workdir runs/digits
"""

from functools import partial

import jax
import optax

from genax.gan.maxout import SIZES, MaxoutDiscriminator, PerceptronGenerator
from genax.gan.optimizers import rising_momentum
from genax.gan.settings import DEFAULTS as SHARED
from genax.gan.settings import PUBLISHED, small_variants
from genax.gan.settings import RANGES as SHARED_RANGES
from genax.gan.tasks import image_gan
from genax.settings import Variant
from genax.settings.ranges import AMOUNT, SHARE

DEFAULTS = SHARED | {
    **SIZES["small"],
    # Affine maps of a maxout feature.
    "pieces": 5,
    # Shares of features and of inputs that the discriminator leaves out.
    "dropout": 0.3,
    "input_dropout": 0.1,
    # Momentum at the start and after `momentum_steps`; 0 steps is Adam.
    "momentum": 0.5,
    "final_momentum": 0.7,
    "momentum_steps": 0,
}
SMALL = small_variants(SIZES["digits"])
PAPER = PUBLISHED | {
    **SIZES["mnist"],
    "dataset": "mnist",
    "dropout": 0.5,
    "input_dropout": 0.2,
    "learning_rate": 0.1,
    "momentum_steps": 150_000,
    "batch_size": 100,
    "steps": 300_000,
}
VARIANTS = SMALL | {"mnist": Variant("MNIST with the paper's networks and settings", PAPER)}
RANGES = SHARED_RANGES | {"momentum": SHARE, "final_momentum": SHARE, "momentum_steps": AMOUNT}


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    optimizers = {}
    if config.momentum_steps:
        # The rate falls by 4e-6 of itself at each step, to no less than 1e-6.
        rate = optax.exponential_decay(config.learning_rate, 1, 1 / 1.000004, end_value=1e-6)
        ends = config.momentum, config.final_momentum
        momentum = optax.linear_schedule(*ends, config.momentum_steps)
        optimizers = dict.fromkeys(("generator", "discriminator"), rising_momentum(rate, momentum))
    own = {"draw": partial(jax.random.uniform, minval=-1.0, maxval=1.0), "optimizers": optimizers}
    return image_gan(config, data, PerceptronGenerator, MaxoutDiscriminator, **own)
