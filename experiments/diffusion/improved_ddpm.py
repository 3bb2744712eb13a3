"""Nichol & Dhariwal 2021, Improved denoising diffusion probabilistic models (arXiv:2102.09672).

The network learns the variances of the reverse steps beside the noise, by the paper's hybrid loss
(eq. 16) or by the variational bound alone, with a cosine schedule (eq. 17). So the chain can be
sampled in fewer steps than it was trained with. The paper's importance sampling of timesteps, which
makes the gradient of the bound less noisy, is left out: timesteps are equally likely.

    genax train experiments/diffusion/improved_ddpm.py --workdir runs/improved
    genax train experiments/diffusion/improved_ddpm.py:digits --workdir runs/digits

cifar10, the paper's scores of L_hybrid after 500,000 steps: FID 3.29 and 3.17 bits per dimension;
imagenet64 after 1,500,000 steps: FID 19.2 and 3.57 bits per dimension. Neither was run here.
"""

from dataclasses import replace
from functools import partial

from genax.diffusion.likelihood import variational_bound
from genax.diffusion.losses import denoising_loss
from genax.diffusion.predictions import EPSILON_AND_VARIANCE, scaled_times
from genax.diffusion.process import DiscreteProcess, learned_range
from genax.diffusion.respacing import in_sections
from genax.diffusion.schedules import SCHEDULES
from genax.diffusion.solvers import ancestral
from genax.diffusion.tasks import CIFAR10 as CIFAR10_RUN
from genax.diffusion.tasks import COMPARISON, UNET, image_experiment, unet
from genax.diffusion.tasks import DEFAULTS as SHARED
from genax.diffusion.tasks import DIGITS as DIGITS_RUN
from genax.diffusion.tasks import RANGES as SHARED_RANGES
from genax.diffusion.unet import ADM, PRESETS
from genax.diffusion.variational_losses import hybrid_loss, variational_loss
from genax.settings import Variant
from genax.settings.ranges import COUNT, POSITIVE, Range

DEFAULTS = SHARED | {
    **UNET,
    "schedule": "cosine",
    "num_timesteps": 1_000,
    # What is trained: L_hybrid, or L_vlb alone.
    "objective": "hybrid",
    # The share of L_vlb in L_hybrid.
    "variational_factor": 0.001,
    # The evenly spaced timesteps of the chain that samples are drawn by.
    "sampling_steps": 100,
    # The values that a pixel can have, and the timesteps at which each test image is scored.
    "num_levels": 256,
    "eval_draws": 10,
}
SMALL = {"channels": 128, "num_res_blocks": 3, "attention_resolutions": (16, 8), "num_groups": 32}
PAPER = CIFAR10_RUN | {
    "unet": SMALL | {"multipliers": (1, 2, 2, 2), "dropout": 0.3},
    "num_timesteps": 4_000,
    "learning_rate": 1e-4,
    "warmup_steps": 0,
    "gradient_clip": 0.0,
    "steps": 500_000,
}
VARIANTS = {
    "cpu": Variant("Fashion-MNIST at 28x28 in minutes on two cores, 0.7 M parameters"),
    "comparison": Variant("the protocol by which this chapter's models are compared", COMPARISON),
    "digits": Variant(
        "8x8 digits, embedded, in about two minutes on two cores",
        DIGITS_RUN | {"unet": PRESETS["digits"], "num_levels": 17},
    ),
    "cifar10": Variant("CIFAR-10 as in the paper, 4000 timesteps, 500,000 steps of 128", PAPER),
    "imagenet64": Variant(
        "ImageNet at 64x64 as in the paper, without classes; TFDS downsampled_imagenet",
        PAPER
        | {
            "dataset": "tfds:downsampled_imagenet/64x64",
            "test_split": "validation",
            "flip": False,
            "size": 64,
            "unet": SMALL | {"multipliers": (1, 2, 3, 4), "dropout": 0.0},
            "parallel": {"topology": "v5e:4x4"},
            "sampling_steps": 250,
            "steps": 1_500_000,
        },
    ),
}
RANGES = SHARED_RANGES | {
    "schedule": tuple(SCHEDULES),
    "num_timesteps": Range(least=2, most=100_000, whole=True),
    "objective": ("hybrid", "variational"),
    "variational_factor": POSITIVE,
    "sampling_steps": COUNT,
    "num_levels": Range(least=2),
    "eval_draws": COUNT,
}


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    process = DiscreteProcess(SCHEDULES[config.schedule](config.num_timesteps))
    # The network's times are those of 1000 timesteps, whatever their number.
    prediction = replace(EPSILON_AND_VARIANCE, inputs=scaled_times(1_000 / config.num_timesteps))
    common = {"process": process, "prediction": prediction}
    levels = {"num_levels": config.num_levels}
    loss = partial(variational_loss, **common, **levels)
    if config.objective == "hybrid":
        loss = partial(hybrid_loss, **common, **levels, factor=config.variational_factor)
    steps = in_sections(config.num_timesteps, [config.sampling_steps])
    bound = partial(
        variational_bound,
        **common,
        **levels,
        num_draws=config.eval_draws,
        variance=learned_range,
    )
    # The blocks of ADM, whose resolution convolutions change.
    blocks = {name: ADM[name] for name in ("epsilon", "scale_shift", "cosine_first")}
    return image_experiment(
        config,
        data,
        network=unet(config, **blocks, frequency_shift=0, num_heads=4),
        process=process,
        prediction=prediction,
        loss=loss,
        solvers={"images": ancestral(process, learned_range, steps)},
        scores={
            "bits_per_dim": bound,
            "epsilon_mse": partial(denoising_loss, **common, train=False),
        },
    )
