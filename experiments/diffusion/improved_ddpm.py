"""Nichol & Dhariwal 2021, Improved denoising diffusion probabilistic models (arXiv:2102.09672).

The network learns the variances of the reverse steps beside the noise, by the paper's hybrid loss
(eq. 16) or by the variational bound alone, with a cosine schedule (eq. 17). So the chain can be
sampled in fewer steps than it was trained with. The paper's importance sampling of timesteps, which
makes the gradient of the bound less noisy, is left out: timesteps are equally likely.

    genax train experiments/diffusion/improved_ddpm.py --workdir runs/improved
    genax train experiments/diffusion/improved_ddpm.py:digits --workdir runs/digits

The paper's best bits per dimension, of the variational objective with its importance sampling: 2.94
(cifar10) and 3.53 (imagenet64). Neither was run here.
"""

from dataclasses import replace
from functools import partial

from genax.diffusion.learned_chain import DEFAULTS as SHARED
from genax.diffusion.learned_chain import IMAGENET, LONG_RUN, learned_experiment
from genax.diffusion.learned_chain import RANGES as SHARED_RANGES
from genax.diffusion.predictions import EPSILON_AND_VARIANCE, scaled_times
from genax.diffusion.settings import COMPARISON, UNET
from genax.diffusion.settings import DIGITS as DIGITS_RUN
from genax.diffusion.tasks import unet
from genax.diffusion.unet import ADM, PRESETS
from genax.diffusion.variational_losses import hybrid_loss, variational_loss
from genax.settings import Variant
from genax.settings.ranges import POSITIVE

DEFAULTS = {
    **(SHARED | UNET),
    # What is trained: L_hybrid, or L_vlb alone.
    "objective": "hybrid",
    # The share of L_vlb in L_hybrid.
    "variational_factor": 0.001,
}
SIZES = {"channels": 128, "num_res_blocks": 3, "attention_resolutions": (16, 8), "num_groups": 32}
SMALL = {"unet": SIZES | {"multipliers": (1, 2, 2, 2), "dropout": 0.3}, "num_timesteps": 4_000}
LARGE = {"unet": SIZES | {"multipliers": (1, 2, 3, 4), "dropout": 0.0}, "num_timesteps": 4_000}
DIGITS = DIGITS_RUN | {"unet": PRESETS["digits"], "num_levels": 17}
VARIANTS = {
    "cpu": Variant("Fashion-MNIST at 28x28 on two cores, 0.7 M parameters, in 100 steps a sample"),
    "comparison": Variant("the protocol by which this chapter's models are compared", COMPARISON),
    "digits": Variant("8x8 digits, embedded, with learned variances, 0.8 M parameters", DIGITS),
    "cifar10": Variant("CIFAR-10 as in the paper, 500,000 steps of 128", LONG_RUN | SMALL),
    "imagenet64": Variant(
        "ImageNet at 64x64 as in the paper, without classes; TFDS downsampled_imagenet",
        {
            **(IMAGENET | LARGE),
            "dataset": "tfds:downsampled_imagenet/64x64",
            "size": 64,
            "parallel": {"topology": "v5e:4x4"},
            "steps": 1_500_000,
        },
    ),
}
RANGES = SHARED_RANGES | {
    "objective": ("hybrid", "variational"),
    "variational_factor": POSITIVE,
}


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    # The network's times are those of 1000 timesteps, whatever their number.
    times = scaled_times(1_000 / config.num_timesteps)
    prediction = replace(EPSILON_AND_VARIANCE, inputs=times)
    hybrid = partial(hybrid_loss, factor=config.variational_factor)
    loss = hybrid if config.objective == "hybrid" else variational_loss
    # The blocks of ADM, but resolution is changed by convolutions.
    blocks = {name: ADM[name] for name in ("epsilon", "scale_shift", "cosine_first")}
    network = unet(config, **blocks, frequency_shift=0, num_heads=4)
    return learned_experiment(config, data, network, loss, prediction)
