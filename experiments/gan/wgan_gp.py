"""Gulrajani et al. 2017, Improved training of Wasserstein GANs (arXiv:1704.00028).

Residual networks, a critic whose slope between real images and fakes is held at 1, five moves of it
for each of the generator, which makes two fakes for each image. Adam at 2e-4 with b1 = 0 and b2 =
0.9, falling to 0 at `decay_steps`. With `num_classes` the generator gets labels and the critic
tells them (ACGAN).

    genax train experiments/gan/wgan_gp.py --workdir runs/wgan_gp
    genax train experiments/gan/wgan_gp.py:digits --workdir runs/digits
"""

from functools import partial

import optax

from genax.gan.losses import generator_loss, with_more_fakes
from genax.gan.penalties import gradient_penalty
from genax.gan.residual import SIZES, ResidualCritic, ResidualGenerator, class_error
from genax.gan.settings import DEFAULTS as SHARED
from genax.gan.settings import RANGES as SHARED_RANGES
from genax.gan.settings import small_variants
from genax.gan.tasks import image_gan
from genax.settings import Variant
from genax.settings.ranges import COUNT, NOT_NEGATIVE

DEFAULTS = (
    SHARED
    | SIZES["small"]
    | {
        "game": "wasserstein",
        "critic_steps": 5,
        "penalty_weight": 10.0,
        # Fakes of the generator's move for each image of the batch.
        "fakes": 2,
        "b1": 0.0,
        "b2": 0.9,
        # The critic's move at which the rate is 0; 0 keeps the rate.
        "decay_steps": 0,
        # Weights of what the critic takes images for, in its loss and in the generator's.
        "class_weight": 1.0,
        "generator_class_weight": 0.1,
        "steps": 10_000,
    }
)
CIFAR10 = SIZES["cifar10"] | {
    "dataset": "cifar10",
    "decay_steps": 500_000,
    "ema": 0.0,
    "steps": 500_000,
    "checkpoint_every": 10_000,
    "sample_every": 10_000,
    "parallel": {"topology": "v5e:2x2"},
}
VARIANTS = small_variants(
    cpu={}, comparison={"steps": 20_000, "width": 64}, digits=SIZES["digits"] | {"steps": 3_000}
) | {
    "cifar10": Variant("CIFAR-10 with the networks and settings of the paper", CIFAR10),
    "cifar10-conditional": Variant(
        "CIFAR-10 by class, with the critic that tells classes", CIFAR10 | {"num_classes": 10}
    ),
}
RANGES = SHARED_RANGES | {
    "fakes": COUNT,
    "class_weight": NOT_NEGATIVE,
    "generator_class_weight": NOT_NEGATIVE,
}


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    penalties = {"slope": partial(gradient_penalty, weight=config.penalty_weight)}
    of_fakes = {}
    if config.num_classes:
        penalties["classes"] = partial(class_error, weight=config.class_weight)
        of_fakes["classes"] = partial(class_error, weight=config.generator_class_weight, of="fakes")

    def more_fakes(nets, batch, **arguments):
        return with_more_fakes(nets, batch, partial(generator_loss, **arguments), config.fakes)

    def adam(moves):
        rate = config.learning_rate
        if config.decay_steps:
            rate = optax.linear_schedule(rate, 0.0, max(1, config.decay_steps // moves))
        return optax.adam(rate, b1=config.b1, b2=config.b2)

    return image_gan(
        config,
        data,
        ResidualGenerator,
        ResidualCritic,
        penalties=penalties,
        generator_penalties=of_fakes,
        generators_loss=more_fakes,
        optimizers={"discriminator": adam(1), "generator": adam(config.critic_steps)},
    )
