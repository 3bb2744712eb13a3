"""Settings that experiments with translations of images share, and their ranges."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from genax.gan.settings import PLAIN_PENALTIES, PLAYERS
from genax.gan.settings import RANGES as GAN
from genax.settings.ranges import AMOUNT, COUNT, NOT_NEGATIVE, SHARE, Range, Ranges

# Of every translation.
IMAGES: dict[str, Any] = {
    "size": 32,
    # Pixels by which a training image is enlarged before its old size is cut out; 0 is no jitter.
    "jitter": 0,
    "flip": False,
    "learning_rate": 2e-4,
    "b1": 0.5,
    # The steps before the rate falls, and those in which it falls to 0; 0 of these is no fall.
    "constant_steps": 0,
    "decay_steps": 0,
    "steps": 5_000,
    "log_every": 50,
    "checkpoint_every": 1_000,
    "sample_every": 1_000,
    "num_samples": 16,
}
# Of a translation whose true result is known, see `translation_experiment`.
PAIRS: dict[str, Any] = {
    **{name: value for name, value in PLAYERS.items() if name != "latent_size"},
    **IMAGES,
    "train_split": "train",
    "test_split": "test",
    # The weights of the game and of the distance to the true image in the generator's loss. A game
    # of weight 0 is left out, and the discriminator with it.
    "game_weight": 1.0,
    "distance_weight": 100.0,
    # The power of the distance: 1, or 2 for the squared error.
    "power": 1,
    "ema": 0.0,
    # By which features translations are compared with test images, and how many of them.
    "fidelity": "none",
    "fidelity_examples": 10_000,
    "batch_size": 16,
    "eval_batch_size": 16,
}
# Of a discriminator of patches: channels of its first layer, and layers of stride 2.
PATCHES: dict[str, Any] = {"discriminator_width": 32, "num_layers": 2}
# Embedded digits, on which each model trains in about two minutes.
DIGITS: dict[str, Any] = {
    "size": 8,
    "learning_rate": 1e-3,
    "steps": 1_500,
    "checkpoint_every": 500,
    "sample_every": 500,
}
DIGIT_PAIRS: dict[str, Any] = {**DIGITS, "dataset": "digit_pairs", "num_layers": 1}
# Pix2Pix and CycleGAN as they are published.
PUBLISHED: dict[str, Any] = {
    "size": 256,
    "jitter": 30,
    "flip": True,
    "discriminator_width": 64,
    "num_layers": 3,
    "batch_size": 1,
    "eval_batch_size": 1,
    "log_every": 100,
    "checkpoint_every": 5_000,
    "sample_every": 5_000,
    "parallel": {"topology": "v5e:1x1"},
}
RANGES: Ranges = {
    **GAN,
    "size": COUNT,
    "jitter": AMOUNT,
    "widths": COUNT,
    "num_blocks": COUNT,
    "dropout": SHARE,
    "hidden_size": COUNT,
    "discriminator_width": COUNT,
    "num_layers": AMOUNT,
    "game_weight": NOT_NEGATIVE,
    "distance_weight": NOT_NEGATIVE,
    "power": Range(least=1, most=2, whole=True),
    "cycle_weight": NOT_NEGATIVE,
    "identity_weight": NOT_NEGATIVE,
    "pool_size": AMOUNT,
    "factor": replace(COUNT, least=2),
    # A discriminator that sees a source scores each image by itself.
    "pack": Range(least=1, most=1, whole=True),
    "penalty": PLAIN_PENALTIES,
}


def epochs(images: int) -> dict[str, Any]:
    """Return the steps of 100 epochs at the full rate and of 100 in which it falls to 0.

    images: of the data set, one a step.
    """
    half = 100 * images
    return {"constant_steps": half, "decay_steps": half, "steps": 2 * half}
