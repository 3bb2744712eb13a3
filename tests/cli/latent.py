"""Noise removed from latents of digits; the autoencoder around it never changes.

genax train experiments/vae/vae.py:digits --workdir runs/vae
genax train tests/cli/latent.py --workdir runs/latent --config.autoencoder=runs/vae
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from genax.core import Evaluator, Experiment, Loss, Phase, Sampler, Stage, Task, per_example
from genax.data import ImageData
from genax.evaluation.pictures import image_grid
from genax.vae.autoencoders import MLPSize

LATENT = 4


DEFAULTS = {
    # A run of vae.py; "" is one at random.
    "autoencoder": "",
    "hidden": (16,),
    "latent": LATENT,
    # The dtype in which the autoencoder is kept.
    "kept": "bfloat16",
    "trains": "denoiser",
    "batch_size": 16,
    "eval_batch_size": 64,
    "steps": 8,
    "checkpoint_every": 4,
    "log_every": 1,
    "num_samples": 4,
}


class Networks(nn.Module):
    """An autoencoder, and what works on its latents."""

    vae: nn.Module
    denoiser: nn.Module


def noise_loss(nets, batch):
    """Squared error of the noise that is found in a latent."""
    latent = nets.vae.encoder(batch["image"]).mean
    noise = per_example(jax.random.normal, nets, batch, (LATENT,))
    return Loss((nets.denoiser(latent + noise) - noise) ** 2)


def draw(nets, batch):
    """Images of latents from which the noise was removed."""
    noise = per_example(jax.random.normal, nets, batch, (LATENT,))
    return 2 * nets.vae.decoder(noise - nets.denoiser(noise)).mean - 1


def build(config):
    """The experiment that the settings describe."""
    train = ImageData("digits", range=(0.0, 1.0))
    size = MLPSize(train.element["image"].shape, config.hidden, config.latent, nn.tanh)
    vae = size.networks()
    task = Task(
        Networks(vae, nn.Dense(LATENT)),
        [Stage([Phase("denoise", noise_loss, (config.trains,), optax.adam(1e-2))])],
        samplers={"images": Sampler(draw, image_grid)},
        evaluators={"error": Evaluator(noise_loss)},
        ema={"denoiser": 0.9},
        fixed={"vae": jnp.dtype(config.kept)},
        given=draw,
    )
    pretrained = {config.autoencoder: {"params/*": "params/vae/*"}} if config.autoencoder else {}
    return Experiment(task, train, ImageData("digits", "test", range=(0.0, 1.0)), pretrained)
