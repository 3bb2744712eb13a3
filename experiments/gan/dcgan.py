"""Radford, Metz & Chintala 2015, Deep convolutional GANs (arXiv:1511.06434).

Convolutional generator and discriminator with BatchNorm, the non-saturating loss of Goodfellow et
al. 2014 (arXiv:1406.2661), Adam at 2e-4 with b1 = 0.5.

    genax train experiments/gan/dcgan.py --workdir runs/dcgan

Variant cpu on two CPU cores: 3 minutes 13 seconds, compilation and evaluation included. Of 100
samples all ten classes appear, in each of ten hundreds; the rarest class has 6.7% of 1,000 samples.
The classifier that counts them is right on 95.6% of real test images.
"""

from functools import partial

import jax
import jax.numpy as jnp
import optax

from genax.core import Experiment, Phase, Sampler, Stage, Task, base_config
from genax.core.ranges import AMOUNT, COUNT, SHARE
from genax.data import ImageData
from genax.evaluation.classifier import class_coverage
from genax.evaluation.pictures import check_pictures, image_grid
from genax.gan.dcgan import WIDTHS, DCGANDiscriminator, DCGANGenerator
from genax.gan.losses import discriminator_loss, generator_loss
from genax.gan.networks import Networks
from genax.gan.sampling import generate
from genax.nn.ema import ema_warmup
from genax.nn.optimizers import RANGES as OPTIMIZER

VARIANTS = {
    "cpu": "MNIST at 28x28 in minutes on two cores",
    "celeba64": "CelebA at 64x64 as in PyTorch's examples; prepare it with TFDS as celeb_a",
    "lsun64": "LSUN bedrooms at 64x64, the paper's widths and uniform latents; TFDS lsun/bedroom",
    "digits": "8x8 digits, embedded: for tests, seconds",
}
RANGES = {
    **OPTIMIZER,
    "image_size": COUNT,
    "width": COUNT,
    "latent_size": COUNT,
    "ema": SHARE,
    "coverage_samples": AMOUNT,
    "remat": ("none",),
}


def get_config(variant="cpu"):
    """Settings of a variant.

    width: channels of the layers next to the image; they double with every halving of it.
    ema: decay of the averaged generator that is sampled; 0, as in the paper, is no average.
    """
    config = base_config(
        dataset="mnist",
        image_size=28,
        width=32,
        latent_size=64,
        uniform_latents=False,
        learning_rate=2e-4,
        b1=0.5,
        ema=0.998,
        coverage_samples=1000,
        batch_size=64,
        steps=5_000,
        log_every=50,
        checkpoint_every=1_000,
        sample_every=500,
        num_samples=100,
    )
    large = {
        "image_size": 64,
        "latent_size": 100,
        "coverage_samples": 0,
        "ema": 0.0,
        "batch_size": 128,
        "parallel": {"topology": "v5e:2x2"},
        "checkpoint_every": 5_000,
        "sample_every": 2_000,
        "num_samples": 64,
    }
    settings = {
        "cpu": {},
        "celeba64": {
            **large,
            "dataset": "tfds:celeb_a",
            "width": WIDTHS["pytorch"],
            "steps": 31_800,
        },
        "lsun64": {
            **large,
            "dataset": "tfds:lsun/bedroom",
            "width": WIDTHS["paper"],
            "uniform_latents": True,
            "steps": 120_000,
        },
        "digits": {
            "dataset": "digits",
            "image_size": 8,
            "width": 16,
            "latent_size": 16,
            "batch_size": 32,
            "steps": 200,
            "coverage_samples": 200,
        },
    }
    config.update(settings[variant])
    return config


def build(config):
    """The experiment that the settings describe."""
    train = ImageData(config.dataset, size=config.image_size)
    check_pictures(train)
    dtype = jnp.dtype(config.dtype)
    channels = train.element["image"].shape[-1]
    networks = Networks(
        generator=DCGANGenerator(
            config.image_size, channels, config.width, config.latent_size, dtype
        ),
        discriminator=DCGANDiscriminator(config.width, dtype),
    )
    draw = jax.random.normal
    if config.uniform_latents:
        draw = partial(jax.random.uniform, minval=-1.0, maxval=1.0)
    images = partial(generate, draw=draw)

    def phase(player, loss):
        adam = optax.adam(config.learning_rate, b1=config.b1)
        return Phase(player, partial(loss, draw=draw), (player,), adam)

    evaluators = {}
    if config.coverage_samples:
        test = ImageData(config.dataset, "test", size=config.image_size)
        evaluators["classes"] = class_coverage(images, train, test, config.coverage_samples)
    task = Task(
        networks=networks,
        stages=[
            Stage([phase("discriminator", discriminator_loss), phase("generator", generator_loss)])
        ],
        samplers={"images": Sampler(images, image_grid)},
        evaluators=evaluators,
        ema={"generator": ema_warmup(config.ema)} if config.ema else {},
    )
    return Experiment(task, train)
