"""Lin et al. 2018, PacGAN (arXiv:1712.04086), section 4.2: Stacked MNIST.

Three digits, drawn at random, are the colours of one image, so there are 1,000 modes. A classifier
of single digits counts those among 26,000 samples, and how far they are from even (`kl`). The
discriminator is a quarter as wide as the generator (Metz et al. 2017, arXiv:1611.02163, appendix
D); `discriminator_width` of 4 is half. Published after 500,000 steps: 30.6 modes by a plain GAN,
667 by one that scores packs.

    genax train experiments/gan/stacked_mnist.py --workdir runs/stacked
    genax train experiments/gan/stacked_mnist.py:packed --workdir runs/packed
"""

from functools import partial

import optax

from genax.core import Experiment, Sampler
from genax.data import ImageData, given_or
from genax.data.stacked import Stacked
from genax.data.within import check_range
from genax.evaluation.pictures import check_pictures, image_grid
from genax.gan.mode_networks import StackedDiscriminator, StackedGenerator
from genax.gan.modes import stacked_modes
from genax.gan.networks import Networks
from genax.gan.sampling import generate
from genax.gan.settings import FLAT_PAIRS, MODES, UNIT_SLOPE
from genax.gan.settings import RANGES as SHARED_RANGES
from genax.gan.tasks import play_out
from genax.settings import Variant, from_config
from genax.settings.ranges import NOT_NEGATIVE

DEFAULTS = MODES | {
    # Labelled images of single digits.
    "dataset": "mnist",
    "image_size": 28,
    "latent_size": 256,
    # Channels of the discriminator's first layer, and whether it has BatchNorm.
    "discriminator_width": 2,
    "normalise": True,
    # Samples that are classified to count modes.
    "mode_samples": 26_000,
    # The rate of the generator; `learning_rate` is that of the discriminator.
    "generator_rate": 1e-4,
    "b2": 0.99,
    "batch_size": 128,
    "steps": 25_000,
    "eval_batch_size": 500,
}
BARE = {"normalise": False}
DIGITS = {"dataset": "digits", "image_size": 8, "mode_samples": 2_000, "steps": 2_000}
VARIANTS = {
    "cpu": Variant("a plain GAN on three MNIST digits"),
    # A step has 128 packs, as in the authors' code.
    "packed": Variant("two images scored together", {"pack": 2, "batch_size": 256}),
    "packed-4": Variant("four images scored together", {"pack": 4, "batch_size": 512}),
    "wgan-gp": Variant("Wasserstein with a gradient penalty, without BatchNorm", UNIT_SLOPE | BARE),
    "r3gan": Variant("relativistic with R1 and R2, without BatchNorm", FLAT_PAIRS | BARE),
    "digits": Variant("three digits of 8x8 pixels, embedded, in two minutes", DIGITS),
}
RANGES = SHARED_RANGES | {"generator_rate": NOT_NEGATIVE}


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given.

    data: labelled images of single digits, in place of those that the settings name.
    """
    own = partial(ImageData, config.dataset, size=config.image_size, damaged=config.damaged)
    train, test = given_or(data, lambda: (own(), own(split="test")))
    stacked = Stacked(red=train, green=train, blue=train)
    check_pictures(stacked)
    check_range(stacked)
    generator = from_config(StackedGenerator, config)
    networks = Networks(generator, from_config(StackedDiscriminator, config))
    parts = {
        "optimizers": {"generator": optax.adam(config.generator_rate, config.b1, config.b2)},
        "samplers": {"images": Sampler(generate, image_grid)},
        "evaluators": {"modes": stacked_modes(generate, train, test, config.mode_samples)},
    }
    return Experiment(play_out(config, networks, **parts), stacked)
