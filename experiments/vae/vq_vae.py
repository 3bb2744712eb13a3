"""Van den Oord et al. 2017, Neural discrete representation learning (arXiv:1711.00937).

An autoencoder whose latents are the nearest of `num_codes` vectors (VQ-VAE). Codes are averages of
what they stand for (appendix A.1) and revived when they die, or parameters that the paper's eq. 3
moves. `vq_prior.py` fits a Transformer to the codes of a run, which then draws images.

    genax train experiments/vae/vq_vae.py --workdir runs/vq
    genax train experiments/vae/vq_vae.py:digits --workdir runs/digits

The score "elbo" is a bound of log p(x) with all codes equally likely. The paper reports 4.67 bits
per dimension on CIFAR-10 with its prior, and 4.51 for a VAE.
"""

from genax.settings import Variant
from genax.settings.ranges import NOT_NEGATIVE, Range
from genax.vae import vq_settings
from genax.vae.vq_settings import CIFAR10, PAPER, SIZES
from genax.vae.vq_tasks import vq_autoencoder

DEFAULTS = {
    **vq_settings.DEFAULTS,
    # Factors of the distances of vectors from their codes, and of codes from their vectors: see
    # `vq_loss`. Codes that are averages have no use for the second.
    "commitment": 0.25,
    "codebook": 1.0,
    "learning_rate": 1e-3,
    "steps": 5_000,
    "checkpoint_every": 2_500,
    "sample_every": 2_500,
    "num_samples": 32,
}
MNIST = PAPER | SIZES["paper"] | {"likelihood": "bernoulli"}
# Bits per dimension need a likelihood of levels.
BITS = {"averages": True, "dead_below": 0.1, "likelihood": "discretised_logistic"}
DIGITS = {"steps": 2_000, "checkpoint_every": 1_000, "sample_every": 1_000}
VARIANTS = {
    "cpu": Variant("MNIST, binarised at each reading, in minutes on two cores"),
    "mnist": Variant("the same with the networks, loss and optimizer of the paper", MNIST),
    "cifar10": Variant("CIFAR-10: networks, loss and optimizer of the paper", PAPER | CIFAR10),
    "cifar10-bits": Variant(
        "the same with averaged codes, and a likelihood of 256 levels", PAPER | CIFAR10 | BITS
    ),
    "digits": Variant("8x8 digits, embedded, in seconds", vq_settings.DIGITS | DIGITS),
}
RANGES = vq_settings.RANGES | {"commitment": NOT_NEGATIVE, "codebook": NOT_NEGATIVE}
# The networks know no classes; a prior over the codes may.
RANGES |= {"remat": ("none",), "num_classes": Range(least=0, most=0, whole=True)}


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    return vq_autoencoder(config, data)
