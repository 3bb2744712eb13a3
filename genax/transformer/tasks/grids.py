"""Loss and samples of grids of whole numbers, and the settings and tasks of such decoders."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from ml_collections import ConfigDict

from genax.core import (
    Evaluator,
    GenaxError,
    Loss,
    Phase,
    Sampler,
    Stage,
    Task,
    example_keys,
)
from genax.core.task import Batch
from genax.evaluation.examples import labels_in_turn
from genax.evaluation.pictures import image_grid
from genax.nn.conditions import Condition, on_label, unconditional
from genax.nn.optimizers import adamw, warmup_cosine
from genax.nn.placement import PARTITION_RULES
from genax.settings import from_config
from genax.transformer.decoding import generate
from genax.transformer.settings import SHORT_RUN, SMALL_NETWORK
from genax.transformer.tasks.losses import next_token_loss

# A decoder of grids, how it is trained and how it is sampled.
DEFAULTS: dict[str, Any] = {
    **SHORT_RUN,
    **{name: value for name, value in SMALL_NETWORK.items() if name != "context"},
    "num_layers": 4,
    "dropout": 0.0,
    # "auto", "xla", "ring", "cudnn" (GPU) or "splash" (TPU): see `genax.nn.attention`.
    "attention": "auto",
    # The learning rate rises for warmup_steps, falls to final_learning_rate at decay_steps and
    # stays.
    "learning_rate": 1e-3,
    "final_learning_rate": 1e-4,
    "warmup_steps": 100,
    "decay_steps": 10_000,
    "weight_decay": 0.1,
    "b2": 0.99,
    "clip": 1.0,
    # How samples are drawn: see `genax.transformer.decoding`. A top_k of 0 is all values.
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    # Classes of the labels that grids belong to; 0 is no labels.
    "num_classes": 0,
    "batch_size": 64,
    "steps": 10_000,
    "log_every": 100,
    "checkpoint_every": 5_000,
    "sample_every": 5_000,
}
# A network small enough for a test.
SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "num_layers": 2,
    "decay_steps": 1_000,
    "steps": 1_000,
}
# This project's own, for a slice of a TPU: 38 million parameters.
LARGE: dict[str, Any] = {
    "hidden_size": 512,
    "num_layers": 12,
    "num_heads": 8,
    "scan_layers": True,
    "dtype": "bfloat16",
    "dropout": 0.1,
    "learning_rate": 3e-4,
    "final_learning_rate": 3e-5,
    "warmup_steps": 2_000,
    "decay_steps": 200_000,
    "batch_size": 128,
    "steps": 200_000,
    "steps_per_call": 1,
}
# The most numbers that one token may stand for.
_MOST_VALUES = 2**16


def grid_task(
    config: ConfigDict,
    networks: nn.Module,
    loss: Callable[..., Loss],
    draw: Callable[..., Array],
    scores: Mapping[str, Callable[..., Loss]],
    says: Mapping[str, Any],
    **fields: Any,
) -> Task:
    """Return the task of learning grids by AdamW with a warm-up and a cosine, and drawing images.

    networks: with a `GridDecoder` as the decoder.
    loss, scores: (nets, batch, condition=) -> Loss; what is trained, and what is averaged over
      test images.
    draw: (nets, batch, condition=, temperature=, top_k=, top_p=) -> images in [-1, 1].
    says: see `Evaluator`.
    fields: further fields of the task.
    """
    condition = on_label if config.num_classes else unconditional
    schedule = from_config(
        warmup_cosine, config, peak=config.learning_rate, final=config.final_learning_rate
    )
    optimizer = from_config(adamw, config, learning_rate=schedule)
    drawn = {"temperature": config.temperature, "top_k": config.top_k or None}
    drawn |= {"top_p": config.top_p, "condition": condition}
    labels = labels_in_turn(config.num_classes) if config.num_classes else None
    return Task(
        networks,
        [Stage([Phase("decoder", partial(loss, condition=condition), ("decoder",), optimizer)])],
        samplers={"images": Sampler(partial(draw, **drawn), image_grid, labels)},
        evaluators={
            name: Evaluator(partial(score, condition=condition), says=says)
            for name, score in scores.items()
        },
        rules=PARTITION_RULES,
        **fields,
    )


def first_tokens(
    nets: nn.Module, batch: Batch, condition: Condition = unconditional
) -> Int[Array, "b 1"]:
    """Return the token that each grid begins with: of its "label", if it has one."""
    label = condition(nets, batch).get("label", jnp.zeros(len(batch["index"]), jnp.int32))
    return (nets.decoder.num_values + label.astype(jnp.int32))[:, None]


def grid_loss(
    nets: nn.Module,
    batch: Batch,
    values: Int[Array, "b t"],
    condition: Condition = unconditional,
    train: bool = True,
) -> Loss:
    """Loss -log p(value | values before it) in nats, [b, t]: Chen et al. 2020, eq. 1.

    The sum over a grid is its exact negative log-likelihood. Metric: accuracy.

    nets.decoder: a `GridDecoder`.
    values: whole numbers below `num_values`, one grid a row.
    condition: gives the "label" of each grid, or nothing.
    train: whether dropout is on.
    """
    tokens = jnp.concatenate([first_tokens(nets, batch, condition), values], axis=1)
    return next_token_loss(nets, {"tokens": tokens}, train)


def draw_grids(
    nets: nn.Module,
    batch: Batch,
    length: int,
    condition: Condition = unconditional,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Int[Array, "b t"]:
    """Draw a grid of `length` values for each element of batch["index"], row by row.

    temperature, top_k, top_p: see `generate`.
    """
    first = first_tokens(nets, batch, condition)
    keys = example_keys(nets, batch)
    return generate(nets.decoder, first, length, keys, None, temperature, top_k, top_p)


def check_patch(shape: tuple[int, int, int], levels: int, patch: int) -> None:
    """Raise GenaxError for images of which no whole number of tokens is made."""
    height, width, _ = shape
    if height % patch or width % patch:
        raise GenaxError(
            f"images of {height}x{width} are no whole number of {patch}x{patch} pixels; choose "
            "another config.patch."
        )
    if patch * patch * math.log(levels) > math.log(_MOST_VALUES) + 1e-9:
        raise GenaxError(
            f"{patch}x{patch} pixels of {levels} levels have {levels}^{patch * patch} values, more "
            f"than the {_MOST_VALUES} that one token may have; choose config.patch=1."
        )


def pixels_to_values(
    image: Float[Array, "b h w c"], levels: int, patch: int = 1
) -> Int[Array, "b t"]:
    """Return images in [0, 1], rounded to levels, as rows of whole numbers.

    A value stands for one channel of patch x patch pixels: their levels are its digits in the base
    of levels. So nothing is lost, and a likelihood of values is one of pixels.
    """
    b, height, width, channels = image.shape
    level = jnp.clip(jnp.round(image * (levels - 1)), 0, levels - 1).astype(jnp.int32)
    parts = level.reshape(b, height // patch, patch, width // patch, patch, channels)
    digits = parts.transpose(0, 1, 3, 5, 2, 4).reshape(b, -1, patch * patch)
    return (digits * _places(levels, patch)).sum(-1)


def values_to_pixels(
    values: Int[Array, "b t"], shape: tuple[int, int, int], levels: int, patch: int = 1
) -> Float[Array, "b h w c"]:
    """Return the images in [0, 1] that `pixels_to_values` makes such values of.

    A number that stands for no pixels, which `generate` gives if logits are NaN, gives NaN.
    """
    height, width, channels = shape
    digits = values[..., None] // _places(levels, patch) % levels
    parts = digits.reshape(-1, height // patch, width // patch, channels, patch, patch)
    level = parts.transpose(0, 1, 4, 2, 5, 3).reshape(-1, height, width, channels)
    known = (values < levels ** (patch * patch)).all(1)[:, None, None, None]
    return jnp.where(known, level / (levels - 1), jnp.nan)


def _places(levels: int, patch: int) -> Int[Array, " n"]:
    return levels ** jnp.arange(patch * patch, dtype=jnp.int32)
