"""Sohn, Lee & Yan 2015, Learning Structured Output Representation (NeurIPS 2015).

A conditional VAE: encoder and decoder get the class of an image beside it, and samples are of the
classes that are asked for. Its bounds are those of log p(x | class).

    genax train experiments/vae/conditional_vae.py --workdir runs/conditional
    genax train experiments/vae/conditional_vae.py:digits --workdir runs/digits

The paper predicts hidden parts of images of MNIST from the others. Here the condition is the class
and the prior of the latent does not depend on it, as in M2 of Kingma et al. 2014 (arXiv:1406.5298).
"""

from functools import partial

from genax.settings import Variant
from genax.settings.ranges import COUNT
from genax.vae.convolutional import MNIST_CONV
from genax.vae.settings import DEFAULTS as SHARED
from genax.vae.settings import ELBO, small_variants
from genax.vae.settings import RANGES as SHARED_RANGES
from genax.vae.tasks import autoencoder, elbo_stage

DEFAULTS = SHARED | ELBO | {"num_classes": 10, "binarisation": "dynamic", "num_samples": 60}
VARIANTS = small_variants(digits={"binarisation": "none", "num_samples": 20}) | {
    "conv": Variant("MNIST by class with convolutions, on two cores", MNIST_CONV.settings)
}
RANGES = SHARED_RANGES | {"num_classes": COUNT}


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    return autoencoder(config, data, partial(elbo_stage, config))
