"""Images made of other images by a conditional VAE (Sohn, Lee & Yan 2015)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from PIL import Image

from genax.core import Evaluator
from genax.core.nets import per_example
from genax.core.task import Batch, Loss
from genax.evaluation.likeness import peak_ratio
from genax.evaluation.pictures import film_strip
from genax.nn.convolution import Conv
from genax.nn.transposed_convolution import TransposedConv
from genax.vae.convolutional import ConvEncoder, smallest
from genax.vae.distributions import Gaussian
from genax.vae.objectives import Weight, per_sample, weight_at

Images = Float[Array, "b h w c"]
# What an image is made of may have another number of channels.
Sources = Float[Array, "b h w s"]


class TranslationNetworks(nn.Module):
    """Networks of a conditional VAE of images.

    encoder: (image, source) -> q(z|image, source).
    prior: source -> p(z|source).
    decoder: (z, source) -> p(image|z, source).
    """

    encoder: nn.Module
    prior: nn.Module
    decoder: nn.Module


class PairEncoder(nn.Module):
    """Encoder of an image and its source, one above the other in channels: `ConvEncoder`."""

    widths: Sequence[int] = (32, 64)
    hidden: Sequence[int] = (256,)
    latent_size: int = 32
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: Images, source: Sources, train: bool = False) -> Gaussian:
        """Return the Gaussian, its mean and log-variance [b, latent_size]."""
        both = jnp.concatenate([image, source], axis=-1)
        encoder = ConvEncoder(self.widths, self.hidden, self.latent_size, dtype=self.dtype)
        return encoder(both, train=train)


class SourceDecoder(nn.Module):
    """Decoder of latents that sees the source at every resolution, by skips as in a U-Net.

    The latent joins the features of the lowest resolution. There is no normalisation, so an image
    does not depend on its neighbours.

    channels: of the images that are made.
    widths: channels after each halving of the source.
    deviation: of the Gaussian, for images in [-1, 1].
    """

    channels: int = 3
    widths: Sequence[int] = (32, 64)
    deviation: float = 0.3
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, z: Float[Array, "b k z"], source: Sources, train: bool = False) -> Gaussian:
        """Return the Gaussian, its mean within (-1, 1), both [b, k, h, w, channels].

        Raises GenaxError for sides that the layers cannot halve.
        """
        height, width, _ = smallest(source.shape[1:], self.widths)
        x, skips = source.astype(self.dtype), []
        for level, features in enumerate(self.widths):
            skips.append(x)
            conv = Conv(
                features, (4, 4), (2, 2), ((1, 1), (1, 1)), dtype=self.dtype, name=f"down_{level}"
            )
            x = nn.relu(conv(x))
        count, samples = z.shape[:2]
        place = nn.Dense(height * width * self.widths[-1], dtype=self.dtype, name="latent")(z)
        place = nn.relu(place).reshape(count * samples, height, width, -1)
        x = jnp.concatenate([jnp.repeat(x, samples, axis=0), place], axis=-1)
        kernel_init = nn.initializers.lecun_normal()
        for level in reversed(range(len(self.widths))):
            features = self.widths[max(level - 1, 0)]
            up = TransposedConv(
                features, kernel_init, self.dtype, use_bias=True, name=f"up_{level}"
            )
            skip = jnp.repeat(skips[level], samples, axis=0)
            x = jnp.concatenate([nn.relu(up(x)), skip], axis=-1)
        last = Conv(self.channels, (3, 3), padding="SAME", dtype=self.dtype, name="output")
        mean = jnp.tanh(last(x).astype(jnp.float32))
        mean = mean.reshape(count, samples, *mean.shape[1:])
        return Gaussian(mean, jnp.full_like(mean, 2 * np.log(self.deviation)))


def translation_elbo_loss(
    nets: nn.Module, batch: Batch, beta: Weight = 1.0, samples: int = 1, train: bool = True
) -> Loss:
    """Loss -ELBO of log p(image|source), in nats: Sohn et al. 2015, eq. 4, to be minimised.

    -mean_l log p(image|z_l, source) + beta KL(q(z|image, source) || p(z|source)), whose prior is
    learned. Metrics: "reconstruction" and "kl", the two terms, unweighted.

    batch["image"], batch["source"]: [b, h, w, c] in [-1, 1].
    beta: factor of the KL, or one by the step, such as a warm-up.
    """
    image, source = batch["image"], batch["source"]
    posterior = nets.encoder(image, source, train=train)
    prior = nets.prior(source, train=train)
    z = _draws(nets, batch, posterior, samples)
    log_prob = nets.decoder(z, source, train=train).log_prob(image[:, None])
    reconstruction = -per_sample(log_prob, 2).mean(1)
    kl = per_sample(posterior.kl_to(prior), 1)
    aux = {"reconstruction": reconstruction, "kl": kl}
    return Loss(reconstruction + weight_at(beta, batch) * kl, aux=aux)


def translation_elbo(nets: nn.Module, batch: Batch) -> Loss:
    """ELBO of each image in nats, as a score: higher is better."""
    loss = translation_elbo_loss(nets, batch, train=False)
    return Loss(-loss.values, aux=loss.aux)


def translate(nets: nn.Module, batch: Batch) -> Images:
    """Return the mean image of each source at the mean of its prior."""
    source = batch["source"]
    return nets.decoder(nets.prior(source).mean[:, None], source).mean[:, 0]


def translations(nets: nn.Module, batch: Batch, samples: int = 6) -> Float[Array, "b k h w c"]:
    """Return images of latents that are drawn from the prior of each source."""
    source = batch["source"]
    z = _draws(nets, batch, nets.prior(source), samples)
    return nets.decoder(z, source).mean


def draw_translations(
    samples: Float[np.ndarray, "n k h w c"], batch: Any, workdir: Any = None
) -> Image.Image:
    """Draw a row for each source: it, what is made of it, and what it should be."""
    ends = [np.asarray(batch[name])[:, None] for name in ("source", "image")]
    return film_strip(np.concatenate([ends[0], np.asarray(samples), ends[1]], axis=1))


def variety(samples: int = 8) -> Evaluator:
    """Evaluator of several translations of each source.

    psnr, best_psnr: peak signal-to-noise ratio in decibels, the mean over the translations of a
      source, and that of the best one.
    spread: the standard deviation of a pixel over them, the root of the mean square; 0 is one
      answer only.
    """

    def rows(nets: Any, batch: Batch) -> dict[str, Array]:
        found = translations(nets, batch, samples)
        flat = found.reshape(-1, *found.shape[2:])
        ratios = peak_ratio(flat, jnp.repeat(batch["image"], samples, axis=0))
        return {
            "ratios": ratios.reshape(-1, samples),
            "variance": found.var(1).mean((1, 2, 3)),
        }

    def summarize(found: Any, workdir: Any) -> dict[str, float]:
        return {
            "psnr": float(found["ratios"].mean()),
            "best_psnr": float(found["ratios"].max(1).mean()),
            "spread": float(np.sqrt(found["variance"].mean())),
        }

    return Evaluator(rows, summarize, says={"translations": samples})


def _draws(nets: nn.Module, batch: Batch, given: Gaussian, samples: int) -> Float[Array, "b k z"]:
    wide = Gaussian(given.mean[:, None], given.log_variance[:, None])
    shape = (samples, given.mean.shape[-1])
    return wide.transform(per_example(jax.random.normal, nets, batch, shape))
