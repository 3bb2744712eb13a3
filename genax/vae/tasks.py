"""An autoencoder of images, its objective, samples and scores, put together."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import optax
from jax.nn.initializers import Initializer
from ml_collections import ConfigDict

from genax.core import Evaluator, Experiment, GenaxError, Phase, Sampler, Stage, Task
from genax.data import ImageData, given_or
from genax.data.binarised import Binarised
from genax.data.within import Within
from genax.evaluation.examples import first_examples, labels_in_turn
from genax.evaluation.pictures import check_pictures, image_grid
from genax.nn.activations import ACTIVATIONS
from genax.nn.conditions import Condition, on_label, unconditional
from genax.nn.optimizers import warmup_constant
from genax.settings import from_config
from genax.vae.active_units import active_units
from genax.vae.autoencoders import MLPSize
from genax.vae.convolutional import ConvSize
from genax.vae.importance import importance_weighted_bound
from genax.vae.likelihoods import Likelihood, likelihood_of
from genax.vae.networks import Networks
from genax.vae.objectives import elbo, elbo_loss, elbo_terms, free_bits_loss
from genax.vae.sampling import reconstruct, sample_prior
from genax.vae.uses import factor_names, use_samplers, use_scores

# (condition of both networks, training data) -> what is minimised.
MakeStage = Callable[[Condition, Any], Stage]


def autoencoder(
    config: ConfigDict,
    data: Any,
    stage: MakeStage,
    *,
    kernel_init: Initializer = nn.initializers.lecun_normal(),  # noqa: B008
    beside: Callable[[Networks], nn.Module] = lambda networks: networks,
) -> Experiment:
    """Return the experiment that trains an autoencoder with the settings of `DEFAULTS`.

    Scores are the ELBO, the importance-weighted bound and the number of active units, of test
    images, and what else the settings ask for: see `USES`.

    data: see `given_or`; None is what the settings name.
    kernel_init: of both networks.
    beside: (encoder and decoder) -> the task's networks, with others that the stage trains.
    Raises GenaxError for images that no picture can be made of, for labels that the data does not
    have, and for a likelihood that is not one of such images.
    """
    likelihood = likelihood_of(
        config.likelihood, config.binarisation, config.deviation, config.levels
    )
    factors = factor_names(config.dataset) if config.factor_examples and data is None else ()
    train, test = images(config, data, factors)
    check_pictures(train)
    if config.num_classes and "label" not in train.element:
        raise GenaxError(
            f"config.num_classes={config.num_classes}, but examples of {train} have no label: "
            "choose a labelled set, or set config.num_classes=0."
        )
    condition: Condition = on_label if config.num_classes else unconditional
    size = size_of(config, train.element["image"].shape, likelihood)
    names = ("image", "label") if config.num_classes else ("image",)
    shown = partial(_first, train if test is None else test, names)
    labels = labels_in_turn(config.num_classes) if config.num_classes else None
    said = {"likelihood": config.likelihood, "binarisation": config.binarisation}
    if config.likelihood == "discretised_logistic":
        said["levels"] = config.levels
    bound = partial(
        importance_weighted_bound,
        samples=config.importance_samples,
        chunk=config.decode_at_a_time,
        condition=condition,
    )
    scores = {
        "elbo": Evaluator(partial(elbo, condition=condition), says=said),
        "importance_weighted_bound": Evaluator(
            bound, says={**said, "samples": config.importance_samples}
        ),
        "latents": active_units(condition),
    }
    uses = use_scores(config, train, test, condition, factors)
    task = Task(
        networks=beside(size.networks(kernel_init=kernel_init, dtype=jnp.dtype(config.dtype))),
        stages=[stage(condition, train)],
        samplers={
            "images": Sampler(partial(sample_prior, condition=condition), image_grid, labels),
            "reconstruction": Sampler(partial(reconstruct, condition=condition), image_grid, shown),
            **use_samplers(config, train if test is None else test, condition),
        },
        evaluators=uses if test is None else scores | uses,
    )
    return Experiment(task, train, test)


def elbo_stage(
    config: ConfigDict,
    condition: Condition,
    data: Any,
    optimizer: optax.GradientTransformation | None = None,
) -> Stage:
    """Return the stage that maximises the ELBO with the settings of `ELBO`.

    optimizer: None is `adam`.
    """
    beta = warmup_constant(config.beta, config.beta_warmup_steps)
    given: dict[str, Any] = {"samples": config.samples, "condition": condition}
    loss: Callable[..., Any] = partial(elbo_loss, beta=beta, **given)
    embed = None
    if config.free_bits:
        embed = partial(elbo_terms, **given)
        loss = partial(free_bits_loss, free_bits=config.free_bits, beta=beta)
    return Stage(
        [Phase("elbo", loss, ("encoder", "decoder"), optimizer or adam(config), embed=embed)]
    )


def adam(
    config: ConfigDict, rate: optax.ScalarOrSchedule | None = None
) -> optax.GradientTransformation:
    """Return the settings' Adam, perhaps with a rate that changes."""
    rate = config.learning_rate if rate is None else rate
    return optax.adam(rate, config.b1, config.b2, config.epsilon)


def size_of(
    config: ConfigDict, shape: tuple[int, int, int], likelihood: Likelihood
) -> MLPSize | ConvSize:
    """Return the sizes of the settings' networks for images of a shape.

    Raises GenaxError for settings that networks of convolutions do not have.
    """
    own: dict[str, Any] = {
        "shape": shape,
        "likelihood": likelihood,
        "activation": ACTIVATIONS[config.activation],
    }
    decoder = ACTIVATIONS[config.decoder_activation] if config.decoder_activation else None
    if not config.widths:
        return from_config(MLPSize, config, decoder_activation=decoder, **own)
    if config.decoder_hidden or decoder:
        raise GenaxError(
            f"config.widths={config.widths} asks for convolutions, whose decoder mirrors the "
            "encoder; leave out config.decoder_hidden and config.decoder_activation."
        )
    return from_config(ConvSize, config, **own)


def images(config: ConfigDict, data: Any = None, factors: tuple[str, ...] = ()) -> tuple[Any, Any]:
    """Return the training and the test images in [0, 1], binarised as the settings ask for.

    Without a test split there are no test images, but None.

    data: see `given_or`; None is what the settings name.
    factors: see `ImageData`.
    """

    def read(split: str) -> ImageData:
        return ImageData(
            config.dataset,
            split,
            size=config.size or None,
            range=(0.0, 1.0),
            classes=config.num_classes or None,
            factors=factors,
            damaged=config.damaged,
        )

    def own() -> tuple[Any, Any]:
        return read(config.train_split), read(config.test_split) if config.test_split else None

    def prepared(one: Any) -> Any:
        if one is None:
            return None
        if config.binarisation != "none":
            return Binarised(one, config.binarisation, config.threshold)
        return one if data is None else Within(one)

    train, test = given_or(data, own)
    first = prepared(train)
    return first, first if test is train else prepared(test)


def _first(data: Any, names: tuple[str, ...], num: int, workdir: Any) -> dict[str, Any]:
    return first_examples(data, num, workdir, names)
