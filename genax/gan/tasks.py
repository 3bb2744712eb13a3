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
from genax.data import ImageData, given_or
from genax.data.within import check_range
from genax.evaluation.chosen_extractors import chosen_extractors
from genax.evaluation.classifier import class_coverage
from genax.evaluation.classifier_gain import classifier_gain
from genax.evaluation.examples import labels_in_turn
from genax.evaluation.fidelity import fidelity
from genax.evaluation.pictures import check_pictures, image_grid
from genax.gan.augmentation import augment_by
from genax.gan.feature_matching import feature_matching_loss, matched_features
from genax.gan.game import Augment, Draw, Game, unchanged
from genax.gan.growing import Growth
from genax.gan.latent_tools import latent_tools
from genax.gan.losses import Penalty, discriminator_loss, generator_loss
from genax.gan.networks import Networks
from genax.gan.packing import Packed
from genax.gan.sampling import generate
from genax.gan.settings import GAMES, PENALTIES
from genax.gan.turns import Turns, after
from genax.nn.conditions import Condition, on_label, unconditional
from genax.nn.ema import ema_of_moves, ema_warmup
from genax.settings import from_config

MakeNetwork = Callable[..., nn.Module]


def image_gan(
    config: ConfigDict,
    data: Any,
    generator: MakeNetwork,
    discriminator: MakeNetwork,
    *,
    own: Callable[[ConfigDict], tuple[Any, Any]] | None = None,
    draw: Draw = jax.random.normal,
    inputs: Condition = unconditional,
    sampled_inputs: Condition | None = None,
    augment: Augment | None = None,
    growth: Growth | None = None,
    samples: Callable[..., Any] = generate,
    evaluators: Mapping[str, Evaluator] | None = None,
    tools: Callable[..., Mapping[str, Sampler]] = latent_tools,
    **played: Any,
) -> Experiment:
    """Return the experiment that trains a GAN of images with the settings of `DEFAULTS`.

    data: see `given_or`; None is what the settings name.
    generator, discriminator: make a network of the settings that its fields are named after. The
      generator has a field `channels`; both have `num_classes`, None or a number, if they take
      labels.
    own: makes the data that the settings name; None is images.
    samples: (nets, batch, draw, condition, inputs) -> the images that are shown and scored.
    evaluators: scores besides those of the settings.
    draw, inputs, growth, played: see `play_out`.
    sampled_inputs: what samples get in place of `inputs`; None is the same.
    augment: what the discriminator sees of images; None is the augmentation of the settings.
    tools: makes the samplers of the setting `tools`, see `latent_tools`.
    Raises GenaxError for images that no picture can be made of or that are outside [-1, 1], for
    labels that the data or a network does not take, and for a batch that packs do not divide.
    """
    train, test = given_or(data, lambda: (own or _images)(config))
    check_pictures(train)
    check_range(train)
    channels = train.element["image"].shape[-1]
    networks = Networks(
        generator=network_of(generator, config, channels=channels),
        discriminator=network_of(discriminator, config),
    )
    if config.num_classes and "label" not in train.element:
        raise GenaxError(
            f"config.num_classes={config.num_classes}, but examples of {train} have no label: "
            "choose a labelled set, or set config.num_classes=0."
        )
    condition: Condition = on_label if config.num_classes else unconditional
    given = inputs if sampled_inputs is None else sampled_inputs
    drawn: dict[str, Any] = {"draw": draw, "condition": condition, "inputs": given}
    images: Callable[..., Any] = partial(samples, **drawn)
    labels = labels_in_turn(config.num_classes) if config.num_classes else None
    read, shown = train, tools(train, test, labels, **drawn) if config.tools else {}
    if growth is not None:
        shown = growth.tools(shown)
        images = growth.images(partial(samples, draw=draw, inputs=given), condition)
        read = growth.data(train)
    task = play_out(
        config,
        networks,
        draw=draw,
        condition=condition,
        inputs=inputs,
        augment=augment or augment_by(config.augmentation),
        growth=growth,
        samplers={
            "images": Sampler(images, image_grid, labels),
            **shown,
        },
        evaluators={**image_scores(config, images, train, test), **(evaluators or {})},
        **played,
    )
    return Experiment(task, read, test if task.evaluators else None)


