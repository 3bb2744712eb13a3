"""Karras, Laine & Aila 2019, A style-based generator architecture for GANs (arXiv:1812.04948).

Latents become styles, which set the statistics of each layer of a generator that grows as ProGAN's
does. Each layer has noise. In training most images have the styles of two latents. The
non-saturating loss with R1, and an averaged generator with a half-life in images.

    genax train experiments/gan/style_gan.py --workdir runs/style_gan
    genax train experiments/gan/style_gan.py:digits --workdir runs/digits
    genax sample runs/digits --config.truncation=0.7

`steps` counts those of all resolutions. The large variants have the settings of the official code,
configuration F of the paper. The paper's faces of FFHQ are no set of TensorFlow Datasets: give a
folder of them as `--config.dataset=folder:PATH`.
"""

from functools import partial

from genax.gan.growing import Period, growth_of
from genax.gan.latent_tools import style_tools
from genax.gan.penalties import r1
from genax.gan.pro_gan import ProGANDiscriminator
from genax.gan.settings import DEFAULTS as SHARED
from genax.gan.settings import GROWTH, small_variants
from genax.gan.settings import RANGES as SHARED_RANGES
from genax.gan.style_gan import SIZES, StyleGANGenerator
from genax.gan.style_inputs import mixed, with_noise
from genax.gan.tasks import image_gan
from genax.nn.ema import ema_half_life
from genax.settings import Variant
from genax.settings.ranges import COUNT, NOT_NEGATIVE, POSITIVE, Range

DEFAULTS = (
    SHARED
    | GROWTH
    | SIZES["cpu"]
    | {
        "image_size": 32,
        # The share of training images that have the styles of two latents.
        "mixing": 0.9,
        # Nearness of samples to the mean style, 1 is none, in so many layers from the first on.
        "truncation": 1.0,
        "truncated_layers": 8,
        "r1_weight": 10.0,
        # Images after which half of an average is new, in place of `ema`.
        "half_life": 10_000.0,
        "ema": 0.0,
        "fade_images": 24_000,
        "stable_images": 24_000,
    }
)
# The official settings of eight GPUs: 25 million images.
FACES = SIZES["paper"] | {
    "dataset": "tfds:celeb_a_hq/1024",
    "test_split": "",
    "image_size": 1024,
    "flip": True,
    "first_size": 8,
    "batch_sizes": (256, 128, 64),
    "batch_size": 32,
    "learning_rates": (1.5e-3, 2e-3, 3e-3, 3e-3),
    "fade_images": 600_000,
    "stable_images": 600_000,
    "steps": 717_970,
    "parallel": {"topology": "v5e:4x4"},
    "truncation": 0.7,
    "checkpoint_every": 8_000,
    "sample_every": 8_000,
    "num_samples": 25,
    "eval_batch_size": 25,
}
VARIANTS = small_variants(
    cpu={},
    comparison={"fade_images": 25_600, "stable_images": 25_600, "ema": 0.0},
    digits=SIZES["digits"] | {"r1_weight": 1.0},
) | {
    "celeba-hq-256": Variant(
        "CelebA-HQ at 256x256", FACES | {"dataset": "tfds:celeb_a_hq/256", "image_size": 256}
    ),
    "celeba-hq-1024": Variant("CelebA-HQ at 1024x1024 with the official settings", FACES),
}
RANGES = SHARED_RANGES | {
    "style_size": COUNT,
    "mapping_layers": COUNT,
    "mixing": Range(least=0, most=1),
    "truncation": Range(),
    "truncated_layers": COUNT,
    "r1_weight": NOT_NEGATIVE,
    "half_life": POSITIVE,
    "ema": Range(least=0, most=0),
}


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""

    def inputs(period: Period):
        return partial(mixed, probability=config.mixing, layers=period.styles)

    growth = growth_of(config, "generator/synthesis", ("generator/mapping",), inputs)
    sampled = partial(
        with_noise, truncation=config.truncation, truncated_layers=config.truncated_layers
    )
    average = ema_half_life(config.half_life, config.batch_size, stages=growth.periods)
    return image_gan(
        config,
        data,
        StyleGANGenerator,
        partial(ProGANDiscriminator, blur=True),
        penalties={"r1": partial(r1, weight=config.r1_weight)},
        sampled_inputs=sampled,
        tools=style_tools,
        averages={"generator": average},
        growth=growth,
    )
