"""A GAN of images, its game, samples and scores, put together."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import optax
from ml_collections import ConfigDict

from genax.core import Evaluator, Experiment, GenaxError, Phase, Sampler, Stage, Task
from genax.core.task import LossFn
from genax.data import ImageData, given_or
from genax.evaluation.classifier import class_coverage
from genax.evaluation.examples import labels_in_turn
from genax.evaluation.fidelity import fidelity
from genax.evaluation.image_classifier import image_classifier
from genax.evaluation.inception import inception
from genax.evaluation.pictures import check_pictures, image_grid
from genax.gan.augmentation import augment_by
from genax.gan.game import Augment, Draw
from genax.gan.growing import Growth
from genax.gan.latent_tools import latent_tools
from genax.gan.losses import Penalty, discriminator_loss, generator_loss
from genax.gan.networks import Networks
from genax.gan.packing import Packed
from genax.gan.sampling import generate
from genax.gan.settings import GAMES, SCORES
from genax.gan.turns import Turns, after
from genax.nn.conditions import Condition, on_label, unconditional
from genax.nn.ema import ema_warmup
from genax.settings import from_config

MakeNetwork = Callable[..., nn.Module]


def image_gan(
    config: ConfigDict,
    data: Any,
    generator: MakeNetwork,
    discriminator: MakeNetwork,
    *,
    penalties: Mapping[str, Penalty] | None = None,
    generator_penalties: Mapping[str, Penalty] | None = None,
    optimizers: Mapping[str, optax.GradientTransformation] | None = None,
    draw: Draw = jax.random.normal,
    turns: int | Turns | None = None,
    generators_loss: Callable[..., Any] = generator_loss,
    averages: Mapping[str, Any] | None = None,
    own: Callable[[ConfigDict], tuple[Any, Any]] | None = None,
    evaluators: Mapping[str, Evaluator] | None = None,
    growth: Growth | None = None,
    inputs: Condition = unconditional,
    sampled_inputs: Condition | None = None,
    augment: Augment | None = None,
    stage: Callable[..., Stage] | None = None,
    tools: Callable[..., Mapping[str, Sampler]] = latent_tools,
) -> Experiment:
    """Return the experiment that trains a GAN of images with the settings of `DEFAULTS`.

    data: see `given_or`; None is what the settings name.
    generator, discriminator: make a network of the settings that its fields are named after. The
      generator has a field `channels`; both have `num_classes`, None or a number, if they take
      labels.
    penalties, generator_penalties: terms beside each player's objective.
    optimizers: by player, "discriminator" or "generator"; without one it has the settings' Adam.
    draw: of latents.
    turns: steps at which the generator moves; None is after each `config.critic_steps`.
    generators_loss: (nets, batch, ...) with the arguments of `generator_loss`.
    averages: decays by path, None the one of the settings after a warm-up.
    own: makes the data that the settings name; None is images.
    evaluators: scores besides those of the settings.
    growth: how networks grow, in stages of their own; they then get `size` and `share` too.
    inputs: see `play`. sampled_inputs: those of samples, None the same.
    augment: what the discriminator sees of images, None the augmentation of the settings.
    stage: makes the game of the arguments that all losses share; None is one phase a player.
    tools: makes the samplers of the setting `tools`, see `latent_tools`.
    Raises GenaxError for images that no picture can be made of, for labels that the data or a
    network does not take, and for a batch that packs do not divide.
    """
    train, test = given_or(data, lambda: (own or _images)(config))
    check_pictures(train)
    channels = train.element["image"].shape[-1]
    networks = Networks(
        generator=_network(generator, config, channels=channels),
        discriminator=_network(discriminator, config),
    )
    if config.pack > 1:
        networks = networks.clone(discriminator=Packed(networks.discriminator, config.pack))
    classes = config.num_classes or None
    _check_batch(config, train)
    condition: Condition = on_label if classes else unconditional
    shared: dict[str, Any] = {
        "game": GAMES[config.game],
        "draw": draw,
        "condition": condition,
        "augment": augment or augment_by(config.augmentation),
        "inputs": inputs,
    }
    every = after(config.critic_steps) if turns is None else turns
    phases = [
        _phase(
            config,
            "discriminator",
            partial(discriminator_loss, penalties=penalties, **shared),
            optimizers,
        ),
        _phase(
            config,
            "generator",
            partial(generators_loss, penalties=generator_penalties, **shared),
            optimizers,
            every,
        ),
    ]
    drawn: dict[str, Any] = {
        "draw": draw,
        "condition": condition,
        "inputs": inputs if sampled_inputs is None else sampled_inputs,
    }
    images: Callable[..., Any] = partial(generate, **drawn)
    stages, datas = [Stage(phases) if stage is None else stage(**shared)], train
    if growth is not None:
        stages, datas = growth.stages(phases, condition), growth.data(train)
        images = growth.images(partial(generate, draw=draw, inputs=drawn["inputs"]), condition)
    labels = labels_in_turn(classes) if classes else None
    if averages is None:
        averages = {"generator": ema_warmup(config.ema)} if config.ema else {}
    task = Task(
        networks=networks,
        stages=stages,
        samplers={
            "images": Sampler(images, image_grid, labels),
            **(tools(test or train, labels, **drawn) if config.tools else {}),
        },
        evaluators={**image_scores(config, images, train, test), **(evaluators or {})},
        ema=averages,
    )
    return Experiment(task, datas, test if task.evaluators else None)


def image_scores(
    config: ConfigDict, images: Callable[..., Any], train: Any, test: Any
) -> dict[str, Evaluator]:
    """Return the evaluators that the settings ask for; without test images there are none.

    images: a sampler's function, (nets, batch) -> [b, h, w, c] in [-1, 1].
    """
    if not test:
        return {}
    found: dict[str, Evaluator] = {}
    if config.coverage_samples:
        found["classes"] = class_coverage(images, train, test, samples=config.coverage_samples)
    extractors = [
        inception() if name == "inception" else image_classifier(train, test)
        for name in SCORES[config.fidelity]
    ]
    if extractors:
        found["images"] = fidelity(
            images,
            extractors,
            train,
            test,
            config.fidelity_examples,
            conditional=bool(config.num_classes),
            says={"sampler": "images"},
        )
    return found


def adam(config: ConfigDict) -> optax.GradientTransformation:
    """Return the Adam of the settings."""
    return optax.adam(config.learning_rate, b1=config.b1, b2=config.b2)


def _phase(
    config: ConfigDict,
    player: str,
    loss: LossFn,
    optimizers: Mapping[str, optax.GradientTransformation] | None,
    every: int | Turns = 1,
) -> Phase:
    optimizer = (optimizers or {}).get(player) or adam(config)
    return Phase(player, loss, (player,), optimizer, every)


def _network(make: MakeNetwork, config: ConfigDict, **own: Any) -> nn.Module:
    """Return a network of the settings. Raises GenaxError if it takes no labels and gets some."""
    classes = config.num_classes or None
    if "num_classes" in inspect.signature(make).parameters:
        own["num_classes"] = classes
    elif classes:
        name = getattr(make, "__name__", make)
        raise GenaxError(
            f"config.num_classes={classes}, but {name} takes no labels; choose networks that do, "
            "or set config.num_classes=0."
        )
    return from_config(make, config, **own)


def _images(config: ConfigDict) -> tuple[ImageData, ImageData | None]:
    """Return the training images and, if there is a test split, the test images."""
    images = partial(ImageData, config.dataset, size=config.image_size, damaged=config.damaged)
    images = partial(images, classes=config.num_classes or None)
    train = images(split=config.train_split, flip=config.flip)
    return train, images(split=config.test_split) if config.test_split else None


def _check_batch(config: ConfigDict, train: Any) -> None:
    if config.batch_size % config.pack:
        raise GenaxError(
            f"config.batch_size={config.batch_size} does not divide into packs of "
            f"config.pack={config.pack} samples."
        )
    if config.num_classes and "label" not in train.element:
        raise GenaxError(
            f"config.num_classes={config.num_classes}, but examples of {train} have no label: "
            "choose a labelled set, or set config.num_classes=0."
        )
