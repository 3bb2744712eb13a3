"""Larsen et al. 2016, Autoencoding beyond pixels using a learned similarity metric.

VAE-GAN (arXiv:1512.09300). The decoder of a VAE is the generator of a GAN, and reconstructions are
compared by the discriminator's features instead of by pixels. Each of the three networks has a loss
of its own. With a `margin` the player that is too far ahead waits, as in the official code.

    genax train experiments/hybrid/vae_gan.py --workdir runs/vae_gan
    genax train experiments/hybrid/vae_gan.py:digits --workdir runs/digits
    genax train experiments/hybrid/vae_gan.py:cpu-vae --workdir runs/vae

`cpu-vae` has the same encoder and decoder as a VAE of pixels, to compare with: sharper images have
more of `sharpness/gradient_energy`, whose floor is that of the data.
"""

from functools import partial

import jax.numpy as jnp
import optax

from genax.core import Evaluator, Experiment, Phase, Sampler, Stage, Task
from genax.evaluation.examples import first_images
from genax.evaluation.pictures import image_grid
from genax.evaluation.sharpness import sharpness
from genax.gan.settings import GAMES
from genax.hybrid import vae_gan_losses as losses
from genax.hybrid.equilibrium import still_without_gradient
from genax.hybrid.vae_gan import SIZES, Decoder, Discriminator, Encoder, Networks
from genax.nn.ema import ema_warmup
from genax.settings import Variant
from genax.settings.ranges import COUNT, NOT_NEGATIVE, POSITIVE, SHARE
from genax.vae.image_settings import IMAGES, PUBLISHED, image_scores, images_of
from genax.vae.image_settings import RANGES as SHARED_RANGES

OBJECTIVES = ("vae_gan", "vae")
DEFAULTS = {
    **(IMAGES | SIZES["cpu"]),
    # "vae" is the encoder and decoder alone, by pixels of the variance `pixel_variance`.
    "objective": "vae_gan",
    "pixel_variance": 0.1,
    # The weight of the reconstruction in the decoder's loss; that of the game is 1 minus it.
    "reconstruction_weight": 0.01,
    # What the decoder minimises of the game: "minimax" as in the paper, or "non_saturating".
    "game": "minimax",
    # What the discriminator is shown besides real images: see `losses.FAKES`.
    "fakes": "both",
    # A loss of the discriminator farther than the margin from the equilibrium has the player that
    # is ahead wait; a margin of 0 has nobody wait.
    "equilibrium": 0.68,
    "margin": 0.35,
    "learning_rate": 3e-4,
    "ema": 0.998,
    "steps": 4_000,
    "checkpoint_every": 1_000,
    "sample_every": 1_000,
}
DIGITS = SIZES["digits"] | {
    "dataset": "digits",
    "reconstruction_weight": 0.05,
    "learning_rate": 1e-3,
    "steps": 1_500,
    "sample_every": 500,
}
PAPER = PUBLISHED | {"fakes": "prior", "ema": 0.0, "parallel": {"topology": "v5e:2x2"}}
VARIANTS = {
    "cpu": Variant("Fashion-MNIST at 32x32, in minutes on two cores"),
    "cpu-vae": Variant("the same encoder and decoder as a VAE of pixels", {"objective": "vae"}),
    "digits": Variant("8x8 digits, embedded: for tests, a minute on two cores", DIGITS),
    "celeba64": Variant(
        "CelebA at 64x64 with the paper's networks and the weights of its code; TFDS celeb_a",
        PAPER
        | SIZES["celeba64"]
        | {"dataset": "tfds:celeb_a", "flip": True, "reconstruction_weight": 1e-6}
        | {"steps": 62_500},
    ),
    "cifar10": Variant(
        "CIFAR-10 with the networks and weights of the official code",
        PAPER
        | SIZES["cifar32"]
        | {"dataset": "cifar10", "reconstruction_weight": 1e-5, "steps": 50_000},
    ),
}
SIZED = ("image_size", "latent_size", "feature_layer")
WIDE = ("encoder_widths", "encoder_hidden", "decoder_start", "decoder_widths")
JUDGING = ("discriminator_start", "discriminator_widths", "discriminator_hidden")
RANGES = SHARED_RANGES | {
    **dict.fromkeys((*SIZED, *WIDE, *JUDGING), COUNT),
    "objective": OBJECTIVES,
    "pixel_variance": POSITIVE,
    "reconstruction_weight": SHARE,
    "game": ("minimax", "non_saturating"),
    "fakes": tuple(losses.FAKES),
    "equilibrium": NOT_NEGATIVE,
    "margin": NOT_NEGATIVE,
    "learning_rate": NOT_NEGATIVE,
    "remat": ("none",),
}


def networks_of(config, channels):
    """Return the networks of the settings."""
    size, dtype = config.latent_size, jnp.dtype(config.dtype)
    judge = None
    if config.objective == "vae_gan":
        judge = Discriminator(*(config[name] for name in JUDGING), config.feature_layer, dtype)
    wide = {name: config[name] for name in WIDE}
    return Networks(
        Encoder(wide["encoder_widths"], wide["encoder_hidden"], size, dtype),
        Decoder(
            config.image_size, channels, size, wide["decoder_start"], wide["decoder_widths"], dtype
        ),
        judge,
    )


def phases_of(config):
    """Return the three minimisers, the discriminator first since it says who waits; or a VAE's."""
    prop = optax.rmsprop(config.learning_rate, decay=0.9)
    if config.objective == "vae":
        loss = partial(losses.pixel_loss, variance=config.pixel_variance)
        return [Phase("autoencoder", loss, ("encoder", "decoder"), prop)]
    player = still_without_gradient(prop) if config.margin else prop
    fakes = losses.FAKES[config.fakes]
    judge = partial(losses.discriminator_loss, equilibrium=config.equilibrium, margin=config.margin)
    rows = partial(losses.discriminator_rows, fakes=fakes)
    decode = partial(
        losses.decoder_loss,
        weight=config.reconstruction_weight,
        game=GAMES[config.game],
        fakes=fakes,
        gated=bool(config.margin),
    )
    return [
        Phase("discriminator", judge, ("discriminator",), player, embed=rows),
        Phase("encoder", losses.encoder_loss, ("encoder",), prop),
        Phase("decoder", decode, ("decoder",), player),
    ]


def flat(batch):
    """Return images of one colour each, the mean of an image."""
    image = batch["image"]
    return jnp.broadcast_to(image.mean((1, 2), keepdims=True), image.shape)


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    train, test = images_of(config, config.image_size, data)
    evaluators = {}
    if test:
        made = (losses.sampled, losses.reconstruct, flat, "the mean colour of each image")
        evaluators = image_scores(config, train, test, *made) | {
            "divergence": Evaluator(losses.divergence),
            "sharpness": sharpness(losses.sampled),
            "sharpness_of_reconstructions": sharpness(losses.reconstruct),
        }
    shown = partial(first_images, test or train)
    averages = dict.fromkeys(("encoder", "decoder"), ema_warmup(config.ema))
    task = Task(
        networks_of(config, train.element["image"].shape[-1]),
        [Stage(phases_of(config), together=True)],
        samplers={
            "images": Sampler(losses.sampled, image_grid),
            "reconstruction": Sampler(losses.reconstruct_beside, image_grid, shown),
        },
        evaluators=evaluators,
        ema=averages if config.ema else {},
    )
    return Experiment(task, train, test)
