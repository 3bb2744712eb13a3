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
import optax

from genax.core import Experiment, Phase, Sampler, Stage, Task
from genax.data import ImageData, given_or
from genax.evaluation.classifier import class_coverage
from genax.evaluation.pictures import check_pictures, image_grid
from genax.gan.dcgan import SIZES, DCGANDiscriminator, DCGANGenerator
from genax.gan.losses import discriminator_loss, generator_loss
from genax.gan.networks import Networks
from genax.gan.sampling import generate
from genax.nn.ema import ema_warmup
from genax.nn.optimizers import RANGES as OPTIMIZER
from genax.settings import Variant, from_config
from genax.settings.ranges import AMOUNT, COUNT, SHARE

DEFAULTS = {
    "dataset": "mnist",
    **SIZES["mnist"],
    "uniform_latents": False,
    "learning_rate": 2e-4,
    "b1": 0.5,
    # The decay of the averaged generator that is sampled; 0, as in the paper, is no average.
    "ema": 0.998,
    # Samples whose classes are counted; 0 counts none.
    "coverage_samples": 1000,
    "steps": 5_000,
    "log_every": 50,
    "checkpoint_every": 1_000,
    "num_samples": 100,
}
DIGITS = {"dataset": "digits", **SIZES["digits"]}
SHORT_RUN = {"batch_size": 32, "steps": 200, "coverage_samples": 200}
LARGE = {
    "coverage_samples": 0,
    "ema": 0.0,
    "batch_size": 128,
    "parallel": {"topology": "v5e:2x2"},
    "checkpoint_every": 5_000,
    "sample_every": 2_000,
    "num_samples": 64,
}
CELEBA = {"dataset": "tfds:celeb_a", **SIZES["pytorch"], "steps": 31_800}
BEDROOMS = {
    "dataset": "tfds:lsun/bedroom",
    **SIZES["paper"],
    "uniform_latents": True,
    "steps": 120_000,
}
VARIANTS = {
    "cpu": Variant("MNIST at 28x28 in minutes on two cores"),
    "celeba64": Variant(
        "CelebA at 64x64 as in PyTorch's examples; prepare it with TFDS as celeb_a",
        LARGE | CELEBA,
    ),
    "lsun64": Variant(
        "LSUN bedrooms at 64x64, the paper's widths and uniform latents; TFDS lsun/bedroom",
        LARGE | BEDROOMS,
    ),
    "digits": Variant("8x8 digits, embedded: for tests, seconds", DIGITS | SHORT_RUN),
}
RANGES = OPTIMIZER | {
    "image_size": COUNT,
    "width": COUNT,
    "latent_size": COUNT,
    "ema": SHARE,
    "coverage_samples": AMOUNT,
    "remat": ("none",),
}


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    own = partial(ImageData, config.dataset, size=config.image_size, damaged=config.damaged)
    train, test = given_or(data, lambda: (own(), own(split="test")))
    check_pictures(train)
    channels = train.element["image"].shape[-1]
    networks = Networks(
        generator=from_config(DCGANGenerator, config, channels=channels),
        discriminator=from_config(DCGANDiscriminator, config),
    )
    draw = jax.random.normal
    if config.uniform_latents:
        draw = partial(jax.random.uniform, minval=-1.0, maxval=1.0)
    images = partial(generate, draw=draw)

    def phase(player, loss):
        adam = optax.adam(config.learning_rate, b1=config.b1)
        return Phase(player, partial(loss, draw=draw), (player,), adam)

    coverage = partial(class_coverage, images, train, test, samples=config.coverage_samples)
    task = Task(
        networks=networks,
        stages=[
            Stage([phase("discriminator", discriminator_loss), phase("generator", generator_loss)])
        ],
        samplers={"images": Sampler(images, image_grid)},
        evaluators={"classes": coverage()} if config.coverage_samples else {},
        ema={"generator": ema_warmup(config.ema)} if config.ema else {},
    )
    return Experiment(task, train)
