"""Isola et al. 2017, Image-to-image translation with conditional GANs, Pix2Pix (arXiv:1611.07004).

A U-Net generator whose only noise is dropout, a discriminator of 70x70 patches that sees the source
as well, the non-saturating game halved for the discriminator, the mean absolute distance weighted
by 100, Adam at 2e-4 with b1 = 0.5. Samples keep dropout and the statistics of their own batch.

    genax train experiments/gan/pix2pix.py --workdir runs/pix2pix

Variant digits in 50 seconds of processor time: on 297 test pairs the mean distance is 0.122 and the
peak signal-to-noise ratio 20.0 dB. Those of the strokes as they are would be 0.414 and 8.9 dB.
The distance alone (game_weight=0) has 0.111 and 20.9 dB.
"""

from functools import partial

from genax.gan.patch_discriminator import PatchDiscriminator, PixelDiscriminator
from genax.gan.translation import grey, own_source
from genax.gan.translation_settings import DIGIT_PAIRS, PAIRS, PATCHES, PUBLISHED, epochs
from genax.gan.translation_settings import RANGES as TRANSLATION
from genax.gan.translation_tasks import translation_experiment
from genax.gan.unet_generator import UNetGenerator
from genax.settings import Variant

DISCRIMINATORS = {"patch": PatchDiscriminator, "pixel": PixelDiscriminator}
DEFAULTS = (
    PAIRS
    | PATCHES
    | {
        "dataset": "openmoji",
        # The picture of the set that is made, and the one that it is made of; "" is a grey copy.
        "image": "colour",
        "source": "line_art",
        # Channels of the U-Net after each halving of the resolution.
        "widths": (32, 64, 128, 128, 128),
        "dropout": 0.5,
        # "patch", or "pixel" for single pixels.
        "discriminator": "patch",
    }
)
# The 400 facades have the largest of the paper's networks and its shortest training: 200 passes
# over them. No package has them: set `dataset` to pairs of your own.
FACADES = PUBLISHED | {"widths": (64, 128, 256, 512, 512, 512, 512, 512)} | epochs(400)
VARIANTS = {
    "cpu": Variant("line art to colour, 32x32, on two cores"),
    "l1": Variant("the same without a discriminator: the distance alone", {"game_weight": 0.0}),
    "colourisation": Variant(
        "CIFAR-10, grey to colour, on two cores", {"dataset": "cifar10", "image": "", "source": ""}
    ),
    "published": Variant("U-Net-256 and patches of 70x70, batches of 1", FACADES),
    "pixel": Variant("U-Net-256 and single pixels", FACADES | {"discriminator": "pixel"}),
    "digits": Variant(
        "strokes to coloured 8x8 digits, embedded, in two minutes",
        DIGIT_PAIRS | {"source": "strokes", "widths": (32, 32, 32)},
    ),
}
RANGES = TRANSLATION | {"discriminator": tuple(DISCRIMINATORS)}


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    pictures = {"image": config.image or None, "source": config.source or None}
    source, floor = (own_source, "the source") if config.source else (grey, "the grey copy")
    judge = DISCRIMINATORS[config.discriminator]
    judge = partial(judge, width=config.discriminator_width, norm="batch")
    # Sections 3.3 and 3.4: the discriminator's objective is halved, and samples keep dropout.
    how = {"pictures": pictures, "pace": 0.5, "noisy": True}
    return translation_experiment(config, data, UNetGenerator, judge, source, floor, **how)
