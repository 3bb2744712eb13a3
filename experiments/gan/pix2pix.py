"""Isola et al. 2017, Image-to-image translation with conditional GANs, Pix2Pix (arXiv:1611.07004).

A U-Net generator whose only noise is dropout, a discriminator of 70x70 patches that sees the source
as well, the non-saturating game halved for the discriminator, the mean absolute distance weighted
by 100, Adam at 2e-4 with b1 = 0.5. Samples keep dropout and the statistics of their own batch.

    genax train experiments/gan/pix2pix.py --workdir runs/pix2pix
"""

from genax.gan.patch_discriminator import PatchDiscriminator, PixelDiscriminator
from genax.gan.translation import grey, own_source
from genax.gan.translation_tasks import DEFAULTS as SHARED
from genax.gan.translation_tasks import RANGES as TRANSLATION
from genax.gan.translation_tasks import images_of, translation_experiment
from genax.gan.unet_generator import UNetGenerator
from genax.settings import Variant, from_config
from genax.settings.ranges import AMOUNT, COUNT, SHARE

DISCRIMINATORS = {"patch": PatchDiscriminator, "pixel": PixelDiscriminator}
# Section 3.3: the discriminator's objective is halved, to slow it down.
PACE = 0.5
DEFAULTS = SHARED | {
    "dataset": "openmoji",
    # The picture of the set that is made, and the one that it is made of; "" is a grey copy.
    "image": "colour",
    "source": "line_art",
    # Channels of the U-Net after each halving of the resolution.
    "widths": (32, 64, 128, 128, 128),
    "dropout": 0.5,
    # "patch", or "pixel" for single pixels.
    "discriminator": "patch",
    "discriminator_width": 32,
    # Layers of stride 2 of a discriminator of patches.
    "num_layers": 2,
    "batch_size": 16,
    "eval_batch_size": 16,
}
DIGITS = {
    "dataset": "digit_pairs",
    "source": "strokes",
    "size": 8,
    "widths": (32, 32, 32),
    "discriminator_width": 16,
    "num_layers": 1,
    "learning_rate": 1e-3,
    "steps": 1_500,
    "log_every": 50,
    "checkpoint_every": 500,
    "sample_every": 500,
}
# Of a set of 400 images, as the facades, 200 epochs.
PUBLISHED = {
    "size": 256,
    "widths": (64, 128, 256, 512, 512, 512, 512, 512),
    "discriminator_width": 64,
    "num_layers": 3,
    "jitter": 30,
    "flip": True,
    "batch_size": 1,
    "eval_batch_size": 1,
    "constant_steps": 40_000,
    "decay_steps": 40_000,
    "steps": 80_000,
    "log_every": 100,
    "checkpoint_every": 4_000,
    "sample_every": 4_000,
    "parallel": {"topology": "v5e:1x1"},
}
VARIANTS = {
    "cpu": Variant("line art to colour, 32x32, on two cores"),
    "l1": Variant("the same without a discriminator: the distance alone", {"game_weight": 0.0}),
    "colourisation": Variant(
        "grey to colour, 32x32, CIFAR-10", {"dataset": "cifar10"} | {"image": "", "source": ""}
    ),
    "published": Variant("U-Net-256 and patches of 70x70, batches of 1", PUBLISHED),
    "pixel": Variant(
        "the same with a discriminator of pixels", PUBLISHED | {"discriminator": "pixel"}
    ),
    "digits": Variant("strokes to coloured 8x8 digits, embedded, in two minutes", DIGITS),
}
RANGES = TRANSLATION | {
    "widths": COUNT,
    "dropout": SHARE,
    "discriminator": tuple(DISCRIMINATORS),
    "discriminator_width": COUNT,
    "num_layers": AMOUNT,
}


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    train, test = images_of(config, data, image=config.image or None, source=config.source or None)
    discriminator = DISCRIMINATORS[config.discriminator]
    return translation_experiment(
        config,
        train,
        test,
        source=own_source if config.source else grey,
        generator=from_config(UNetGenerator, config, channels=train.element["image"].shape[-1]),
        discriminator=from_config(discriminator, config, width=config.discriminator_width),
        floor="the source" if config.source else "the grey copy",
        noisy=True,
        pace=PACE,
    )
