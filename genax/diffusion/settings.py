"""Settings that experiments with denoisers of images share, and their ranges."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from genax.diffusion import solvers
from genax.diffusion.sampling import Solver
from genax.diffusion.unet import PRESETS
from genax.evaluation.chosen_extractors import SCORES
from genax.nn.optimizers import RANGES as OPTIMIZER
from genax.settings import Variant
from genax.settings.ranges import AMOUNT, COUNT, NOT_NEGATIVE, POSITIVE, SHARE, Range, Ranges

# A run on Fashion-MNIST that takes minutes on two cores.
DEFAULTS: dict[str, Any] = {
    "dataset": "fashion_mnist",
    # Splits of the data set; without a test_split nothing is scored.
    "train_split": "train",
    "test_split": "test",
    "size": 28,
    "flip": False,
    # Classes of the labels that the network gets; 0 is no labels.
    "num_classes": 0,
    # The share of training images that are seen without their label.
    "label_dropout": 0.0,
    # The strength of guidance in samples, whose classes take turns; 1 is none.
    "guidance": 1.0,
    "learning_rate": 1e-3,
    "warmup_steps": 100,
    "gradient_clip": 1.0,
    "ema_decay": 0.995,
    # The first test images that are scored, 0 for all.
    "eval_examples": 500,
    # By which features samples of each sampler are compared with test images, and how many samples:
    # a word of `SCORES`.
    "fidelity": "none",
    "fidelity_examples": 10_000,
    # Training images among which copies are looked for; 0 is as many as samples.
    "fidelity_train_examples": 0,
    "steps": 1000,
    "checkpoint_every": 250,
    "sample_every": 250,
}
# The embedded digits, on which each model of this chapter trains in about two minutes.
DIGITS: dict[str, Any] = {
    "dataset": "digits",
    "size": 8,
    "eval_examples": 0,
    "steps": 800,
    "steps_per_call": 10,
    "checkpoint_every": 400,
    "sample_every": 200,
}
# The protocol by which the models of this chapter are compared: data, batch, images seen.
COMPARISON: dict[str, Any] = {
    "batch_size": 128,
    "steps": 6_000,
    "warmup_steps": 500,
    "ema_decay": 0.999,
    "steps_per_call": 10,
    "log_every": 100,
    "checkpoint_every": 2_000,
    "sample_every": 2_000,
    "fidelity": "both",
}
# CIFAR-10 as Ho et al. 2020 and most papers after them train on it.
CIFAR10: dict[str, Any] = {
    "dataset": "cifar10",
    "size": 32,
    "flip": True,
    "learning_rate": 2e-4,
    "warmup_steps": 5000,
    "ema_decay": 0.9999,
    "eval_examples": 0,
    "batch_size": 128,
    "parallel": {"topology": "v5e:2x4"},
    "steps": 800_000,
    "log_every": 100,
    "checkpoint_every": 10_000,
    "sample_every": 20_000,
    "eval_every": 100_000,
}
# What a run on images of 256x256 changes of that on CIFAR-10.
IMAGE256: dict[str, Any] = {
    "size": 256,
    "batch_size": 64,
    "parallel": {"topology": "v5e:4x8"},
    "num_samples": 16,
    "eval_batch_size": 64,
    "eval_examples": 256,
}
# What a setting `solver` may be: functions of the process and falling times.
SOLVERS: Mapping[str, Callable[..., Solver]] = {
    function.__name__: function
    for function in (
        solvers.ddim,
        solvers.dpm_2,
        solvers.dpm_solver_2m,
        solvers.euler,
        solvers.euler_ancestral,
        solvers.heun,
        solvers.lms,
        solvers.pndm,
        solvers.uni_pc,
    )
}
# The settings of a U-Net as the network, see `unet`.
UNET: dict[str, Any] = {"unet": PRESETS["cpu"]}
# The likelihood by the probability flow, see `likelihood`.
LIKELIHOOD: dict[str, Any] = {
    # Test images whose likelihood is measured, each with about 100 evaluations of the network.
    "eval_examples": 100,
    # The values that a pixel can have.
    "num_levels": 256,
    # Random vectors that estimate the change of volume; 0 is no likelihood.
    "probes": 1,
    # The bound of a step's error. At 1e-5 a network of few steps took 649 evaluations.
    "tolerance": 1e-4,
}
# The chain of DDPM and its variational bound, see `chain_bound`.
CHAIN: dict[str, Any] = {
    "num_timesteps": 1000,
    # The values that a pixel can have.
    "num_levels": 256,
    # The timesteps at which each test image is scored.
    "eval_draws": 10,
}
# The settings of a U-Net, of one on DDPM's chain, and of one whose probability flow is measured.
UNET_DEFAULTS = {**DEFAULTS, **UNET}
CHAIN_DEFAULTS = {**UNET_DEFAULTS, **CHAIN}
FLOW_DEFAULTS = {**UNET_DEFAULTS, **LIKELIHOOD}
RANGES: Ranges = {
    **OPTIMIZER,
    "size": COUNT,
    "unet.channels": COUNT,
    "unet.multipliers": COUNT,
    "unet.num_res_blocks": COUNT,
    "unet.attention_resolutions": replace(COUNT, empty=True),
    "unet.dropout": SHARE,
    "unet.num_groups": COUNT,
    "num_classes": AMOUNT,
    "label_dropout": SHARE,
    "guidance": NOT_NEGATIVE,
    "gradient_clip": NOT_NEGATIVE,
    "ema_decay": SHARE,
    "solver": tuple(SOLVERS),
    "eval_examples": AMOUNT,
    "fidelity": tuple(SCORES),
    "fidelity_examples": replace(COUNT, least=2),
    "fidelity_train_examples": AMOUNT,
    "num_timesteps": COUNT,
    "num_levels": Range(least=2),
    "eval_draws": COUNT,
    "probes": AMOUNT,
    "tolerance": POSITIVE,
    # Of samplers and of processes that add noise to the unscaled image.
    "sampling_steps": COUNT,
    "sigma_min": POSITIVE,
    "sigma_max": POSITIVE,
}


def small_variants(**digits: Any) -> dict[str, Variant]:
    """Return the variants of a model that train on two cores.

    digits: what else differs for the digits.
    """
    few: dict[str, Any] = DIGITS | {"unet": PRESETS["digits"]} | digits
    return {
        "cpu": Variant("Fashion-MNIST at 28x28 in minutes on two cores, 0.7 M parameters"),
        "comparison": Variant("the protocol by which this chapter's models compare", COMPARISON),
        "digits": Variant("8x8 digits, embedded, in two or three minutes on two cores", few),
    }
