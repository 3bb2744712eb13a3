"""Settings that experiments with autoencoders of images share, and their ranges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from genax.data.binarised import BINARISATIONS
from genax.nn.activations import ACTIVATIONS
from genax.nn.optimizers import RANGES as OPTIMIZER
from genax.settings import Variant
from genax.settings.ranges import AMOUNT, COUNT, NOT_NEGATIVE, POSITIVE, SHARE, Range, Ranges
from genax.vae.autoencoders import DIGITS as DIGITS_SIZE
from genax.vae.autoencoders import MNIST
from genax.vae.likelihoods import LIKELIHOODS
from genax.vae.uses import USES, USES_RANGES

# A run on MNIST that takes minutes on two cores.
DEFAULTS: dict[str, Any] = {
    # The networks are fully connected, or have `widths` convolutions that each halve the image. The
    # decoder mirrors the encoder but for what `decoder_hidden` and `decoder_activation` change.
    **MNIST.settings,
    "widths": (),
    "dataset": "mnist",
    # Splits of the data set; without a test_split nothing is scored.
    "train_split": "train",
    "test_split": "test",
    # Height and width of the images; 0 is as they are stored.
    "size": 0,
    # Whether images are made zeros and ones, by drawing each pixel once (static) or at each reading
    # (dynamic), or by a threshold; none leaves them grey.
    "binarisation": "none",
    "threshold": 0.5,
    # What the decoder's outputs mean: see `likelihood_of`. Bernoulli is one of binary images only;
    # of grey ones its ELBO is a score, and no bound of a likelihood.
    "likelihood": "bernoulli",
    "deviation": 1.0,
    "levels": 256,
    # Classes of the labels that both networks get; 0 is no labels.
    "num_classes": 0,
    # Samples of the importance-weighted bound, and how many of an image are decoded at a time.
    "importance_samples": 50,
    "decode_at_a_time": 50,
    # Of Adam.
    "learning_rate": 1e-3,
    "b1": 0.9,
    "b2": 0.999,
    "epsilon": 1e-8,
    "batch_size": 100,
    "steps": 10_000,
    "steps_per_call": 25,
    "log_every": 100,
    "checkpoint_every": 5_000,
    "sample_every": 5_000,
    **USES,
}
# Of an ELBO: see `elbo_stage`.
ELBO: dict[str, Any] = {
    # The weight of the divergence from the prior, and the steps in which it grows from 0.
    "beta": 1.0,
    "beta_warmup_steps": 0,
    # The divergence of each dimension, in nats, that costs nothing.
    "free_bits": 0.0,
    # Latents that are drawn for an image in training.
    "samples": 1,
}
# Of models whose dimensions are to stand for one cause each.
DISENTANGLED: dict[str, Any] = {"latent_size": 10, "checkpoint_every": 2_000}
# The embedded digits, on which each model of this chapter trains in seconds.
DIGITS: dict[str, Any] = {
    **DIGITS_SIZE.settings,
    "dataset": "digits",
    "batch_size": 50,
    "steps": 3_000,
    "steps_per_call": 10,
}
# A run at a published size.
PUBLISHED: dict[str, Any] = {
    "checkpoint_every": 50_000,
    "sample_every": 50_000,
    "eval_every": 50_000,
    "parallel": {"topology": "v5e:2x2"},
}
# dSprites, of which there is no test set: what is measured are its factors.
DSPRITES: dict[str, Any] = {
    **PUBLISHED,
    "dataset": "dsprites",
    "test_split": "",
    "binarisation": "threshold",
    "factor_examples": 10_000,
}
# The embedded sprites, in a minute on two cores.
SHAPES: dict[str, Any] = {
    "dataset": "shapes",
    "test_split": "",
    "binarisation": "threshold",
    "factor_examples": 768,
    "widths": (),
    "hidden": (128, 128),
    "activation": "relu",
    "latent_size": 6,
    "batch_size": 64,
    "steps": 5_000,
    "steps_per_call": 10,
}
RANGES: Ranges = {
    **OPTIMIZER,
    **USES_RANGES,
    "size": AMOUNT,
    "hidden": COUNT,
    "decoder_hidden": replace(COUNT, empty=True),
    "widths": replace(COUNT, empty=True),
    "latent_size": COUNT,
    "activation": tuple(ACTIVATIONS),
    "decoder_activation": ("", *ACTIVATIONS),
    "binarisation": ("none", *BINARISATIONS),
    "threshold": SHARE,
    "likelihood": LIKELIHOODS,
    "deviation": POSITIVE,
    "levels": Range(least=2, most=2**16, whole=True),
    "num_classes": AMOUNT,
    "importance_samples": Range(least=1, most=5_000, whole=True),
    "decode_at_a_time": COUNT,
    "epsilon": POSITIVE,
    "beta": NOT_NEGATIVE,
    "beta_warmup_steps": AMOUNT,
    "free_bits": NOT_NEGATIVE,
    "samples": COUNT,
    "remat": ("none",),
}


def small_variants(
    digits: Mapping[str, Any] = MappingProxyType({}), cpu: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Variant]:
    """Return the variants of a model that train on two cores: what each of them changes."""
    return {
        "cpu": Variant("MNIST in minutes on two cores", cpu),
        "digits": Variant("8x8 digits, embedded, in seconds", {**DIGITS, **digits}),
    }
