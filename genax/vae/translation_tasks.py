"""A conditional VAE of pairs of images, its samples and scores, put together."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import itemgetter
from typing import Any

import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from genax.core import Evaluator, Experiment, Phase, Sampler, Stage, Task
from genax.data import ImageData, given_or
from genax.data.within import check_range
from genax.evaluation.examples import first_examples
from genax.evaluation.likeness import likeness
from genax.evaluation.pictures import check_pictures
from genax.nn.optimizers import RANGES as OPTIMIZER
from genax.nn.optimizers import warmup_constant
from genax.settings import from_config
from genax.settings.ranges import AMOUNT, COUNT, NOT_NEGATIVE, POSITIVE, Ranges
from genax.vae.convolutional import ConvEncoder
from genax.vae.translation import (
    PairEncoder,
    SourceDecoder,
    TranslationNetworks,
    draw_translations,
    translate,
    translation_elbo,
    translation_elbo_loss,
    translations,
    variety,
)

PAIRS: dict[str, Any] = {
    # Whether half of the training pairs are mirrored.
    "flip": False,
    # Channels after each halving of the resolution, and a layer behind them.
    "widths": (32, 64, 128),
    "hidden": (256,),
    "latent_size": 32,
    # Of a pixel, for images from -1 to 1.
    "deviation": 0.3,
    # The weight of the divergence from the prior, and the steps in which it grows from 0.
    "beta": 1.0,
    "beta_warmup_steps": 1_000,
    "learning_rate": 1e-3,
    "batch_size": 32,
    "steps": 5_000,
    "log_every": 50,
    "checkpoint_every": 1_000,
    "sample_every": 1_000,
    "num_samples": 16,
}
RANGES: Ranges = {
    **OPTIMIZER,
    **dict.fromkeys(("size", "widths", "hidden", "latent_size"), COUNT),
    "deviation": POSITIVE,
    "beta": NOT_NEGATIVE,
    "beta_warmup_steps": AMOUNT,
    "remat": ("none",),
}


def translation_experiment(config: ConfigDict, data: Any) -> Experiment:
    """Return the experiment that trains a conditional VAE from a source to its image.

    Its settings are `PAIRS`, and "dataset", "image", "source" and "size": see `ImageData`.

    data: see `given_or`; None is what the settings name.
    """

    def pairs() -> tuple[ImageData, ImageData]:
        read = partial(from_config, ImageData, config, name=config.dataset)
        return read(split="train"), read(split="test", flip=False)

    train, test = given_or(data, pairs)
    check_pictures(train)
    check_range(train)
    channels = train.element["image"].shape[-1]
    parts: dict[str, Callable[..., Any]] = {
        "encoder": PairEncoder,
        "prior": ConvEncoder,
        "decoder": partial(SourceDecoder, channels=channels),
    }
    dtype = jnp.dtype(config.dtype)
    networks = {name: from_config(part, config, dtype=dtype) for name, part in parts.items()}
    beta = warmup_constant(config.beta, config.beta_warmup_steps)
    loss = partial(translation_elbo_loss, beta=beta)
    shown = partial(first_examples, test, names=("image", "source"))
    task = Task(
        networks=TranslationNetworks(**networks),
        stages=[Stage([Phase("elbo", loss, tuple(networks), optax.adam(config.learning_rate))])],
        samplers={"translations": Sampler(translations, draw_translations, shown)},
        evaluators={
            "elbo": Evaluator(translation_elbo),
            "likeness": likeness(translate, itemgetter("source"), what="the sources as they are"),
            "variety": variety(),
        },
    )
    return Experiment(task, train, test)
