"""A translation of images, its opponent, samples and scores, put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from operator import itemgetter
from types import MappingProxyType
from typing import Any

import flax.linen as nn
import optax
from ml_collections import ConfigDict

from genax.core import Evaluator, Experiment, Phase, Sampler, Stage, Task
from genax.data import ImageData, given_or
from genax.data.jitter import jittered
from genax.data.within import check_range
from genax.evaluation.chosen_extractors import chosen_extractors
from genax.evaluation.examples import first_examples
from genax.evaluation.fidelity import fidelity
from genax.evaluation.likeness import likeness
from genax.evaluation.pictures import check_pictures, side_by_side
from genax.gan.networks import Networks
from genax.gan.settings import GAMES
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
from genax.nn.ema import ema_warmup
from genax.nn.optimizers import constant_linear
from genax.settings import from_config

# Makes a network of the settings that its fields are named after.
MakeNetwork = Callable[..., nn.Module]


def translation_experiment(
    config: ConfigDict,
    data: Any,
    generator: MakeNetwork,
    discriminator: MakeNetwork,
    source: Source,
    floor: str,
    *,
    pictures: Mapping[str, Any] = MappingProxyType({}),
    noisy: bool = False,
    pace: float = 1.0,
) -> Experiment:
    """Return the experiment that trains a translation of `source` to the data's images.

    Its settings are `PAIRS` of `genax.gan.translation_settings`.

    data: see `given_or`; None is what the settings name.
    generator: makes a network from images to images, of so many `channels`.
    discriminator: makes one that gets an image and its source.
    floor: what the source is without a translation, for the result.
    pictures: which of the set's pictures are read, see `ImageData`.
    noisy: whether samples are made as in training, see `translate`.
    pace: weight of the discriminator's objective.
    """
    train, test = given_or(data, lambda: _images(config, pictures))
    check_pictures(train)
    check_range(train)
    far = {"weight": config.distance_weight, "power": config.power}
    draw = partial(translate, source=source, train=noisy)
    untranslated = partial(enlarged, source=source)
    names = tuple(name for name in ("image", "source") if name in test.element)
    rate = constant_linear(config.learning_rate, config.constant_steps, config.decay_steps)
    adam = optax.adam(rate, b1=config.b1, b2=config.b2)
    channels = train.element["image"].shape[-1]
    networks = Networks(
        Translator(from_config(generator, config, channels=channels)),
        from_config(discriminator, config),
    )
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
        averages = {"generator": ema_warmup(config.ema)} if config.ema else {}
        task = Task(networks, [Stage([phase])], ema=averages, **parts)
    return Experiment(task, train, test)


def _images(config: ConfigDict, pictures: Mapping[str, Any]) -> tuple[ImageData, ImageData]:
    """Return the training and the test images that the settings name."""
    images = partial(
        ImageData, config.dataset, size=config.size, damaged=config.damaged, **pictures
    )
    jitter = partial(jittered, margin=config.jitter) if config.jitter else None
    train = images(split=config.train_split, flip=config.flip, transform=jitter)
    return train, images(split=config.test_split)


def _fidelity(config: ConfigDict, draw: Any, train: Any, test: Any) -> dict[str, Evaluator]:
    extractors = chosen_extractors(config.fidelity, train, test)
    if not extractors:
        return {}
    return {"images": fidelity(draw, extractors, train, test, config.fidelity_examples)}