def play_out(
    config: ConfigDict,
    networks: Networks,
    *,
    game: Game | None = None,
    draw: Draw = jax.random.normal,
    condition: Condition = unconditional,
    augment: Augment = unchanged,
    inputs: Condition = unconditional,
    penalties: Mapping[str, Penalty] | None = None,
    generator_penalties: Mapping[str, Penalty] | None = None,
    optimizers: Mapping[str, optax.GradientTransformation] | None = None,
    turns: int | Turns | None = None,
    generators_loss: Callable[..., Any] = generator_loss,
    penalty_weight: Callable[[jax.Array], jax.Array] | None = None,
    averages: Mapping[str, Any] | None = None,
    match_features: bool = False,
    together: bool = False,
    stage: Callable[..., Stage] | None = None,
    growth: Growth | None = None,
    **parts: Any,
) -> Task:
    """Return the task of two players with the settings of `PLAYERS`.

    game: None is that of the settings.
    draw, condition, augment, inputs: see `play`.
    penalties, generator_penalties: terms beside each player's objective and the settings' penalty.
    optimizers: by player, "discriminator" or "generator"; without one it has the settings' Adam.
    turns: steps at which the generator moves; None is after each `config.critic_steps`.
    generators_loss: (nets, batch, ...) with the arguments of `generator_loss`.
    penalty_weight: weight of the settings' penalty by the step; None is that of the settings.
    averages: decays by path; None is the generator's of the settings, after a warm-up, for each of
      its moves.
    match_features: whether the generator minimises `feature_matching_loss` in place of the game's
      objective and of its penalties.
    together: see `Stage`.
    stage: makes another game of the arguments that all losses share.
    growth: how networks grow, in stages of their own; they then get `size` and `share` too.
    parts: further fields of `Task`, such as samplers.
    Raises GenaxError for a batch that packs do not divide.
    """
    if config.batch_size % config.pack:
        raise GenaxError(
            f"config.batch_size={config.batch_size} does not divide into packs of "
            f"config.pack={config.pack} samples."
        )
    if config.pack > 1:
        networks = networks.clone(discriminator=Packed(networks.discriminator, config.pack))
    shared: dict[str, Any] = {
        "game": game or GAMES[config.game],
        "draw": draw,
        "condition": condition,
        "augment": augment,
        "inputs": inputs,
    }
    terms = {**_chosen_penalties(config, penalty_weight), **(penalties or {})}
    critic = partial(discriminator_loss, penalties=terms, **shared)
    maker: Callable[..., Any] = partial(generators_loss, penalties=generator_penalties, **shared)
    embed = None
    if match_features:
        maker = feature_matching_loss
        embed = partial(matched_features, draw=draw, condition=condition, augment=augment)

    def phase(player: str, loss: Callable[..., Any], every: int | Turns, **own: Any) -> Phase:
        chosen = (optimizers or {}).get(player)
        adam = optax.adam(config.learning_rate, b1=config.b1, b2=config.b2)
        return Phase(player, loss, (player,), chosen or adam, every, **own)

    every = after(config.critic_steps) if turns is None else turns
    if averages is None:
        decay = ema_of_moves(ema_warmup(config.ema), every, config.critic_steps)
        averages = {"generator": decay} if config.ema else {}
    phases = [phase("discriminator", critic, 1), phase("generator", maker, every, embed=embed)]
    stages = [Stage(phases, together=together) if stage is None else stage(**shared)]
    if growth is not None:
        stages = growth.stages(phases, condition)
    return Task(networks, stages, ema=averages, **parts)


def _chosen_penalties(
    config: ConfigDict, weight_at: Callable[[jax.Array], jax.Array] | None
) -> dict[str, Penalty]:
    """Return the penalties of the settings, with a constant weight or one of the step."""

    def weighted(penalty: Callable[..., Any]) -> Penalty:
        if weight_at is None:
            own = {"weight": config.penalty_weight} if config.penalty_weight else {}
            return partial(penalty, **own)
        return lambda nets, batch, found: penalty(
            nets, batch, found, weight=weight_at(batch["step"])
        )

    return {name: weighted(penalty) for name, penalty in PENALTIES[config.penalty].items()}


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
    if config.gain_samples:
        if not config.num_classes:
            raise GenaxError(
                f"config.gain_samples={config.gain_samples} teaches a classifier labelled samples, "
                "but config.num_classes=0 makes samples without a label; set num_classes, or "
                "config.gain_samples=0."
            )
        found["gain"] = classifier_gain(images, train, test, config.gain_samples)
    extractors = chosen_extractors(config.fidelity, train, test)
    if extractors:
        telling = any(extractor.classes for extractor in extractors)
        found["images"] = fidelity(
            images,
            extractors,
            train,
            test,
            config.fidelity_examples,
            train_examples=config.fidelity_train_examples or None,
            conditional=bool(config.num_classes) and telling,
            says={"sampler": "images"},
        )
    return found


def network_of(make: MakeNetwork, config: ConfigDict, **own: Any) -> nn.Module:
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
