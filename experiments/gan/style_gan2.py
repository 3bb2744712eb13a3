"""Karras et al. 2020, Analyzing and improving the image quality of StyleGAN (arXiv:1912.04958).

A mapping network turns latents into styles, which scale the channels of each convolution. Slopes at
real images and the lengths of paths in the space of styles are penalised in lazy phases. With
augmentation=adaptive it is StyleGAN2-ADA (Karras et al. 2020, arXiv:2006.06676).

    genax train experiments/gan/style_gan2.py --workdir runs/style_gan2
    genax train experiments/gan/style_gan2.py:digits --workdir runs/digits
    genax sample runs/digits --config.tools=True --sampler mixing --num 8

The settings of large images are those of the official PyTorch code.

Variant digits on shared CPU cores, 1,000 of its 2,000 steps: 3 minutes of processor time,
compilation and scores included. Of 100 samples all ten classes appear, in each of five hundreds.
The rarest class has 3.0% of 500 samples. The classifier that counts them is right on 95.3% of test
images.
"""

from functools import partial

import optax

from genax.core import Phase, Stage
from genax.gan.adaptive_augmentation import AdaptiveAugmentation, adaptive_loss
from genax.gan.augmentation import POLICIES
from genax.gan.latent_tools import style_tools
from genax.gan.losses import discriminator_loss, generator_loss, penalty_loss
from genax.gan.path_length import path_length_loss, style_lengths
from genax.gan.penalties import r1
from genax.gan.settings import DEFAULTS as SHARED
from genax.gan.settings import PUBLISHED, STYLE_RANGES, STYLES, small_variants
from genax.gan.style_gan2 import (
    ARCHITECTURES,
    SIZES,
    StyleGAN2Discriminator,
    StyleGAN2Generator,
)
from genax.gan.style_inputs import mixed, with_noise
from genax.gan.tasks import image_gan
from genax.nn.ema import ema_half_life
from genax.settings import Variant
from genax.settings.ranges import COUNT, NOT_NEGATIVE, Range

