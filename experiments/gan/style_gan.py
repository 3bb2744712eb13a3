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
from genax.gan.pro_gan import ProGANDiscriminator
from genax.gan.settings import DEFAULTS as SHARED
from genax.gan.settings import GROWTH, STYLE_RANGES, STYLES, grown_faces, small_variants
from genax.gan.style_gan import SIZES, StyleGANGenerator
from genax.gan.style_inputs import mixed, with_noise
from genax.gan.tasks import image_gan
from genax.nn.ema import ema_half_life
from genax.settings.ranges import COUNT

GROWN = SHARED | GROWTH | STYLES | SIZES["cpu"]
DEFAULTS = GROWN | {
    "penalty": "r1",
    "penalty_weight": 10.0,
    # How many layers of samples, from the first on, have styles near the mean.
    "truncated_layers": 8,
}
SMALL = small_variants(SIZES["digits"] | {"penalty_weight": 1.0}, comparison={"ema": 0.0})
# 25 million images on eight GPUs.
FACES = SIZES["paper"] | {"truncation": 0.7, "steps": 717_970}
VARIANTS = SMALL | grown_faces(FACES, first_size=8, batch_sizes=(256, 128, 64))
RANGES = STYLE_RANGES | {"truncated_layers": COUNT}


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""

    def inputs(period: Period):
        return partial(mixed, probability=config.mixing, layers=period.styles)

    growth = growth_of(config, "generator/synthesis", ("generator/mapping",), inputs)
    nearness = {name: config[name] for name in ("truncation", "truncated_layers")}
    half_life = ema_half_life(config.half_life, config.batch_size, stages=growth.periods)
    grown = {
        "growth": growth,
        "sampled_inputs": partial(with_noise, **nearness),
        "averages": {"generator": half_life},
    }
    critic = partial(ProGANDiscriminator, blur=True)
    return image_gan(config, data, StyleGANGenerator, critic, tools=style_tools, **grown)
