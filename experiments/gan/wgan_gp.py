"""Gulrajani et al. 2017, Improved training of Wasserstein GANs (arXiv:1704.00028).

Residual networks, a critic whose slope between real images and fakes is held at 1, five moves of it
for each of the generator, which makes two fakes for each image. Adam at 2e-4 with b1 = 0 and b2 =
0.9, falling to 0 at `decay_steps`. With `num_classes` the generator gets labels and the critic
tells them (ACGAN). The official code adds noise to the levels of images; this does not.

    genax train experiments/gan/wgan_gp.py --workdir runs/wgan_gp
    genax train experiments/gan/wgan_gp.py:digits --workdir runs/digits
"""

from functools import partial

import optax

from genax.gan.augmentation import augment_by
from genax.gan.losses import generator_loss, with_more_fakes
from genax.gan.residual import SIZES, ResidualCritic, ResidualGenerator, class_error
from genax.gan.settings import DEFAULTS as SHARED
from genax.gan.settings import PUBLISHED, UNIT_SLOPE, small_variants
from genax.gan.settings import RANGES as SHARED_RANGES
from genax.gan.tasks import image_gan
from genax.settings import Variant
from genax.settings.ranges import AMOUNT, COUNT, NOT_NEGATIVE

DEFAULTS = SHARED | {
    **UNIT_SLOPE,
    **SIZES["small"],
    # Moves of the critic for each of the generator.
    "critic_steps": 5,
    # Fakes of the generator's move for each image of the batch.
    "fakes": 2,
    # The critic's move at which the rate is 0; 0 keeps the rate.
    "decay_steps": 0,
    # Weights of what the critic takes images for, in its loss and in the generator's.
    "class_weight": 1.0,
    "generator_class_weight": 0.1,
    "steps": 10_000,
}
DIGITS = SIZES["digits"] | {"steps": 3_000}
SMALL = small_variants(DIGITS, comparison={"steps": 20_000, "width": 64})
CIFAR10 = PUBLISHED | SIZES["cifar10"] | {"dataset": "cifar10", "decay_steps": 500_000}
CIFAR10 |= {"steps": 500_000}
VARIANTS = SMALL | {
    "cifar10": Variant("CIFAR-10 with the networks and settings of the paper", CIFAR10),
    "cifar10-conditional": Variant(
        "CIFAR-10 by class, with the critic that tells classes", CIFAR10 | {"num_classes": 10}
    ),
}
RANGES = SHARED_RANGES | {
    "fakes": COUNT,
    "decay_steps": AMOUNT,
    "class_weight": NOT_NEGATIVE,
    "generator_class_weight": NOT_NEGATIVE,
}


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""

    def adam(moves):
        rate = config.learning_rate
        if steps := config.decay_steps // moves:
            rate = optax.linear_schedule(rate, 0.0, steps)
        return optax.adam(rate, b1=config.b1, b2=config.b2)

    def more_fakes(nets, batch, **arguments):
        return with_more_fakes(nets, batch, partial(generator_loss, **arguments), config.fakes)

    own = {
        "generators_loss": more_fakes,
        "optimizers": {"discriminator": adam(1), "generator": adam(config.critic_steps)},
    }
    if config.num_classes:
        seen = partial(class_error, augment=augment_by(config.augmentation))
        real = partial(seen, weight=config.class_weight)
        fakes = partial(seen, weight=config.generator_class_weight, of="fakes")
        own |= {"penalties": {"classes": real}, "generator_penalties": {"classes": fakes}}
    return image_gan(config, data, ResidualGenerator, ResidualCritic, **own)
