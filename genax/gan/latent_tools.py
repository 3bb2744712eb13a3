"""Samplers of a GAN's latent space, for people to look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from genax.core import Sampler
from genax.core.data import Data
from genax.evaluation.examples import first_examples
from genax.evaluation.neighbours import beside_neighbours
from genax.evaluation.pictures import film_strip
from genax.gan.game import Draw
from genax.gan.latents import interpolate, linear
from genax.gan.projection import project, project_to_styles
from genax.gan.sampling import generate
from genax.gan.style_tools import style_mixing_grid, style_truncation_sweep
from genax.nn.conditions import Condition, both

Labels = Callable[[int, Any], Mapping[str, Any]] | None


def latent_tools(
    train: Data,
    test: Data | None,
    labels: Labels,
    draw: Draw,
    condition: Condition,
    inputs: Condition,
) -> dict[str, Sampler]:
    """Return the samplers that any generator has.

    "interpolation" and "interpolation_linear" are ways from one latent to another, one in a row;
    "projection" is images of the data, each beside the nearest one that a latent gives, and
    "neighbours" samples beside their nearest training images.

    train: images that are searched for neighbours.
    test: whose first images are projected; None is the training images.
    labels: condition of samples, None without labels.
    draw, condition, inputs: see `generate`.
    """
    ways = partial(interpolate, draw=draw, condition=condition, inputs=inputs)
    nearest = partial(project, condition=both(condition, inputs))
    return {
        "interpolation": Sampler(ways, film_strip, labels),
        "interpolation_linear": Sampler(partial(ways, path=linear), film_strip, labels),
        "projection": Sampler(nearest, film_strip, _examples(test or train, labels)),
        "neighbours": Sampler(
            partial(generate, draw=draw, condition=condition, inputs=inputs),
            beside_neighbours(train),
            labels,
        ),
    }


def style_tools(
    train: Data,
    test: Data | None,
    labels: Labels,
    draw: Draw,
    condition: Condition,
    inputs: Condition,
) -> dict[str, Sampler]:
    """Return the samplers of a generator with styles.

    They are those of `latent_tools`, of which "projection" finds one style for an image and
    "projection_each_layer" one for each layer, and "truncation" and "mixing": see
    `style_truncation_sweep` and `style_mixing_grid`.
    """
    given: dict[str, Any] = {"draw": draw, "condition": condition}
    images = _examples(test or train, labels)
    return latent_tools(train, test, labels, draw, condition, inputs) | {
        "projection": Sampler(project_to_styles, film_strip, images),
        "projection_each_layer": Sampler(
            partial(project_to_styles, each_layer=True), film_strip, images
        ),
        "truncation": Sampler(partial(style_truncation_sweep, **given), film_strip, labels),
        "mixing": Sampler(partial(style_mixing_grid, **given), film_strip, labels),
    }


def _examples(data: Data, labels: Labels) -> Callable[[int, Any], dict[str, Any]]:
    names = ("image",) if labels is None else ("image", "label")
    return lambda num, workdir: first_examples(data, num, workdir, names)
