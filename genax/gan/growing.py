"""Progressive growing (Karras et al. 2018, section 2): resolutions come in one after another.

Training is a list of periods, each a stage of the task. In the first of a resolution its layers
fade in, in the second they are wholly there. Optimizers start fresh in each, as in the official
code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from genax.core import GenaxError, Phase, Sampler, Stage
from genax.core.data import Data
from genax.core.task import Batch, Losses, LossFn
from genax.data.reduced import Reduced
from genax.nn.conditions import Condition, both, unconditional
from genax.nn.convolution import nearest_upsample
from genax.nn.resample import average_downsample
from genax.settings import from_config

SMALLEST = 4
# How far the newest layers have come in, from 0 to 1; None is wholly.
Share = Float[Array, ""] | None


def sizes_to(size: int) -> list[int]:
    """Return the resolutions up to `size`, each twice the one before: 16 gives [4, 8, 16].

    Raises GenaxError for a size that is none of them.
    """
    levels = round(math.log2(max(size, 1) / SMALLEST)) + 1
    sizes = [SMALLEST * 2**level for level in range(levels)]
    if size not in sizes:
        raise GenaxError(
            f"images of {size}x{size} do not grow from {SMALLEST}x{SMALLEST} by doubling: choose "
            "a power of two from 4 on, and data of that size (an experiment's config.image_size)."
        )
    return sizes


def features_at(size: int, width: int, max_width: int) -> int:
    """Return the channels of the layers at a resolution: at least 1, at most `max_width`.

    width: their number times the resolution.
    """
    return max(1, min(width // size, max_width))


def blended(new: Array, old: Array, share: Float[Array, ""]) -> Array:
    """Return what has come in so far: share * new + (1 - share) * old."""
    return old + share.astype(old.dtype) * (new - old)


@dataclass(frozen=True)
class Period:
    """A part of training at one resolution.

    size: of the images, in pixels.
    fades: whether the layers of that resolution come in meanwhile.
    steps: its length; None is until the run ends.
    batch_size: its global batch.
    learning_rate: of both players.
    """

    size: int
    fades: bool
    steps: int | None
    batch_size: int
    learning_rate: float

    @property
    def styles(self) -> int:
        """Number of the styles of an image: two for each resolution."""
        return 2 * len(sizes_to(self.size))

    def condition(self, nets: nn.Module, batch: Batch) -> dict[str, Any]:
        """Return what both networks get: the resolution, and how far its layers have come in.

        A share grows by one n-th with each of n steps, from one n-th to 1. The official code moves
        it every four steps.
        """
        return {"size": self.size, "share": self.share(batch)}

    def share(self, batch: Batch) -> Share:
        """Return how far the layers of this resolution have come in."""
        if not self.fades or self.steps is None:
            return None
        return (jnp.asarray(batch["step"], jnp.float32) + 1) / self.steps

    def layers(self, blocks: str, images: str) -> list[str]:
        """Return the paths of a network's layers in play.

        blocks: the path of blocks without their resolution.
        images: that of the layers between a block and the image.
        """
        sizes = sizes_to(self.size)
        shown = sizes[-2:] if self.fades else sizes[-1:]
        return [f"{blocks}_{size}" for size in sizes] + [f"{images}_{size}" for size in shown]


def periods(
    image_size: int,
    first_size: int,
    stable_images: int,
    fade_images: int,
    batch_size: int,
    learning_rate: float,
    batch_sizes: Sequence[int] = (),
    learning_rates: Sequence[float | int] = (),
) -> list[Period]:
    """Return the periods of training, the last of which is open.

    image_size: the last resolution.
    first_size: the first one, which does not fade in.
    stable_images: how many images are seen at each resolution when it is wholly there.
    fade_images: how many are seen while it comes in.
    batch_sizes: of the first resolutions; all others have `batch_size`.
    learning_rates: of the last resolutions; all others have `learning_rate`.
    Raises GenaxError for a size that does not grow from 4, and for more batch sizes or rates than
    resolutions.
    """
    sizes_to(first_size)
    sizes = [size for size in sizes_to(image_size) if size >= first_size]
    if not sizes or max(len(batch_sizes), len(learning_rates)) > len(sizes):
        raise GenaxError(
            f"growing from {first_size} to {image_size} pixels (config.first_size, "
            f"config.image_size) has the resolutions {sizes}; it needs one at least, and has at "
            f"most one of the {len(batch_sizes)} config.batch_sizes and of the "
            f"{len(learning_rates)} config.learning_rates for each."
        )
    batches = [*batch_sizes, *[batch_size] * (len(sizes) - len(batch_sizes))]
    rates = [*[learning_rate] * (len(sizes) - len(learning_rates)), *map(float, learning_rates)]
    found: list[Period] = []
    for size, batch, rate in zip(sizes, batches, rates, strict=True):
        fading, stable = (math.ceil(images / batch) for images in (fade_images, stable_images))
        if found:
            found.append(Period(size, True, fading, batch, rate))
        found.append(Period(size, False, stable, batch, rate))
    return [*found[:-1], replace(found[-1], steps=None)]


@dataclass(frozen=True)
class Growth:
    """How networks grow in the course of a task: see `image_gan`.

    periods: of training, each a stage.
    layers: of each player, the path of its blocks without their resolution, and that of the layers
      between a block and the image.
    others: of each player, the paths of what else it trains in each period.
    optimizer: learning rate -> the optimizer of a player.
    inputs: period -> the `inputs` of its losses, see `play`; None leaves them as they are.
    """

    periods: Sequence[Period]
    layers: Mapping[str, tuple[str, str]]
    optimizer: Callable[[float], optax.GradientTransformation]
    others: Mapping[str, Sequence[str]] = field(default_factory=dict)
    inputs: Callable[[Period], Condition] | None = None

    def stages(self, phases: Sequence[Phase], condition: Condition) -> list[Stage]:
        """Return the stage of each period.

        phases: whose losses take `condition`; they are named after the players.
        condition: of both networks besides what grows.
        """

        def of_period(phase: Phase, period: Period) -> Phase:
            given = {"condition": both(condition, period.condition)}
            if self.inputs is not None:
                given["inputs"] = self.inputs(period)
            return replace(
                phase,
                loss=partial(faded_loss, loss=partial(phase.loss, **given), period=period),
                trains=[
                    *self.others.get(phase.name, ()),
                    *period.layers(*self.layers[phase.name]),
                ],
                optimizer=self.optimizer(period.learning_rate),
            )

        return [
            Stage(
                [of_period(phase, period) for phase in phases],
                steps=period.steps,
                batch_size=period.batch_size,
            )
            for period in self.periods
        ]

    def images(self, sampler: Callable[..., Array], condition: Condition) -> Callable[..., Array]:
        """Return the sampler of images as they are at the present stage.

        sampler: (nets, batch, condition=) -> images.
        """
        return partial(grown, periods=self.periods, sampler=sampler, condition=condition)

    def tools(self, samplers: Mapping[str, Sampler]) -> dict[str, Sampler]:
        """Return samplers of the networks at full size, which refuse to draw before the last stage.

        Layers that have not come in are not trained.
        """
        last = len(self.periods) - 1
        return {
            name: replace(sampler, function=partial(grown_up, function=sampler.function, last=last))
            for name, sampler in samplers.items()
        }

    def data(self, data: Data) -> tuple[Data, ...]:
        """Return the data of each stage. Stages of one resolution share it."""
        largest = self.periods[-1].size
        height, width = data.element["image"].shape[:2]
        if (height, width) != (largest, largest):
            raise GenaxError(
                f"images of {getattr(data, 'name', data)} have {height}x{width} pixels, but "
                f"networks grow to {largest}x{largest}; set config.image_size to a power of two, "
                "and read images of that size."
            )
        sizes = {period.size for period in self.periods}
        of_size = {size: Reduced(data, largest // size) for size in sizes} | {largest: data}
        return tuple(of_size[period.size] for period in self.periods)


def growth_of(
    config: ConfigDict,
    blocks: str = "generator",
    others: Sequence[str] = (),
    inputs: Callable[[Period], Condition] | None = None,
) -> Growth:
    """Return the growth that the settings `GROWTH` describe, with Adam for both players.

    blocks: the path of the generator's blocks; those of the discriminator are at "discriminator".
    others: paths of what the generator trains besides blocks.
    inputs: see `Growth`.
    Raises GenaxError for settings that `periods` refuses, and for a batch that the groups of
    `minibatch_deviation` do not divide, whose resolution may come after days of training.
    """
    found = from_config(periods, config)
    for period in found:
        batch = period.batch_size // config.accumulate
        if batch and batch % min(batch, config.group_size):
            raise GenaxError(
                f"config.group_size={config.group_size} does not divide the {batch} images that "
                f"are scored together at {period.size}x{period.size} pixels (config.batch_sizes, "
                "config.batch_size, config.accumulate); choose sizes that it divides, or a group "
                "of a whole batch."
            )
    return Growth(
        found,
        {
            "discriminator": ("discriminator/block", "discriminator/from_image"),
            "generator": (f"{blocks}/block", f"{blocks}/to_image"),
        },
        lambda rate: optax.adam(rate, b1=config.b1, b2=config.b2),
        {"generator": others},
        inputs,
    )


def faded_loss(nets: nn.Module, batch: Batch, loss: LossFn, period: Period) -> Losses:
    """Return a loss of real images that are as sharp as the period's fakes.

    As in the official code, an image is blended with its means of 2x2 pixels.
    """
    share = period.share(batch)
    if share is not None:
        image = batch["image"]
        old = nearest_upsample(average_downsample(image))
        batch = {**batch, "image": blended(image, old, share)}
    return loss(nets, batch)


def grown_up(nets: nn.Module, batch: Batch, function: Callable[..., Any], last: int) -> Any:
    """Return function(nets, batch). Raises GenaxError before the last stage.

    last: its number.
    """
    if (stage := batch.get("stage", last)) != last:
        raise GenaxError(
            f"the tools show a network that is wholly grown, but here it is at stage {stage} of 0 "
            f"to {last}; set config.tools=True only to sample a run that has reached stage {last}."
        )
    return function(nets, batch)


def grown(
    nets: nn.Module,
    batch: Batch,
    periods: Sequence[Period],
    sampler: Callable[..., Array],
    condition: Condition = unconditional,
) -> Float[Array, "b h w c"]:
    """Return images as the generator makes them at the present stage, in the size of the last one.

    periods: of the task's stages. Without batch["stage"] the last one counts.
    sampler: (nets, batch, condition=) -> images, such as `generate`.
    """
    period = periods[batch.get("stage", len(periods) - 1)]
    images = sampler(nets, batch, condition=both(condition, period.condition))
    return nearest_upsample(images, periods[-1].size // period.size)
