"""Townsend, Bird & Barber 2019, Practical Lossless Compression with Latent Variables using
Bits Back Coding (arXiv:1901.04866).

After training, test images are compressed to WORKDIR/evaluation/images.bits_back by bits-back
coding with ANS, and read back. Scores are the file's bits per dimension beside those of the bound
and of zlib, and whether every image came back.

    genax train experiments/vae/compression.py --workdir runs/compression
    genax eval runs/compression --config.compressed=10000

The paper has 0.19 bits per dimension for binarised MNIST and 1.41 for all 256 levels, where zlib
(gzip) has 0.33 and 1.65. `grey` has a discretised logistic where the paper has a beta-binomial.
"""

from functools import partial

from genax.settings import Variant
from genax.settings.ranges import Range
from genax.vae import settings
from genax.vae.tasks import autoencoder, elbo_stage

DEFAULTS = settings.DEFAULTS | settings.ELBO
DEFAULTS |= {"hidden": (100,), "latent_size": 40, "activation": "relu"}
DEFAULTS |= {"binarisation": "dynamic", "compressed": 2_000}
LEVELS = {"binarisation": "none", "likelihood": "discretised_logistic"}
GREY = LEVELS | {"hidden": (200,), "latent_size": 50, "steps": 20_000}
# Few images have few lanes, since each begins with what is lost.
DIGITS = settings.DIGITS | {"compressed": 297, "lanes": 2}
VARIANTS = {
    "cpu": Variant("binarised MNIST in minutes on two cores"),
    "grey": Variant("MNIST of 256 levels", GREY),
    "digits": Variant(
        "8x8 digits, binarised, embedded, in seconds", DIGITS | {"binarisation": "threshold"}
    ),
    "digits-grey": Variant("8x8 digits of 17 levels, in seconds", DIGITS | LEVELS | {"levels": 17}),
}
# A decoder that reads images back has no labels.
RANGES = settings.RANGES | {"num_classes": Range(least=0, most=0, whole=True)}


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    return autoencoder(config, data, partial(elbo_stage, config))
