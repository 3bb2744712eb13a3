"""Huang et al. 2024, The GAN is dead; long live the GAN! A modern baseline (arXiv:2501.05441).

Networks without normalisation, each fake compared with one real image, and penalties on the slopes
at real images (R1) and at fakes (R2), whose weight falls with the learning rate.

    genax train experiments/gan/r3gan.py --workdir runs/r3gan
    genax train experiments/gan/r3gan.py:digits --workdir runs/digits

The official code raises b2 from 0.9 to 0.99 and the half-life of its average from 0, and augments
as ADA does; here b2 and the decay are constant, and `augmentation` chooses another one.
"""

import optax

from genax.gan.r3gan import SIZES, R3GANDiscriminator, R3GANGenerator
from genax.gan.settings import DEFAULTS as SHARED
from genax.gan.settings import FLAT_PAIRS, PUBLISHED, small_variants
from genax.gan.settings import RANGES as SHARED_RANGES
from genax.gan.tasks import image_gan
from genax.settings import Variant
from genax.settings.ranges import COUNT, NOT_NEGATIVE

DEFAULTS = SHARED | {
    **FLAT_PAIRS,
    **SIZES["small"],
    # What the penalties' weight and the rate fall to, along half a cosine of so many steps.
    "final_penalty_weight": 0.1,
    "final_learning_rate": 5e-5,
    "decay_steps": 5_000,
}
DIGITS = SIZES["digits"] | {"decay_steps": 1_500, "steps": 1_500}
SMALL = small_variants(DIGITS, comparison=SIZES["fashion32"] | {"decay_steps": 4_000})
CIFAR10 = PUBLISHED | {
    **SIZES["cifar10"],
    "dataset": "cifar10",
    "flip": True,
    "penalty_weight": 0.05,
    "final_penalty_weight": 0.005,
    "batch_size": 512,
    "ema": 0.9999,
    "decay_steps": 39_000,
    "steps": 390_000,
    "parallel": {"topology": "v5e:4x4"},
}
FACES = CIFAR10 | {
    **SIZES["ffhq64"],
    "dataset": "tfds:celeb_a",
    "penalty_weight": 2.0,
    "final_penalty_weight": 0.2,
    "batch_size": 256,
    "decay_steps": 78_000,
}
VARIANTS = SMALL | {
    "cifar10": Variant("CIFAR-10 with the networks and weights of the paper", CIFAR10),
    "faces64": Variant("faces at 64x64 with the paper's settings of FFHQ-64", FACES),
}
RANGES = SHARED_RANGES | {"final_penalty_weight": NOT_NEGATIVE, "decay_steps": COUNT}


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""

    def falling(most, least):
        return optax.cosine_decay_schedule(most, config.decay_steps, least / most if most else 0.0)

    rate = falling(config.learning_rate, config.final_learning_rate)
    parts = {
        "penalty_weight": falling(config.penalty_weight, config.final_penalty_weight),
        "optimizers": dict.fromkeys(
            ("discriminator", "generator"), optax.adam(rate, b1=config.b1, b2=config.b2)
        ),
    }
    return image_gan(config, data, R3GANGenerator, R3GANDiscriminator, **parts)
