"""A translation of images, its opponent, samples and scores, put together."""

from __future__ import annotations

from functools import partial
from operator import itemgetter
from typing import Any

import flax.linen as nn
import optax
from ml_collections import ConfigDict

from genax.core import Evaluator, Experiment, Phase, Sampler, Stage, Task
from genax.data import ImageData, given_or
from genax.data.jitter import jittered
from genax.evaluation.chosen_extractors import chosen_extractors
from genax.evaluation.examples import first_examples
from genax.evaluation.fidelity import fidelity
from genax.evaluation.likeness import likeness
from genax.evaluation.pictures import check_pictures, side_by_side
from genax.gan.networks import Networks
from genax.gan.settings import GAMES, PLAYERS
from genax.gan.settings import RANGES as GAN
from genax.gan.tasks import play_out
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
from genax.nn.optimizers import constant_linear
from genax.settings.ranges import AMOUNT, COUNT, NOT_NEGATIVE, Range, Ranges

# What translations share. They are sampled and scored on test images.
DEFAULTS: dict[str, Any] = {
    **{name: value for name, value in PLAYERS.items() if name != "latent_size"},
    "train_split": "train",
    "test_split": "test",
    "size": 32,
    # Pixels by which a training image is enlarged before its old size is cut out; 0 is no jitter.
    "jitter": 0,
    "flip": False,
    # The weights of the game and of the distance to the true image in the generator's loss. A game
    # of weight 0 is left out, and the discriminator with it.
    "game_weight": 1.0,
    "distance_weight": 100.0,
    # The steps before the rate falls, and those in which it falls to 0; 0 of these is no fall.
    "constant_steps": 0,
    "decay_steps": 0,
    "ema": 0.0,
    # By which features translations are compared with test images, and how many of them.
    "fidelity": "none",
    "fidelity_examples": 10_000,
    "num_samples": 16,
}
RANGES: Ranges = {
    **GAN,
    "size": COUNT,
    "jitter": AMOUNT,
    "game_weight": NOT_NEGATIVE,
    "distance_weight": NOT_NEGATIVE,
    # A discriminator that sees a source scores each image by itself.
    "pack": Range(least=1, most=1, whole=True),
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
    floor: str,
    power: int = 1,
    noisy: bool = False,
    pace: float = 1.0,
) -> Experiment:
    """Return the experiment that trains a translation of `source` to the data's images.

    generator: a network from images to images.
    discriminator: gets an image and its source.
    floor: what the source is without a translation, for the result.
    power: see `distance`.
    noisy: whether samples are made as in training, see `translate`.
    pace: weight of the discriminator's objective.
    """
    check_pictures(train)
    far = {"weight": config.distance_weight, "power": power}
    draw = partial(translate, source=source, train=noisy)
    untranslated = partial(enlarged, source=source)
    names = tuple(name for name in ("image", "source") if name in test.element)
    rate = constant_linear(config.learning_rate, config.constant_steps, config.decay_steps)
    adam = optax.adam(rate, b1=config.b1, b2=config.b2)
    networks = Networks(Translator(generator), discriminator)
    parts: dict[str, Any] = {
        "samplers": {
            "translations": Sampler(
                draw,
                partial(side_by_side, before=untranslated, after=itemgetter("image")),
                partial(first_examples, test, names=names),
            )
        },
        "evaluators": {
            "likeness": likeness(draw, untranslated, what=floor),
            **_fidelity(config, draw, train, test),
        },
    }
    if config.game_weight:
        task = play_out(
            config,
            networks,
            game=weighted(GAMES[config.game], pace, config.game_weight),
            condition=partial(with_source, source=source),
            generator_penalties={"distance": partial(distance, **far)},
            optimizers={"discriminator": adam, "generator": adam},
            **parts,
        )
    else:
        alone = partial(distance_loss, source=source, **far)
        phase = Phase("generator", alone, ("generator",), adam)
        task = Task(networks, [Stage([phase])], **parts)
    return Experiment(task, train, test)


def _fidelity(config: ConfigDict, draw: Any, train: Any, test: Any) -> dict[str, Evaluator]:
    extractors = chosen_extractors(config.fidelity, train, test)
    if not extractors:
        return {}
    return {"images": fidelity(draw, extractors, train, test, config.fidelity_examples)}
