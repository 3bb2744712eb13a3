"""Arjovsky, Chintala & Bottou 2017, Wasserstein GAN (arXiv:1701.07875).

DCGAN's networks, whose discriminator is a critic: its parameters are clipped to [-0.01, 0.01], it
minimises the gap of mean scores, and it moves five times for each move of the generator, but 100
times for the first 25 and each 500th. RMSprop at 5e-5.

    genax train experiments/gan/wgan.py --workdir runs/wgan
    genax train experiments/gan/wgan.py:digits --workdir runs/digits
"""

import optax

from genax.gan.dcgan import SIZES, DCGANDiscriminator, DCGANGenerator
from genax.gan.optimizers import clip_parameters
from genax.gan.settings import DEFAULTS as SHARED
from genax.gan.settings import PUBLISHED, small_variants
from genax.gan.settings import RANGES as SHARED_RANGES
from genax.gan.tasks import image_gan
from genax.gan.turns import after, wgan_turns
from genax.settings import Variant
from genax.settings.ranges import POSITIVE

DEFAULTS = SHARED | {
    **SIZES["mnist"],
    "game": "wasserstein",
    "critic_steps": 5,
    # Whether the critic moves 100 times at the start and before each 500th move.
    "long_turns": True,
    # The largest parameter of the critic.
    "clip_value": 0.01,
    "learning_rate": 5e-5,
    "steps": 20_000,
}
# The rate of short runs; the published one is for 200,000 moves of the generator and more.
SHORT = {"learning_rate": 5e-4, "long_turns": False}
DIGITS = SHORT | SIZES["digits"] | {"steps": 5_000}
SMALL = small_variants(DIGITS, comparison=SHORT | {"steps": 20_000}, cpu=SHORT)
LSUN = PUBLISHED | SIZES["pytorch"] | {"dataset": "tfds:lsun/bedroom", "steps": 1_000_000}
VARIANTS = SMALL | {"lsun64": Variant("LSUN bedrooms at 64x64 as in the paper; TFDS lsun", LSUN)}
RANGES = SHARED_RANGES | {"clip_value": POSITIVE}


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    # PyTorch's, whose epsilon stands outside of the root.
    rmsprop = optax.rmsprop(config.learning_rate, decay=0.99, eps=1e-8, eps_in_sqrt=False)
    clipped = optax.chain(rmsprop, clip_parameters(config.clip_value))
    optimizers = {"discriminator": clipped, "generator": rmsprop}
    turns = (wgan_turns if config.long_turns else after)(config.critic_steps)
    own = {"optimizers": optimizers, "turns": turns}
    return image_gan(config, data, DCGANGenerator, DCGANDiscriminator, **own)
