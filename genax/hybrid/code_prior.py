"""A Transformer over the codes of an autoencoder: the prior p(z) of a VQ-VAE.

Van den Oord et al. 2017 (arXiv:1711.00937), section 3.3, fit a PixelCNN to the codes after the
autoencoder is trained. Here it is a GPT, as in Esser et al. 2021 (arXiv:2012.09841).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from genax.core import Loss
from genax.core.task import Batch
from genax.nn.conditions import Condition, unconditional
from genax.transformer.tasks.grids import draw_grids, grid_loss
from genax.vae.codebook import COLLECTION
from genax.vae.objectives import per_sample
from genax.vae.quantised import bound_of


class Networks(nn.Module):
    """Networks of a prior over codes.

    decoder: a `GridDecoder` of the codes' numbers.
    autoencoder: a `VQVAE`, which is not trained here.
    """

    decoder: nn.Module
    autoencoder: nn.Module


def code_loss(
    nets: nn.Module, batch: Batch, condition: Condition = unconditional, train: bool = True
) -> Loss:
    """Loss -log p(code | codes before it) in nats, [b, h w].

    batch["latent"]: int32 [b, h, w], the codes of an image.
    condition, train: see `grid_loss`.
    """
    index = batch["latent"]
    return grid_loss(nets, batch, index.reshape(len(index), -1), condition, train)


def code_elbo(nets: nn.Module, batch: Batch, condition: Condition = unconditional) -> Loss:
    """Return a lower bound of log p(x) in nats: higher is better.

    log p(z) + log p(x|z) at the codes z that the encoder gives an image: one term of the sum over
    all z that p(x) is. Metrics: "codes" and "reconstruction", the two parts as nats, and
    "bits_per_dim".

    batch["image"]: [b, h, w, c] in [0, 1].
    """
    image = batch["image"]
    index = nets.autoencoder.encode(image)
    codes = code_loss(nets, {**batch, "latent": index}, condition, train=False).values.sum(-1)
    reconstruction = -per_sample(nets.autoencoder.decode(index).log_prob(image), 1)
    return bound_of(image, reconstruction=reconstruction, codes=codes)


def draw_images(
    nets: nn.Module, batch: Batch, grid: tuple[int, int], **drawn: Any
) -> Float[Array, "b H W c"]:
    """Draw codes for each element of batch["index"], and return E[x|z] in [-1, 1].

    grid: height and width of the codes.
    drawn: arguments of `draw_grids`.
    """
    return 2 * nets.autoencoder.decode(draw_codes(nets, batch, grid, **drawn)).mean - 1


def draw_codes(
    nets: nn.Module, batch: Batch, grid: tuple[int, int], **drawn: Any
) -> Int[Array, "b h w"]:
    """Draw codes for each element of batch["index"]."""
    height, width = grid
    index = draw_grids(nets, batch, height * width, **drawn)
    return index.reshape(-1, height, width)


def autoencode(nets: nn.Module, batch: Batch, shape: tuple[int, int, int]) -> Any:
    """Call the autoencoder, which no loss calls: `Task.given`. shape: of an image."""
    return nets.autoencoder(jnp.zeros((1, *shape)))


def codes_element(
    grid: tuple[int, int], element: Mapping[str, Any]
) -> dict[str, jax.ShapeDtypeStruct]:
    """Return shape and dtype of an image's codes, as `TrainedNetwork.made` says them."""
    return {"latent": jax.ShapeDtypeStruct(grid, jnp.int32)}


def codes_from(run: str) -> dict[str, dict[str, str]]:
    """Return `Experiment.pretrained` of the autoencoder and its codebook in a run; "" is none."""
    paths = ("params/autoencoder", f"collections/{COLLECTION}/autoencoder")
    return {run: {path: path for path in paths}} if run else {}
