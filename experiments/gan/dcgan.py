"""Radford, Metz & Chintala 2015, Deep convolutional GANs (arXiv:1511.06434).

Convolutional generator and discriminator with BatchNorm, the non-saturating loss of Goodfellow et
al. 2014 (arXiv:1406.2661), Adam at 2e-4 with b1 = 0.5. With `num_classes` both networks get labels
(Mirza & Osindero 2014, arXiv:1411.1784).

    genax train experiments/gan/dcgan.py --workdir runs/dcgan
    genax train experiments/gan/dcgan.py:digits --workdir runs/digits

Variant cpu on two CPU cores: 3 minutes 13 seconds, compilation and evaluation included. Of 100
samples all ten classes appear, in each of ten hundreds; the rarest class has 6.7% of 1,000 samples.
The classifier that counts them is right on 95.6% of real test images.
"""

from functools import partial

import jax

from genax.gan.dcgan import SIZES, DCGANDiscriminator, DCGANGenerator
from genax.gan.settings import DEFAULTS as SHARED
from genax.gan.settings import PUBLISHED, small_variants
from genax.gan.settings import RANGES as SHARED_RANGES
from genax.gan.tasks import image_gan
from genax.settings import Variant

DEFAULTS = SHARED | {
    **SIZES["mnist"],
    "dataset": "mnist",
    # Whether latents are even in [-1, 1], and not normal.
    "uniform_latents": False,
    # Whether the generator matches the discriminator's features (Salimans et al. 2016,
    # arXiv:1606.03498, section 3.1) in place of its objective.
    "feature_matching": False,
    "coverage_samples": 1000,
}
SMALL = small_variants(SIZES["digits"] | {"batch_size": 32})
LARGE = PUBLISHED | {"coverage_samples": 0, "batch_size": 128, "sample_every": 2_000}
BEDROOMS = SIZES["paper"] | {"dataset": "tfds:lsun/bedroom", "uniform_latents": True}
BY_CLASS = SMALL["digits"].settings | {"num_classes": 10}
VARIANTS = SMALL | {
    "digits-conditional": Variant("digits of the classes that are asked for", BY_CLASS),
    "celeba64": Variant(
        "CelebA at 64x64 as in PyTorch's examples; prepare it with TFDS as celeb_a",
        LARGE | SIZES["pytorch"] | {"dataset": "tfds:celeb_a", "steps": 31_800},
    ),
    "lsun64": Variant(
        "LSUN bedrooms at 64x64, the paper's widths and uniform latents; TFDS lsun/bedroom",
        LARGE | BEDROOMS | {"steps": 120_000},
    ),
}
RANGES = SHARED_RANGES


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    draw = jax.random.normal
    if config.uniform_latents:
        draw = partial(jax.random.uniform, minval=-1.0, maxval=1.0)
    how = {"draw": draw, "match_features": config.feature_matching}
    return image_gan(config, data, DCGANGenerator, DCGANDiscriminator, **how)
