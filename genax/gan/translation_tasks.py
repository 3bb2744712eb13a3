"""A translation of images, its opponent, samples and scores, put together."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from operator import itemgetter
from typing import Any

import flax.linen as nn
import optax
from ml_collections import ConfigDict

from genax.core import Experiment, Phase, Sampler, Stage, Task
from genax.data import ImageData, given_or
from genax.data.jitter import jittered
from genax.evaluation.examples import first_examples
from genax.evaluation.likeness import likeness
from genax.evaluation.pictures import check_pictures, side_by_side
from genax.gan.game import Game
from genax.gan.losses import discriminator_loss, generator_loss
from genax.gan.networks import Networks
from genax.gan.translation import (
    Source,
    Translator,
    distance,
    distance_loss,
    enlarged,
    translate,
    weighted,
    with_source,
)
from genax.nn.optimizers import RANGES as OPTIMIZER
from genax.settings.ranges import AMOUNT, COUNT, NOT_NEGATIVE, Ranges

# What translations share. They are sampled and scored on the first test images.
DEFAULTS: dict[str, Any] = {
    "train_split": "train",
    "test_split": "test",
    # Pixels by which a training image is enlarged before its old size is cut out; 0 is no jitter.
    "jitter": 0,
    "flip": False,
    # The weights of the game and of the distance to the true image in the generator's loss. A game
    # of weight 0 is left out, and the discriminator with it.
    "game_weight": 1.0,
    "distance_weight": 100.0,
    "b1": 0.5,
    # The last steps, in which the rate falls to 0, and those before them.
    "constant_steps": 0,
    "decay_steps": 0,
    "num_samples": 16,
}
RANGES: Ranges = {
    **OPTIMIZER,
    "size": COUNT,
    "jitter": AMOUNT,
    "game_weight": NOT_NEGATIVE,
    "distance_weight": NOT_NEGATIVE,
    "remat": ("none",),
}


def images_of(config: ConfigDict, data: Any, **pictures: Any) -> tuple[Any, Any]:
    """Return the training and the test images: those given, or what the settings name.

    pictures: which of the set's pictures are read, see `ImageData`.
    """
    images = partial(
        ImageData, config.dataset, size=config.size, damaged=config.damaged, **pictures
    )
    changes = {"transform": partial(jittered, margin=config.jitter)} if config.jitter else {}

    def own() -> tuple[ImageData, ImageData]:
        train = images(split=config.train_split, flip=config.flip, **changes)
        return train, images(split=config.test_split)

    return given_or(data, own)


def translation_experiment(
    config: ConfigDict,
    train: Any,
    test: Any,
    source: Source,
    generator: nn.Module,
    discriminator: nn.Module,
    game: Game,
    optimizer: optax.GradientTransformation,
    floor: str,
    power: int = 1,
    noisy: bool = False,
) -> Experiment:
    """Return the experiment that trains a translation of `source` to the data's images.

    generator: a network from images to images.
    discriminator: gets an image and its source.
    floor: what the source is without a translation, for the result.
    power: see `distance`.
    noisy: whether samples are made as in training, see `translate`.
    """
    check_pictures(train)
    far: Mapping[str, Any] = {"weight": config.distance_weight, "power": power}
    if config.game_weight:
        played = {
            "game": weighted(game, generator=config.game_weight),
            "condition": partial(with_source, source=source),
        }
        losses = {
            "discriminator": partial(discriminator_loss, **played),
            "generator": partial(
                generator_loss, **played, penalties={"distance": partial(distance, **far)}
            ),
        }
    else:
        losses = {"generator": partial(distance_loss, source=source, **far)}
    draw = partial(translate, source=source, train=noisy)
    untranslated = partial(enlarged, source=source)
    names = tuple(name for name in ("image", "source") if name in test.element)
    sampler = Sampler(
        draw,
        partial(side_by_side, before=untranslated, after=itemgetter("image")),
        partial(first_examples, test, names=names),
    )
    task = Task(
        networks=Networks(Translator(generator), discriminator),
        stages=[Stage([Phase(name, loss, (name,), optimizer) for name, loss in losses.items()])],
        samplers={"translations": sampler},
        evaluators={"likeness": likeness(draw, untranslated, what=floor)},
    )
    return Experiment(task, train, test)