DEFAULTS = SHARED | {
    **STYLES,
    **SIZES["cpu"],
    # How layers of different resolution are joined in each network: see `ARCHITECTURES`.
    "generator": "skip",
    "discriminator": "residual",
    "learning_rate": 2.5e-3,
    # The penalty is a lazy phase: its weight, and the steps between two moves of it.
    "penalty": "r1",
    "penalty_weight": 0.1,
    "r1_every": 16,
    # The weight of the penalty on path lengths, 0 for none; the steps between two moves of it; and
    # of how many images of a batch one has its length measured.
    "path_weight": 2.0,
    "path_every": 4,
    "path_shrink": 2,
    # At most which share of the images seen is the half-life of averages; 0 is no bound.
    "ramp_up": 0.05,
    # Of augmentation=adaptive: the mean sign of real scores that it keeps to, and the images in
    # which its probability goes from 0 to 1 at the most.
    "real_sign": 0.6,
    "adaptation_images": 500_000,
}
# Small sets, on which a discriminator overfits without augmentation.
SMALL = small_variants(SIZES["digits"], comparison={"ema": 0.0}, cpu={"image_size": 32})
FEW = SMALL["comparison"].settings | {"train_split": "train[:5000]"}
FEW_ADAPTIVE = FEW | {"augmentation": "adaptive", "adaptation_images": 100_000}
DIGITS_ADAPTIVE = SMALL["digits"].settings | {"augmentation": "adaptive"}
# 25 million images, in batches of 64 or of 32.
LARGE = PUBLISHED | {
    "half_life": 20_000.0,
    "ramp_up": 0.0,
    "flip": True,
    "batch_size": 64,
    "steps": 390_625,
    "num_samples": 36,
    "eval_batch_size": 16,
}
HALF = LARGE | {"half_life": 10_000.0, "batch_size": 32, "steps": 781_250}
FACES_256 = LARGE | SIZES["256"] | {"dataset": "tfds:celeb_a_hq/256", "penalty_weight": 1.0}
FACES_512 = LARGE | SIZES["512"] | {"dataset": "tfds:celeb_a_hq/512", "penalty_weight": 0.5}
FACES_1024 = HALF | SIZES["1024"] | {"dataset": "tfds:celeb_a_hq/1024", "penalty_weight": 10.0}
# 100 million images, section 4.3 of StyleGAN2-ADA.
CIFAR10 = LARGE | {
    "augmentation": "adaptive",
    "discriminator": "plain",
    "mixing": 0.0,
    "path_weight": 0.0,
    "penalty_weight": 0.01,
    "half_life": 500_000.0,
    "ramp_up": 0.05,
    "flip": False,
    "steps": 1_562_500,
}
CIFAR10_ADAPTIVE = CIFAR10 | SIZES["cifar10"] | {"dataset": "cifar10", "group_size": 32}
VARIANTS = SMALL | {
    "few": Variant("the comparison on 5,000 training images", FEW),
    "few-adaptive": Variant("the same with adaptive augmentation", FEW_ADAPTIVE),
    "digits-adaptive": Variant("digits with adaptive augmentation", DIGITS_ADAPTIVE),
    "cifar10": Variant("CIFAR-10 with adaptive augmentation", CIFAR10_ADAPTIVE),
    "celebahq256": Variant(
        "CelebA-HQ at 256x256, the official paper256; TFDS celeb_a_hq/256",
        FACES_256 | {"group_size": 8, "parallel": {"topology": "v5e:4x4"}},
    ),
    "celebahq512": Variant(
        "CelebA-HQ at 512x512, the official paper512; TFDS celeb_a_hq/512",
        FACES_512 | {"group_size": 8, "parallel": {"topology": "v5e:4x8"}},
    ),
    "celebahq1024": Variant(
        "CelebA-HQ at 1024x1024, config F of the paper; TFDS celeb_a_hq/1024",
        FACES_1024 | {"learning_rate": 2e-3, "parallel": {"topology": "v5e:4x8"}},
    ),
}
RANGES = STYLE_RANGES | {
    "generator": ARCHITECTURES,
    "discriminator": ARCHITECTURES,
    "r1_every": COUNT,
    "path_weight": NOT_NEGATIVE,
    "path_every": COUNT,
    "path_shrink": COUNT,
    "ramp_up": NOT_NEGATIVE,
    "augmentation": (*POLICIES, "adaptive"),
    "real_sign": Range(least=-1, most=1),
    "adaptation_images": COUNT,
    "penalty": ("r1",),
    "pack": Range(least=1, most=1),
    "critic_steps": Range(least=1, most=1),
}


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    augmentation = None
    if config.augmentation == "adaptive":
        augmentation = AdaptiveAugmentation(
            config.batch_size, target=config.real_sign, images=config.adaptation_images
        )
    average = ema_half_life(config.half_life, config.batch_size, ramp_up=config.ramp_up or None)
    generator = partial(StyleGAN2Generator, architecture=config.generator)
    discriminator = partial(StyleGAN2Discriminator, architecture=config.discriminator)
    parts = {
        "inputs": partial(mixed, probability=config.mixing),
        "sampled_inputs": partial(with_noise, truncation=config.truncation),
        "augment": augmentation,
        "stage": partial(played, config, augmentation),
        "averages": {"generator": average},
        "tools": style_tools,
    }
    return image_gan(config, data, generator, discriminator, **parts)


def played(config, augmentation, **shared):
    """Return the game: the generator moves first, and each player's lazy penalty after it.

    The penalty moves by the Adam of its player, whose rate and momenta are those of the steps of
    both (the paper's section 3.1).
    """
    critic = partial(discriminator_loss, **shared)
    if augmentation is not None:
        critic = partial(adaptive_loss, loss=critic, augmentation=augmentation)
    path = Phase(
        "path_length",
        partial(path_length_loss, weight=config.path_weight, every=config.path_every),
        ("generator",),
        "generator",
        every=config.path_every,
        embed=partial(
            style_lengths,
            shrink=config.path_shrink,
            **{name: shared[name] for name in ("draw", "condition", "inputs")},
        ),
    )
    slopes = partial(
        penalty_loss,
        penalty=partial(r1, weight=config.penalty_weight),
        every=config.r1_every,
        of_score=True,
        condition=shared["condition"],
        augment=shared["augment"],
    )
    return Stage(
        [
            Phase(
                "generator",
                partial(generator_loss, **shared),
                ("generator",),
                lazy_adam(config, config.path_every),
            ),
            *([path] if config.path_weight else []),
            Phase(
                "discriminator",
                critic,
                ("discriminator",),
                lazy_adam(config, config.r1_every),
            ),
            Phase("r1", slopes, ("discriminator",), "discriminator", every=config.r1_every),
        ]
    )


def lazy_adam(config, every):
    """Return the Adam of a player that moves every + 1 times in `every` steps."""
    share = every / (every + 1)
    return optax.adam(config.learning_rate * share, b1=config.b1**share, b2=config.b2**share)
