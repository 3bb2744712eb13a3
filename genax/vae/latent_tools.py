"""What a latent space holds: a map, a grid, ways between images, one dimension at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from statistics import NormalDist
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from PIL import Image

from genax.core.data import Data, global_index
from genax.core.task import Batch, Sampler
from genax.evaluation.charts import point_chart
from genax.evaluation.examples import first_examples
from genax.evaluation.pictures import film_strip, image_grid
from genax.nn.conditions import Condition, unconditional
from genax.vae.active_units import posterior_means

Frames = Float[Array, "b k h w c"]


def latent_tools(
    data: Data, latent_size: int, condition: Condition = unconditional, labelled: bool = False
) -> dict[str, Sampler]:
    """Return the samplers of an autoencoder's latent space.

    "latent_map" is a chart of the images' latents, coloured by class if there are any;
    "interpolation" ways from one image to the next, a row each; "traversal" images in one dimension
    after the other; and of at most two dimensions "manifold", the images of a grid of latents.

    data: images in [0, 1].
    labelled: whether the condition reads a label; grids are then of images of class 0.
    """
    names = tuple(name for name in ("image", "label") if name in data.element)
    own = names if labelled else ("image",)
    tools = {
        "latent_map": Sampler(
            partial(posterior_means, condition=condition),
            draw_map,
            partial(_first, data, names),
        ),
        "interpolation": Sampler(
            partial(interpolate, condition=condition), film_strip, partial(_in_turn, data, own)
        ),
        "traversal": Sampler(
            partial(traverse, condition=condition), draw_traversals, partial(_first, data, own)
        ),
    }
    if latent_size <= 2:
        tools["manifold"] = Sampler(
            partial(decode_latents, condition=condition),
            image_grid,
            partial(latent_grid, latent_size=latent_size),
        )
    return tools


def interpolate(
    nets: nn.Module, batch: Batch, steps: int = 9, condition: Condition = unconditional
) -> Frames:
    """Return a row for each image: it, images on the line from its latent to another's, the other.

    Latents are the means of posteriors. The images between are E[x|z], in [-1, 1]. Each is made
    with the condition of the nearer end, the middle one with that of the first.

    batch["image"], batch["other"]: [b, h, w, c] in [0, 1]. Whatever else the condition reads of an
      image, such as "label", the batch has of the other one as "other_label".
    steps: number of latents, both ends included.
    """
    ends = batch, {name: batch.get(f"other_{name}", value) for name, value in batch.items()}
    ends[1]["image"] = batch["other"]
    given = [condition(nets, end) for end in ends]
    start, end = (
        nets.encoder(one["image"], **own).mean[:, None]
        for one, own in zip(ends, given, strict=True)
    )
    shares = jnp.linspace(0.0, 1.0, steps)[:, None]
    nearer = shares[: (steps + 1) // 2], shares[(steps + 1) // 2 :]
    between = [
        nets.decoder(start + part * (end - start), **own).mean
        for part, own in zip(nearer, given, strict=True)
    ]
    first, last = (one["image"][:, None].astype(between[0].dtype) for one in ends)
    return 2 * jnp.concatenate([first, *between, last], axis=1) - 1


def traverse(
    nets: nn.Module,
    batch: Batch,
    most: int = 8,
    steps: int = 9,
    reach: float = 3.0,
    condition: Condition = unconditional,
) -> Float[Array, "b d k h w c"]:
    """Return images of latents that differ from a posterior's mean in one dimension: E[x|z].

    Dimensions of an image are those whose posterior differs most from the prior, by the divergence
    of appendix B of Kingma & Welling 2014, the first one most.

    batch["image"]: [b, h, w, c] in [0, 1].
    most: dimensions that are shown, if the latent has more.
    steps: values of a dimension, from -reach to reach.
    """
    given = condition(nets, batch)
    posterior = nets.encoder(batch["image"], **given)
    size = posterior.mean.shape[-1]
    _, shown = jax.lax.top_k(posterior.kl_to_standard(), min(most, size))
    chosen = jax.nn.one_hot(shown, size)[:, :, None]
    values = jnp.linspace(-reach, reach, steps)[:, None]
    mean = posterior.mean[:, None, None]
    z = mean + (values - mean) * chosen
    rows, columns = z.shape[1:3]
    images = nets.decoder(z.reshape(len(z), rows * columns, size), **given).mean
    return 2 * images.reshape(len(z), rows, columns, *images.shape[2:]) - 1


def decode_latents(
    nets: nn.Module, batch: Batch, condition: Condition = unconditional
) -> Float[Array, "b h w c"]:
    """Return E[x|z] of batch["latent"], [b, z], in [-1, 1]."""
    return 2 * nets.decoder(batch["latent"], **condition(nets, batch)).mean - 1


def latent_grid(num: int, workdir: Any, latent_size: int) -> dict[str, np.ndarray]:
    """Return latents whose places are even in the prior: Kingma & Welling 2014, figure 4.

    They are the quantiles of N(0, 1) at the middles of so many equal shares, all `num` of one
    dimension, and of two dimensions a square of at most `num`, row by row. Labels are 0.
    """
    side = num if latent_size == 1 else math.isqrt(num)
    line = np.array([NormalDist().inv_cdf((i + 0.5) / side) for i in range(side)], np.float32)
    axes = [line] if latent_size == 1 else [line, line]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, latent_size)
    label = np.zeros(len(grid), np.int32)
    return {"latent": grid, "label": label, "index": global_index(len(grid))}


def draw_map(samples: Float[np.ndarray, "n z"], batch: Any, workdir: Any = None) -> Image.Image:
    """Draw latents as points, coloured by batch["label"] if there is one.

    Of more than two dimensions the two directions of the largest variance are drawn, of one
    dimension the other axis is the class.
    """
    latents = np.asarray(samples, np.float64)
    count, size = latents.shape
    classes = np.asarray(batch.get("label", np.full(count, -1)))
    if size == 1:
        points, axes = np.c_[latents[:, 0], classes], ("latent", "class")
    elif size == 2:
        points, axes = latents, ("first dimension", "second dimension")
    else:
        centred = np.nan_to_num(latents - np.nanmean(latents, 0))
        # Eigenvectors come by rising eigenvalue.
        directions = np.linalg.eigh(centred.T @ centred)[1][:, :-3:-1]
        points, axes = centred @ directions, ("direction of most variance", "second direction")
    names = [str(one) for one in range(min(20, int(classes.max(initial=-1)) + 1))]
    return point_chart(points, classes, *axes, names=names).drawn()


def draw_traversals(
    samples: Float[np.ndarray, "n d k h w c"], batch: Any = None, workdir: Any = None
) -> Image.Image:
    """Draw each image's dimensions as rows, one image below the other."""
    samples = np.asarray(samples)
    return film_strip(samples.reshape(-1, *samples.shape[2:]))


def _first(data: Data, names: Sequence[str], num: int, workdir: Any) -> Mapping[str, Any]:
    return first_examples(data, num, workdir, names)


def _in_turn(data: Data, names: Sequence[str], num: int, workdir: Any) -> Mapping[str, Any]:
    """Return the first images, each with the next one, and the last with the first."""
    found = first_examples(data, num, workdir, names)
    following = {name: np.roll(found[name], -1, axis=0) for name in names}
    image = following.pop("image")
    return {**found, "other": image, **{f"other_{name}": x for name, x in following.items()}}
