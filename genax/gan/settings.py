"""Settings that experiments with GANs of images share, and their ranges."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any

from genax.evaluation.chosen_extractors import SCORES
from genax.gan import game, penalties
from genax.gan.augmentation import POLICIES, SHIFTED
from genax.nn.optimizers import RANGES as OPTIMIZER
from genax.settings import Variant
from genax.settings.ranges import AMOUNT, COUNT, NOT_NEGATIVE, POSITIVE, SHARE, Range, Ranges

# Of two players, whatever they make: see `play_out`.
PLAYERS: dict[str, Any] = {
    "latent_size": 64,
    # What both players minimise: see `GAMES`.
    "game": "non_saturating",
    # Moves of the discriminator for each of the generator. A step is one of the discriminator.
    "critic_steps": 1,
    # Samples that the discriminator scores together (PacGAN); 1 is each by itself.
    "pack": 1,
    # What is added to the discriminator's objective, and its weight: see `PENALTIES`. 0 is the
    # default of the penalty's function.
    "penalty": "none",
    "penalty_weight": 0.0,
    "learning_rate": 2e-4,
    "b1": 0.5,
    "b2": 0.999,
    # The decay of the averaged generator that is sampled and scored; 0 is no average.
    "ema": 0.998,
    "steps": 5_000,
    "log_every": 50,
    "checkpoint_every": 1_000,
    "sample_every": 1_000,
    "num_samples": 100,
}
# Of two players whose modes are counted.
MODES: dict[str, Any] = {
    **PLAYERS,
    "ema": 0.0,
    "steps_per_call": 10,
    "log_every": 500,
    "checkpoint_every": 5_000,
    "sample_every": 5_000,
}
# A run on Fashion-MNIST that takes minutes on two cores.
DEFAULTS: dict[str, Any] = {
    **PLAYERS,
    "dataset": "fashion_mnist",
    # Splits of the data set; without a test_split nothing is scored.
    "train_split": "train",
    "test_split": "test",
    "image_size": 28,
    "flip": False,
    # Classes of the labels that both networks get; 0 is no labels.
    "num_classes": 0,
    # How images are changed before the discriminator sees them: see `POLICIES`.
    "augmentation": "none",
    # Samples whose classes are counted by a support vector machine; 0 counts none.
    "coverage_samples": 0,
    # Labelled samples that a classifier is fitted to beside as many real images; 0 fits none.
    "gain_samples": 0,
    # By which features samples are compared with test images, and how many samples.
    "fidelity": "none",
    "fidelity_examples": 10_000,
    # Training images among which copies are looked for; 0 is as many as samples.
    "fidelity_train_examples": 0,
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
    "dataset": "fashion_mnist",
    "image_size": 32,
    "batch_size": 64,
    "steps": 4_000,
    "log_every": 100,
    "checkpoint_every": 2_000,
    "sample_every": 2_000,
    "ema": 0.999,
    "coverage_samples": 0,
    "fidelity": "both",
}
# A run of days at a published size: no average, no scores.
PUBLISHED: dict[str, Any] = {
    "ema": 0.0,
    "test_split": "",
    "log_every": 100,
    "checkpoint_every": 10_000,
    "sample_every": 10_000,
    "num_samples": 64,
    "parallel": {"topology": "v5e:2x2"},
}
# A critic whose slope is held at 1 (Gulrajani et al. 2017), and a game of pairs with slopes held
# at 0 (Huang et al. 2024).
UNIT_SLOPE: dict[str, Any] = {
    "game": "wasserstein",
    "penalty": "gradient",
    "penalty_weight": 10.0,
    "b1": 0.0,
    "b2": 0.9,
}
FLAT_PAIRS: dict[str, Any] = {
    "game": "relativistic",
    "penalty": "r1_r2",
    "penalty_weight": 1.0,
    "b1": 0.0,
    "b2": 0.99,
}
# Networks that grow from 4x4 pixels, see `growth_of`.
GROWTH: dict[str, Any] = {
    "image_size": 32,
    # The first resolution, and how many images are seen at each but the last one while its layers
    # come in, and when they are wholly there.
    "first_size": 4,
    "fade_images": 25_600,
    "stable_images": 25_600,
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
# A generator with styles, see `genax.gan.style_inputs`.
STYLES: dict[str, Any] = {
    # The share of training images that have the styles of two latents.
    "mixing": 0.9,
    # Nearness of samples to the mean style: 1 is none, 0 the mean image.
    "truncation": 1.0,
    # Images after which half of an average is new, in place of `ema`.
    "half_life": 10_000.0,
    "ema": 0.0,
    # Images of a group whose deviation the discriminator sees.
    "group_size": 4,
    "b1": 0.0,
    "b2": 0.99,
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
# What a setting `penalty` may be: by the names of their metrics, functions (nets, batch, round,
# weight) -> one value per element.
PENALTIES: Mapping[str, Mapping[str, Callable[..., Any]]] = {
    "none": {},
    "gradient": {"slope": penalties.gradient_penalty},
    "r1": {"r1": penalties.r1},
    "r1_r2": {"r1": penalties.r1, "r2": penalties.r2},
    "dragan": {"slope": penalties.dragan_penalty},
    "consistency": {"consistency": partial(penalties.consistency, augment=SHIFTED)},
    "le_cam": {"le_cam": penalties.le_cam},
}
# Penalties of data that cannot be shifted and mirrored, such as points and pairs of images.
PLAIN_PENALTIES = tuple(word for word in PENALTIES if word != "consistency")
RANGES: Ranges = {
    **OPTIMIZER,
    "image_size": COUNT,
    "num_classes": AMOUNT,
    "latent_size": COUNT,
    # Of networks and of the data of mode coverage.
    "width": COUNT,
    "widths": COUNT,
    "hidden": COUNT,
    "units": COUNT,
    "pieces": COUNT,
    "blocks": COUNT,
    "group_size": COUNT,
    "dropout": SHARE,
    "input_dropout": SHARE,
    "discriminator_width": COUNT,
    "side": COUNT,
    "mode_samples": COUNT,
    "game": tuple(GAMES),
    "critic_steps": COUNT,
    "pack": COUNT,
    "penalty": tuple(PENALTIES),
    "augmentation": tuple(POLICIES),
    "penalty_weight": NOT_NEGATIVE,
    "ema": SHARE,
    "coverage_samples": AMOUNT,
    "gain_samples": AMOUNT,
    "fidelity": tuple(SCORES),
    "fidelity_examples": replace(COUNT, least=2),
    "fidelity_train_examples": AMOUNT,
    "remat": ("none",),
    "max_width": COUNT,
    "first_size": COUNT,
    "fade_images": COUNT,
    "stable_images": COUNT,
    "batch_sizes": replace(COUNT, empty=True),
    "learning_rates": replace(NOT_NEGATIVE, empty=True),
}
STYLE_RANGES: Ranges = {
    **RANGES,
    "style_size": COUNT,
    "mapping_layers": COUNT,
    "mixing": Range(least=0, most=1),
    "truncation": Range(),
    "half_life": POSITIVE,
    "ema": Range(least=0, most=0),
}


def small_variants(
    digits: Mapping[str, Any],
    comparison: Mapping[str, Any] = MappingProxyType({}),
    cpu: Mapping[str, Any] = MappingProxyType({}),
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


def grown_faces(
    own: Mapping[str, Any], first_size: int = 4, batch_sizes: tuple[int, ...] = (512, 256, 128, 64)
) -> dict[str, Variant]:
    """Return the variants of networks that grow to the faces of CelebA-HQ.

    Each resolution has as many images, as large batches and such rates as in the official code of
    ProGAN and StyleGAN on eight GPUs.

    own: what the model changes, such as its sizes and steps.
    """
    settings = {
        **PUBLISHED,
        "dataset": "tfds:celeb_a_hq/1024",
        "image_size": 1024,
        "flip": True,
        "first_size": first_size,
        "batch_sizes": batch_sizes,
        "batch_size": 32,
        "learning_rates": (1.5e-3, 2e-3, 3e-3, 3e-3),
        "fade_images": 600_000,
        "stable_images": 600_000,
        "num_samples": 16,
        "eval_batch_size": 16,
        "parallel": {"topology": "v5e:4x4"},
        **own,
    }
    smaller = settings | {
        "dataset": "tfds:celeb_a_hq/256",
        "image_size": 256,
        "learning_rates": (1.5e-3, 2e-3),
    }
    return {
        "celeba-hq-256": Variant("CelebA-HQ at 256x256, grown as those of 1024x1024", smaller),
        "celeba-hq-1024": Variant("CelebA-HQ at 1024x1024 with the official settings", settings),
    }
