"""Settings that experiments with GANs of images share, and their ranges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from genax.gan import game
from genax.gan.augmentation import POLICIES
from genax.nn.optimizers import RANGES as OPTIMIZER
from genax.settings import Variant
from genax.settings.ranges import AMOUNT, COUNT, NOT_NEGATIVE, SHARE, Ranges

# A run on Fashion-MNIST that takes minutes on two cores.
DEFAULTS: dict[str, Any] = {
    "dataset": "fashion_mnist",
    # Splits of the data set; without a test_split nothing is scored.
    "train_split": "train",
    "test_split": "test",
    "image_size": 28,
    "flip": False,
    # Classes of the labels that both networks get; 0 is no labels.
    "num_classes": 0,
    "latent_size": 64,
    # What both players minimise: see `GAMES`.
    "game": "non_saturating",
    # Moves of the discriminator for each of the generator. A step is one of the discriminator.
    "critic_steps": 1,
    # Samples that the discriminator scores together (PacGAN); 1 is each by itself.
    "pack": 1,
    # How images are changed before the discriminator sees them: see `POLICIES`.
    "augmentation": "none",
    "learning_rate": 2e-4,
    "b1": 0.5,
    "b2": 0.999,
    # The decay of the averaged generator that is sampled and scored; 0 is no average.
    "ema": 0.998,
    # Samples whose classes are counted by a support vector machine; 0 counts none.
    "coverage_samples": 0,
    # By which features samples are compared with test images, and how many samples.
    "fidelity": "none",
    "fidelity_examples": 10_000,
    "steps": 5_000,
    "log_every": 50,
    "checkpoint_every": 1_000,
    "sample_every": 1_000,
    "num_samples": 100,
    # Whether there are samplers of the latent space: see `latent_tools`. They are asked for after
    # training, as in `genax sample WORKDIR --config.tools=True --sampler interpolation --num 8`.
    "tools": False,
}
# The embedded digits, on which each model of this chapter trains in about two minutes.
DIGITS: dict[str, Any] = {
    "dataset": "digits",
    "image_size": 8,
    "latent_size": 16,
    "coverage_samples": 1_000,
    "steps": 2_000,
    "checkpoint_every": 1_000,
}
# The protocol by which the models of this chapter are compared: data, batch, images seen. `steps`
# is multiplied by the moves of the critic, so that the generator moves 4,000 times.
COMPARISON: dict[str, Any] = {
    "image_size": 32,
    "batch_size": 64,
    "steps": 4_000,
    "log_every": 100,
    "checkpoint_every": 2_000,
    "sample_every": 2_000,
    "ema": 0.999,
    "fidelity": "both",
}
# Networks that grow from 4x4 pixels, see `growth_of`.
GROWTH: dict[str, Any] = {
    # The first resolution, and how many images are seen at each but the last one while its layers
    # come in, and when they are wholly there.
    "first_size": 4,
    "fade_images": 600_000,
    "stable_images": 600_000,
    # Batch sizes of the first resolutions, and learning rates of the last ones. All others have
    # `batch_size` and `learning_rate`.
    "batch_sizes": (),
    "learning_rates": (),
    # Images of a group whose deviation the discriminator sees.
    "group_size": 4,
    "b1": 0.0,
    "b2": 0.99,
    "learning_rate": 1e-3,
}
# What a setting `game` may be.
GAMES: Mapping[str, game.Game] = {
    "minimax": game.MINIMAX,
    "non_saturating": game.NON_SATURATING,
    "least_squares": game.LEAST_SQUARES,
    "hinge": game.HINGE,
    "wasserstein": game.WASSERSTEIN,
    "relativistic": game.RELATIVISTIC,
}
# What a setting `fidelity` may be: the features of which networks. That of "classifier" is trained
# on the labels of the data set.
SCORES: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "classifier": ("classifier",),
    "inception": ("inception",),
    "both": ("classifier", "inception"),
}
RANGES: Ranges = {
    **OPTIMIZER,
    "image_size": COUNT,
    "num_classes": AMOUNT,
    "latent_size": COUNT,
    "width": COUNT,
    "game": tuple(GAMES),
    "critic_steps": COUNT,
    "pack": COUNT,
    "augmentation": tuple(POLICIES),
    "penalty_weight": NOT_NEGATIVE,
    "ema": SHARE,
    "coverage_samples": AMOUNT,
    "fidelity": tuple(SCORES),
    "fidelity_examples": COUNT,
    "remat": ("none",),
    "max_width": COUNT,
    "first_size": COUNT,
    "fade_images": COUNT,
    "stable_images": COUNT,
    "batch_sizes": replace(COUNT, empty=True),
    "learning_rates": replace(NOT_NEGATIVE, empty=True),
    "group_size": COUNT,
}


def small_variants(
    cpu: Mapping[str, Any], comparison: Mapping[str, Any], digits: Mapping[str, Any]
) -> dict[str, Variant]:
    """Return the variants of a model that train on two cores: what each of them changes."""
    return {
        "cpu": Variant("images of 28x28 in minutes on two cores", cpu),
        "comparison": Variant(
            "the protocol by which this chapter's models compare", {**COMPARISON, **comparison}
        ),
        "digits": Variant(
            "8x8 digits, embedded, in about two minutes on two cores", {**DIGITS, **digits}
        ),
    }
