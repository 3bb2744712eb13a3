"""Karras, Aila, Laine & Lehtinen 2018, Progressive growing of GANs (arXiv:1710.10196).

Both networks grow from 4x4 pixels to the size of the images. At each resolution the new layers fade
in, and then the networks train as they are. WGAN-GP with a drift penalty, an equalised learning
rate, pixel normalisation, minibatch deviation, and an averaged generator.

    genax train experiments/gan/pro_gan.py --workdir runs/pro_gan
    genax train experiments/gan/pro_gan.py:digits --workdir runs/digits

`steps` counts those of all resolutions. Pictures and scores have the size of the last one from the
start. Where the paper's own settings and those of the official TensorFlow code differ, each has a
variant.
"""

from functools import partial

from genax.gan.growing import growth_of
from genax.gan.penalties import drift, gradient_penalty
from genax.gan.pro_gan import SIZES, ProGANDiscriminator, ProGANGenerator
from genax.gan.settings import DEFAULTS as SHARED
from genax.gan.settings import GROWTH, PUBLISHED, UNIT_SLOPE, grown_faces, small_variants
from genax.gan.settings import RANGES as SHARED_RANGES
from genax.gan.tasks import image_gan
from genax.settings import Variant
from genax.settings.ranges import NOT_NEGATIVE, POSITIVE

GROWN = SHARED | UNIT_SLOPE | GROWTH | SIZES["cpu"]
DEFAULTS = GROWN | {
    # The slope that the gradient penalty asks for.
    "slope": 1.0,
    # The weight of squared scores of real images.
    "drift_weight": 1e-3,
    "ema": 0.999,
}
# Section 6.4 and appendix A.1, where the deviation is that of a whole batch.
OFFICIAL = PUBLISHED | {
    **SIZES["paper"],
    "ema": 0.999,
    "batch_size": 16,
    "group_size": 16,
    "fade_images": 800_000,
    "stable_images": 800_000,
    "steps": 1_250_000,
}
CIFAR10 = OFFICIAL | SIZES["cifar10"] | {"dataset": "cifar10", "slope": 750.0}
CIFAR10 |= {"fade_images": 400_000, "stable_images": 400_000}
# The paper's batches of 256x256 images are of 14, which the four chips do not divide.
LSUN = OFFICIAL | {"dataset": "tfds:lsun/bedroom", "image_size": 256}
# 12 million images on eight GPUs.
FACES = grown_faces(SIZES["paper"] | {"ema": 0.999, "steps": 277_736})
VARIANTS = small_variants(SIZES["digits"]) | {
    "cifar10": Variant("CIFAR-10 with the settings of the paper's section 6.5", CIFAR10),
    "lsun-256": Variant("LSUN bedrooms at 256x256 as in the paper, but for its batch of 14", LSUN),
    **FACES,
}
RANGES = SHARED_RANGES | {"slope": POSITIVE, "drift_weight": NOT_NEGATIVE}


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    penalties = {"drift": partial(drift, weight=config.drift_weight)}
    if config.penalty == "gradient":
        weight = config.penalty_weight / config.slope**2
        penalties["slope"] = partial(gradient_penalty, weight=weight, target=config.slope)
    grown = {"penalties": penalties, "growth": growth_of(config)}
    return image_gan(config, data, ProGANGenerator, ProGANDiscriminator, **grown)
