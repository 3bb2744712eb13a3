"""Settings that experiments with a VQ-VAE share: its images, its sizes, and their ranges."""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict

from genax.evaluation.pictures import check_pictures
from genax.settings import from_config
from genax.settings.ranges import COUNT, SHARE, Ranges
from genax.vae import settings
from genax.vae.likelihoods import likelihood_of
from genax.vae.vq_vae import VQVAE, check_size

# Sizes of networks, each with a likelihood of its data.
SIZES: dict[str, dict[str, Any]] = {
    # arXiv:1711.00937, section 4: 4,942,915 parameters of RGB, the codebook's among them. The size
    # of a code is not published; 64 is that of the authors' example in Sonnet, which divides the
    # mean squared error by the variance of the pixels, 0.063: this deviation weighs the errors of
    # pixels and codes alike.
    "paper": {
        "width": 256,
        "blocks": 2,
        "block_width": 256,
        "num_codes": 512,
        "code_size": 64,
        "averages": False,
        "dead_below": 0.0,
        "likelihood": "gaussian",
        "deviation": 0.154,
    },
    # This project's own: 49 codes for an image of 28x28, 4 for one of 8x8.
    "mnist": {
        "width": 64,
        "blocks": 2,
        "block_width": 32,
        "num_codes": 256,
        "code_size": 32,
        "likelihood": "bernoulli",
    },
    "digits": {
        "width": 32,
        "blocks": 1,
        "block_width": 32,
        "num_codes": 64,
        "code_size": 16,
        "likelihood": "discretised_logistic",
        "levels": 17,
    },
}
# Section 4.1 of the paper: Adam at 2e-4, batches of 128, 250,000 steps.
PAPER: dict[str, Any] = {
    "learning_rate": 2e-4,
    "batch_size": 128,
    "steps": 250_000,
    "checkpoint_every": 10_000,
    "sample_every": 10_000,
    "parallel": {"topology": "v5e:2x2"},
}
# Of images, as in `genax.vae.settings`.
_IMAGES = ("train_split", "test_split", "size", "binarisation", "threshold", "levels", "deviation")
DEFAULTS: dict[str, Any] = {
    **{name: settings.DEFAULTS[name] for name in _IMAGES},
    "dataset": "mnist",
    "binarisation": "dynamic",
    # Classes of the labels; 0 is no labels.
    "num_classes": 0,
    # Whether codes are averages of the vectors that they stand for, or parameters; the decay of
    # the averages; and the share of the mean use below which a code is revived. See `Codebook`.
    "averages": True,
    "decay": 0.99,
    "dead_below": 0.1,
    # Whether vectors and codes are compared by their cosine.
    "cosine": False,
    **SIZES["mnist"],
}
DIGITS: dict[str, Any] = {"dataset": "digits", "binarisation": "none", **SIZES["digits"]}
CIFAR10: dict[str, Any] = {"dataset": "cifar10", "binarisation": "none", **SIZES["paper"]}
_SHARED = (*_IMAGES, "num_classes", "likelihood", "learning_rate")
RANGES: Ranges = {
    **{name: settings.RANGES[name] for name in _SHARED if name in settings.RANGES},
    "width": COUNT,
    "blocks": COUNT,
    "block_width": COUNT,
    "num_codes": COUNT,
    "code_size": COUNT,
    "decay": SHARE,
    "dead_below": SHARE,
}


def autoencoder_of(config: ConfigDict, data: Any) -> VQVAE:
    """Return the autoencoder of the settings for the images of a data set.

    Raises GenaxError for images that no picture or no whole number of codes can be made of, and
    for a likelihood of other images.
    """
    check_pictures(data)
    height, width, channels = data.element["image"].shape
    check_size(height, width)
    likelihood_of(config.likelihood, config.binarisation, config.deviation, config.levels)
    return from_config(VQVAE, config, channels=channels)


def said_of(config: ConfigDict, kind: str = "lower bound of log p(x)") -> dict[str, str]:
    """Return what a result says of a bound: its kind and unit, and what p(x) is one of."""
    binary = config.binarisation != "none"
    images = f"binary images ({config.binarisation})" if binary else "grey levels as they are read"
    density = config.likelihood in ("gaussian", "learned_gaussian")
    p = "density" if density else "probability"
    of = {"p": p, "images": images, "given": "class" if config.num_classes else "nothing"}
    return {"elbo": kind, "unit": "nats", **of, "likelihood": config.likelihood}
