"""Anomalies as what an autoencoder of normal examples makes nothing of (An & Cho 2015)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from PIL import Image

from genax.core.nets import per_example
from genax.core.task import Batch, Loss
from genax.evaluation.charts import Line, series_chart
from genax.evaluation.pictures import film_strip
from genax.vae.distributions import Gaussian
from genax.vae.likelihoods import Likelihood
from genax.vae.objectives import encode, log_likelihood, per_sample

# Charts of series that a picture has side by side.
SHOWN = 4


def gaussian_of(deviation: float) -> Likelihood:
    """Return N(mean, deviation^2) of any real numbers, such as standardised ones."""

    def distribution(mean: Float[Array, "*shape"]) -> Gaussian:
        return Gaussian(mean, jnp.full_like(mean, 2 * np.log(deviation)))

    return Likelihood(("mean",), distribution)


def denoising_loss(
    nets: nn.Module, batch: Batch, noise: float = 0.0, samples: int = 1, beta: float = 1.0
) -> Loss:
    """Loss -ELBO of each example, whose posterior is that of the example with noise.

    -mean_l log p(x|z_l) + beta KL(q(z|x + noise e) || N(0, I)) with z_l of that posterior and e
    standard normal: Im et al. 2017 (arXiv:1511.06406), eq. 6. Without noise it is the ELBO's.
    Metrics: "reconstruction" and "kl", in nats.

    batch["image"]: [b, h, w, c].
    """
    image = batch["image"]
    if noise:
        added = per_example(jax.random.normal, nets, batch, image.shape[1:])
        image = image + noise * added
    posterior, z = encode(nets, {**batch, "image": image}, samples, train=True)
    reconstruction = -log_likelihood(nets, batch, z, train=True).mean(1)
    kl = per_sample(posterior.kl_to_standard(), 1)
    aux = {"reconstruction": reconstruction, "kl": kl}
    return Loss(reconstruction + beta * kl, aux=aux)


def anomaly_scores(nets: nn.Module, batch: Batch, samples: int = 16) -> Mapping[str, Array]:
    """Return scores [b] that are higher for what is less like the training examples.

    error: the mean square of x - E[x|z] at the posterior's mean.
    reconstruction: -mean_l log p(x|z_l), the reconstruction probability of An & Cho 2015, in nats.
    elbo: the negative ELBO, which adds the divergence from the prior.

    samples: latents that are drawn for an example.
    """
    posterior, z = encode(nets, batch, samples, train=False)
    mean = nets.decoder(posterior.mean).mean[:, 0]
    reconstruction = -log_likelihood(nets, batch, z, train=False).mean(1)
    return {
        "error": jnp.square(mean - batch["image"]).mean((1, 2, 3)),
        "reconstruction": reconstruction,
        "elbo": reconstruction + per_sample(posterior.kl_to_standard(), 1),
    }


def reconstructions(nets: nn.Module, batch: Batch) -> Float[Array, "b h w c"]:
    """Return E[x|z] at the posterior's mean of each example."""
    return nets.decoder(nets.encoder(batch["image"]).mean).mean


def draw_reconstructions(
    samples: Float[np.ndarray, "n h w c"], batch: Any, workdir: Any = None
) -> Image.Image:
    """Draw examples with their reconstructions: images in pairs, of series the first four as lines.

    Examples are standardised; of images the darkest pixel is black and the lightest white.
    """
    both = np.stack([np.asarray(batch["image"]), np.asarray(samples)], axis=1)
    if both.shape[3] > 1:
        low, high = both.min(), both.max()
        return film_strip(2 * (both - low) / max(high - low, 1e-12) - 1)
    time = np.arange(both.shape[2], dtype=np.float64)
    charts = [
        series_chart(
            [Line("example", time, series), Line("reconstruction", time, found)],
            f"class {label}",
        )
        for (series, found), label in zip(
            both[:SHOWN, :, :, 0, 0].astype(np.float64), np.asarray(batch["label"]), strict=False
        )
    ]
    first, *others = charts
    for chart in others:
        first = first.beside(chart)
    return first.drawn()
