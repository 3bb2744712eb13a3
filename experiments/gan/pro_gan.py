"""Karras, Aila, Laine & Lehtinen 2018, Progressive growing of GANs (arXiv:1710.10196).

Both networks grow from 4x4 pixels to the size of the images. At each resolution the new layers fade
in, and then the networks train as they are. WGAN-GP with a drift penalty, an equalised learning
rate, pixel normalisation, minibatch deviation, and an averaged generator.

    genax train experiments/gan/pro_gan.py --workdir runs/pro_gan
    genax train experiments/gan/pro_gan.py:digits --workdir runs/digits

`steps` counts those of all resolutions. Pictures and scores have the size of the last one from the
start. Where the paper's own settings and those of the official TensorFlow code differ, each has a
variant.
"""

from functools import partial

from genax.gan.growing import growth_of
from genax.gan.penalties import drift, gradient_penalty
from genax.gan.pro_gan import SIZES, ProGANDiscriminator, ProGANGenerator
from genax.gan.settings import DEFAULTS as SHARED
from genax.gan.settings import GROWTH, small_variants
from genax.gan.settings import RANGES as SHARED_RANGES
from genax.gan.tasks import image_gan
from genax.settings import Variant
from genax.settings.ranges import NOT_NEGATIVE, POSITIVE

DEFAULTS = (
    SHARED
    | GROWTH
    | SIZES["cpu"]
    | {
        "image_size": 32,
        "game": "wasserstein",
        "penalty_weight": 10.0,
        # The slope that the penalty asks for.
        "slope": 1.0,
        "drift_weight": 1e-3,
        "ema": 0.999,
        "fade_images": 32_000,
        "stable_images": 32_000,
    }
)
# Section 6.4 and appendix A.1: the deviation is that of the whole batch.
PAPER = SIZES["paper"] | {
    "batch_size": 16,
    "group_size": 16,
    "fade_images": 800_000,
    "stable_images": 800_000,
    "steps": 1_250_000,
    "parallel": {"topology": "v5e:2x2"},
    "checkpoint_every": 10_000,
    "sample_every": 10_000,
    "num_samples": 16,
    "eval_batch_size": 16,
}
LSUN = PAPER | {"dataset": "tfds:lsun/bedroom", "image_size": 256, "test_split": ""}
# The official TensorFlow code on eight GPUs: 12 million images.
FACES = PAPER | {
    "dataset": "tfds:celeb_a_hq/1024",
    "test_split": "",
    "image_size": 1024,
    "flip": True,
    "batch_size": 32,
    "batch_sizes": (512, 256, 128, 64),
    "group_size": 4,
    "learning_rates": (1.5e-3, 2e-3, 3e-3, 3e-3),
    "fade_images": 600_000,
    "stable_images": 600_000,
    "steps": 277_736,
    "parallel": {"topology": "v5e:4x4"},
}
VARIANTS = small_variants(
    cpu={"image_size": 32},
    comparison={"fade_images": 25_600, "stable_images": 25_600},
    digits=SIZES["digits"] | {"fade_images": 32_000, "stable_images": 32_000},
) | {
    "cifar10": Variant(
        "CIFAR-10 with the settings of the paper's section 6.5",
        PAPER
        | SIZES["cifar10"]
        | {"dataset": "cifar10", "slope": 750.0, "fade_images": 400_000, "stable_images": 400_000},
    ),
    "lsun-256": Variant("LSUN bedrooms at 256x256 with the settings of the paper", LSUN),
    "celeba-hq-256": Variant(
        "CelebA-HQ at 256x256", FACES | {"image_size": 256, "dataset": "tfds:celeb_a_hq/256"}
    ),
    "celeba-hq-1024": Variant("CelebA-HQ at 1024x1024 with the official settings", FACES),
}
RANGES = SHARED_RANGES | {"slope": POSITIVE, "drift_weight": NOT_NEGATIVE}


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    weight = config.penalty_weight / config.slope**2
    penalties = {
        "slope": partial(gradient_penalty, weight=weight, target=config.slope),
        "drift": partial(drift, weight=config.drift_weight),
    }
    return image_gan(
        config,
        data,
        ProGANGenerator,
        ProGANDiscriminator,
        penalties=penalties,
        growth=growth_of(config),
    )
