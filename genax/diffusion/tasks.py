"""A denoiser of images, its loss, samples and scores, put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import flax.linen as nn
import optax
from ml_collections import ConfigDict

from genax.core import Evaluator, Experiment, GenaxError, Loss, Phase, Sampler, Stage, Task
from genax.data import ImageData, given_or
from genax.data.within import check_range
from genax.diffusion.clipping import Clip
from genax.diffusion.conditions import dropped
from genax.diffusion.guidance import Guide, classifier_free, unguided
from genax.diffusion.likelihood import variational_bound
from genax.diffusion.networks import Networks
from genax.diffusion.ode_likelihood import ode_bits_per_dim
from genax.diffusion.predictions import EPSILON, Prediction
from genax.diffusion.process import DiscreteProcess, Process
from genax.diffusion.sampling import Solver, sample
from genax.diffusion.unet import UNet
from genax.evaluation.chosen_extractors import chosen_extractors
from genax.evaluation.examples import labels_in_turn
from genax.evaluation.fidelity import fidelity
from genax.evaluation.pictures import check_pictures, image_grid
from genax.nn.conditions import Condition, on_label, unconditional
from genax.nn.ema import ema_warmup
from genax.nn.optimizers import clip_by_norm, warmup_constant
from genax.settings import from_config

# (num_classes, null_class) -> the denoiser. It also gets out_channels if it learns variances.
MakeNetwork = Callable[..., nn.Module]
# Of each name the class of a network, and fields that no setting is named after.
Presets = Mapping[str, tuple[Callable[..., nn.Module], Mapping[str, Any]]]


def unet(config: ConfigDict, **fields: Any) -> MakeNetwork:
    """Return the function that makes the U-Net of the settings.

    fields: further fields of `UNet`.
    """
    return partial(from_config, UNet, config, **config.unet, **fields)


def network_of(config: ConfigDict, presets: Presets, **fields: Any) -> MakeNetwork:
    """Return the function that makes the network of the setting "network".

    presets: networks besides "unet", the U-Net of the settings.
    fields: further fields of the network.
    """
    if config.network == "unet":
        return unet(config, **fields)
    make, own = presets[config.network]
    return partial(from_config, make, config, **{**own, **fields})


def chain_bound(config: ConfigDict, process: DiscreteProcess) -> Callable[..., Loss]:
    """Return the score of the variational bound, as the settings describe it."""
    return partial(
        variational_bound,
        process=process,
        num_draws=config.eval_draws,
        num_levels=config.num_levels,
    )


def likelihood(
    config: ConfigDict, process: Process, prediction: Prediction, **times: Any
) -> dict[str, Callable[..., Loss]]:
    """Return the score of the likelihood by the probability flow, if the settings ask for it.

    times: the smallest and the largest time, see `ode_bits_per_dim`.
    """
    if not config.probes:
        return {}
    bits = partial(
        ode_bits_per_dim,
        process=process,
        prediction=prediction,
        num_levels=config.num_levels,
        probes=config.probes,
        tolerance=config.tolerance,
        **times,
    )
    return {"bits_per_dim": bits}


def image_experiment(
    config: ConfigDict,
    data: Any,
    process: Process,
    loss: Callable[..., Loss],
    solvers: Mapping[str, Solver],
    scores: Mapping[str, Callable[..., Loss]],
    prediction: Prediction = EPSILON,
    clip_denoised: bool | Clip = True,
    optimizer: optax.GradientTransformation | None = None,
    averages: Any = None,
    sampling: Mapping[str, Any] | None = None,
    network: MakeNetwork | None = None,
    render: Callable[..., Any] = image_grid,
    own: Callable[[ConfigDict], tuple[Any, Any]] | None = None,
    said: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> Experiment:
    """Return the experiment that trains a denoiser of images.

    data: see `given_or`; None is what the settings name.
    loss: (nets, batch, condition=) -> Loss, what is trained.
    solvers: solver of each sampler, the main one first.
    scores: (nets, batch, condition=) -> Loss, what is averaged over the test images.
    optimizer: None is Adam after a warm-up, with clipped gradients.
    averages: decay of the averaged weights, None the one of the settings after a warm-up.
    sampling: further arguments of `sample`.
    network: None is the U-Net of the settings.
    render: makes a file of samples, see `Sampler`.
    own: makes the data that the settings name; None is images.
    said: what a result says of the solver of each sampler, and of guidance beside the settings'.
    Raises GenaxError for images that no picture can be made of or that are outside [-1, 1], and for
    guidance without a network that knows both labels and their absence.
    """
    train, test = given_or(data, lambda: (own or _images)(config))
    if render is image_grid:
        check_pictures(train)
        check_range(train)
    classes = config.num_classes or None
    output = {}
    if prediction.learns_variance:
        output["out_channels"] = 2 * train.element["image"].shape[-1]
    denoiser = (network or unet(config))(
        num_classes=classes, null_class=config.label_dropout > 0, **output
    )
    _check_guidance(config)
    condition: Condition = on_label if classes else unconditional
    training = condition
    guide: Guide = unguided
    if config.label_dropout:
        null = {"label": denoiser.null_label}
        training = dropped(condition, probability=config.label_dropout, **null)
        if config.guidance != 1:
            guide = classifier_free(scale=config.guidance, **null)
    if optimizer is None:
        rate = warmup_constant(config.learning_rate, warmup_steps=config.warmup_steps)
        optimizer = optax.chain(clip_by_norm(config.gradient_clip), optax.adam(rate))
    draw = partial(
        sample,
        process=process,
        shape=train.element["image"].shape,
        prediction=prediction,
        clip_denoised=clip_denoised,
        condition=condition,
        **{"guide": guide, **(sampling or {})},
    )
    labels = labels_in_turn(classes) if classes else None
    phase = Phase("denoiser", partial(loss, condition=training), ("denoiser",), optimizer)
    evaluators = {
        name: Evaluator(partial(score, condition=condition), examples=config.eval_examples or None)
        for name, score in scores.items()
    }
    extractors = chosen_extractors(config.fidelity, train, test) if test else []
    if extractors:
        telling = any(extractor.classes for extractor in extractors)
        for name, solver in solvers.items():
            evaluators[name] = fidelity(
                partial(draw, solver=solver),
                extractors,
                train,
                test,
                config.fidelity_examples,
                train_examples=config.fidelity_train_examples or None,
                conditional=bool(classes) and telling,
                says={"guidance": config.guidance, **said.get(name, {})},
            )
    task = Task(
        networks=Networks(denoiser=denoiser),
        stages=[Stage([phase])],
        samplers={
            name: Sampler(partial(draw, solver=solver), render, labels)
            for name, solver in solvers.items()
        },
        evaluators=evaluators if test else {},
        ema={"denoiser": ema_warmup(config.ema_decay) if averages is None else averages},
    )
    return Experiment(task, train, test)


def _images(config: ConfigDict) -> tuple[ImageData, ImageData | None]:
    """Return the training images and, if there is a test split, the test images."""
    images = partial(ImageData, config.dataset, size=config.size, damaged=config.damaged)
    images = partial(images, classes=config.num_classes or None)
    train = images(split=config.train_split, flip=config.flip)
    return train, images(split=config.test_split) if config.test_split else None


def _check_guidance(config: ConfigDict) -> None:
    if (not config.num_classes and config.label_dropout) or (
        not config.label_dropout and config.guidance != 1
    ):
        raise GenaxError(
            f"config.guidance={config.guidance} with config.label_dropout={config.label_dropout} "
            f"and config.num_classes={config.num_classes}: guidance other than 1 needs labels that "
            "are dropped in training, and those need classes; set all three, or "
            "config.guidance=1 and config.label_dropout=0."
        )
