"""Ledig et al. 2017, Photo-realistic single image super-resolution using a GAN (arXiv:1609.04802).

SRResNet enlarges an image that was made four times smaller. Its loss is the mean squared error, and
with a discriminator 1e-3 of the non-saturating game beside it. The paper measures the error in the
features of a VGG, which is left out here, and starts SRGAN from a trained SRResNet, as --init-from
does.

    genax train experiments/gan/super_resolution.py --workdir runs/srresnet
    genax train experiments/gan/super_resolution.py:srgan --workdir runs/srgan \\
        --init-from runs/srresnet

Variant digits in 53 seconds of processor time: 18.3 dB on 297 test images, those of bicubic
interpolation 13.7 dB. The mean distances are 0.186 and 0.323.
"""

from functools import partial

from genax.gan.super_resolution import SIZES, SRDiscriminator, SRResNet
from genax.gan.translation import smaller
from genax.gan.translation_settings import DIGITS, PAIRS, RANGES
from genax.gan.translation_tasks import translation_experiment
from genax.settings import Variant

__all__ = ["RANGES"]

# A side of the source is `factor` times smaller. At first there is no game.
SQUARES = {"factor": 4, "power": 2, "game_weight": 0.0, "distance_weight": 1.0}
DEFAULTS = PAIRS | SIZES["cpu"] | SQUARES | {"dataset": "cifar10", "learning_rate": 1e-3, "b1": 0.9}
# Section 3.2: batches of 16 cut-outs of 96x96, here whole images, and a million steps.
IMAGENET = {
    **SIZES["paper"],
    **{"dataset": "tfds:imagenet2012", "test_split": "validation", "size": 96},
    **{"learning_rate": 1e-4, "steps": 1_000_000, "parallel": {"topology": "v5e:2x2"}},
    **{"checkpoint_every": 20_000, "sample_every": 20_000},
}
# The game after that, section 3.2 and eq. 3.
SRGAN = {"game_weight": 1e-3, "learning_rate": 1e-4}
VARIANTS = {
    "cpu": Variant("CIFAR-10 from 8x8 to 32x32 by the squared error, on two cores"),
    "srgan": Variant("the same with a discriminator", SRGAN),
    "published": Variant("SRResNet of 16 blocks on ImageNet, 24x24 to 96x96", IMAGENET),
    "published-srgan": Variant("the same with a discriminator", IMAGENET | SRGAN),
    "digits": Variant(
        "8x8 digits from 4x4, embedded, in two minutes",
        DIGITS | SIZES["digits"] | {"dataset": "digits", "factor": 2, "game_weight": 1e-3},
    ),
}


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    source, floor = partial(smaller, factor=config.factor), "bicubic interpolation"
    return translation_experiment(config, data, SRResNet, SRDiscriminator, source, floor)
