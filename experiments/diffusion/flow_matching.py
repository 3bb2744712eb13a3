"""Lipman et al. 2023, Flow matching for generative modeling (arXiv:2210.02747).

A U-Net learns the velocity from images to noise along straight paths, which is also rectified flow
(Liu et al. 2023, arXiv:2209.03003). Times may be logit-normal and shifted towards the noise (Esser
et al. 2024, arXiv:2403.03206), and images and noise of a batch may be paired by optimal transport
(Tong et al. 2024, arXiv:2302.00482). Samples are drawn by Euler's method. The score is the exact
likelihood by the probability flow, in bits per dimension.

    genax train experiments/diffusion/flow_matching.py --workdir runs/flow
    genax train experiments/diffusion/flow_matching.py:digits --workdir runs/digits

cifar10, the scores of Tong et al. after 400,000 steps: FID 3.6 with an adaptive solver; not run
here.
"""

from functools import partial

import jax

from genax.diffusion.coupling import independent, optimal_transport
from genax.diffusion.linear_flow import LinearFlow, logit_normal
from genax.diffusion.losses import denoising_loss
from genax.diffusion.predictions import VELOCITY
from genax.diffusion.settings import CIFAR10 as CIFAR10_RUN
from genax.diffusion.settings import COMPARISON, small_variants
from genax.diffusion.settings import FLOW_DEFAULTS as SHARED
from genax.diffusion.settings import RANGES as SHARED_RANGES
from genax.diffusion.solvers import euler
from genax.diffusion.spacings import flow
from genax.diffusion.tasks import image_experiment, likelihood
from genax.diffusion.unet import PRESETS
from genax.settings import Variant
from genax.settings.ranges import POSITIVE

TIMES = {"uniform": jax.random.uniform, "logit_normal": logit_normal()}
COUPLINGS = {"independent": independent, "optimal_transport": optimal_transport}
DEFAULTS = SHARED | {
    # How times of training are drawn: "uniform", or "logit_normal" with more of them in the middle.
    "times": "uniform",
    # Times of training and sampling are closer to the noise for a shift above 1.
    "shift": 1.0,
    # Which noise an image is joined with: "independent", or by "optimal_transport" over the batch.
    "coupling": "independent",
    "sampling_steps": 50,
}
CIFAR10 = {"unet": PRESETS["cifar10"], "coupling": "optimal_transport", "steps": 400_000}
VARIANTS = small_variants(num_levels=17) | {
    "comparison-rectified": Variant(
        "the comparison with logit-normal times, as in Stable Diffusion 3",
        COMPARISON | {"times": "logit_normal"},
    ),
    "cifar10": Variant("CIFAR-10 by OT-CFM (Tong et al. 2024), 35.7 M", CIFAR10_RUN | CIFAR10),
}
RANGES = SHARED_RANGES | {
    "times": tuple(TIMES),
    "shift": POSITIVE,
    "coupling": tuple(COUPLINGS),
}


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    process = LinearFlow(TIMES[config.times], shift=config.shift)
    parts = {"process": process, "prediction": VELOCITY}
    error = partial(denoising_loss, **parts)
    experiment = partial(image_experiment, config, data, **parts)
    return experiment(
        loss=partial(error, coupling=COUPLINGS[config.coupling]),
        solvers={"images": euler(process, flow(config.sampling_steps, config.shift))},
        said={"images": {"solver": "euler", "steps": config.sampling_steps}},
        # The noise of this time is an eighth of a pixel's level, and float32 resolves it.
        scores=likelihood(config, **parts, smallest_time=1e-3)
        | {"velocity_mse": partial(error, train=False)},
    )
