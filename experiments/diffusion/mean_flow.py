"""Geng et al. 2025, Mean flows for one-step generative modeling (arXiv:2505.13447).

A U-Net with two times learns the average velocity between them, along straight paths from images to
noise. One evaluation makes a sample. Samples in two and in 50 steps stand beside it.

    genax train experiments/diffusion/mean_flow.py --workdir runs/mean_flow
    genax train experiments/diffusion/mean_flow.py:digits --workdir runs/digits

cifar10 has the settings of the paper's appendix, with the U-Net of DDPM in place of that of
DDPM++ (55 M parameters), whose one-step FID is 2.92; not run here.
"""

from functools import partial

from genax.diffusion.linear_flow import LinearFlow, logit_normal
from genax.diffusion.mean_flow import mean_flow_loss
from genax.diffusion.predictions import AVERAGE_VELOCITY
from genax.diffusion.settings import CIFAR10 as CIFAR10_RUN
from genax.diffusion.settings import RANGES as SHARED_RANGES
from genax.diffusion.settings import UNET_DEFAULTS as SHARED
from genax.diffusion.settings import small_variants
from genax.diffusion.solvers.mean_flow import mean_flow
from genax.diffusion.spacings import flow
from genax.diffusion.tasks import image_experiment, unet
from genax.diffusion.unet import PRESETS
from genax.settings import Variant
from genax.settings.ranges import NOT_NEGATIVE, POSITIVE, Range

DEFAULTS = SHARED | {
    # The mean and the standard deviation of the logit of both times.
    "time_mean": -0.4,
    "time_deviation": 1.0,
    # The share of images whose two times differ; the others learn the velocity of one time.
    "interval_share": 0.25,
    # The power of an example's error that its loss is divided by.
    "adaptive_power": 1.0,
}
CIFAR10 = {
    "unet": PRESETS["cifar10"] | {"dropout": 0.2},
    "time_mean": -2.0,
    "time_deviation": 2.0,
    "interval_share": 0.75,
    "adaptive_power": 0.75,
    "learning_rate": 6e-4,
    "warmup_steps": 10_000,
    "ema_decay": 0.99995,
    "batch_size": 1024,
    "parallel": {"topology": "v5e:4x8"},
}
VARIANTS = small_variants() | {
    "cifar10": Variant(
        "CIFAR-10 with the paper's settings, 36.1 M parameters", CIFAR10_RUN | CIFAR10
    ),
}
RANGES = SHARED_RANGES | {
    "time_mean": Range(),
    "time_deviation": POSITIVE,
    "interval_share": Range(least=0, most=1),
    "adaptive_power": NOT_NEGATIVE,
}


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    process = LinearFlow(logit_normal(config.time_mean, config.time_deviation))
    parts = {"process": process, "prediction": AVERAGE_VELOCITY}
    loss = partial(
        mean_flow_loss, **parts, interval_share=config.interval_share, power=config.adaptive_power
    )
    steps = {"images": 1, "two_steps": 2, "fifty_steps": 50}
    experiment = partial(image_experiment, config, data, **parts)
    return experiment(
        network=unet(config, two_times=True),
        loss=loss,
        solvers={name: mean_flow(process, flow(number)) for name, number in steps.items()},
        said={name: {"solver": "mean flow", "steps": number} for name, number in steps.items()},
        scores={"mean_flow": partial(loss, power=0.0, train=False)},
    )
