"""Karras et al. 2022, Elucidating the design space of diffusion models (arXiv:2206.00364).

A preconditioned network is trained at log-normal levels of noise. Samples are drawn by Heun's
method, which may add noise as it goes (churn). The scores are the likelihood by the probability
flow, in bits per dimension, and the training loss on test images.

    genax train experiments/diffusion/edm.py --workdir runs/edm
    genax train experiments/diffusion/edm.py:digits --workdir runs/digits

cifar10, the paper's score after 200 million images: FID 1.97 without labels; not run here.
"""

from functools import partial

from genax.diffusion.losses import denoising_loss
from genax.diffusion.preconditioning import preconditioned
from genax.diffusion.solvers import heun
from genax.diffusion.spacings import karras
from genax.diffusion.tasks import COMPARISON, LIKELIHOOD, UNET, image_experiment, likelihood, unet
from genax.diffusion.tasks import DEFAULTS as SHARED
from genax.diffusion.tasks import DIGITS as DIGITS_RUN
from genax.diffusion.tasks import RANGES as SHARED_RANGES
from genax.diffusion.unet import PRESETS
from genax.diffusion.variance_exploding import VarianceExploding
from genax.nn.ema import ema_half_life
from genax.settings import Variant
from genax.settings.ranges import COUNT, NOT_NEGATIVE, POSITIVE, Range

DEFAULTS = {
    **SHARED,
    **UNET,
    **LIKELIHOOD,
    # The standard deviation of the data.
    "data_deviation": 0.5,
    # The mean and the standard deviation of the logarithm of the noise in training.
    "log_mean": -1.2,
    "log_deviation": 1.2,
    # The noise of the first and the last step of sampling; n steps take 2 n - 1 evaluations.
    "sigma_min": 0.002,
    "sigma_max": 80.0,
    "sampling_steps": 18,
    # The images after which half of an average is new, at most 5% of those seen; 0 is `ema_decay`.
    "half_life": 0.0,
}
DIGITS = DIGITS_RUN | {"unet": PRESETS["digits"], "num_levels": 17}
VARIANTS = {
    "cpu": Variant("Fashion-MNIST at 28x28 in minutes on two cores, 0.7 M parameters"),
    "comparison": Variant("the protocol by which this chapter's models are compared", COMPARISON),
    "digits": Variant("8x8 digits, embedded, in about two minutes on two cores", DIGITS),
}
RANGES = SHARED_RANGES | {
    "data_deviation": POSITIVE,
    "log_mean": Range(),
    "log_deviation": POSITIVE,
    "sigma_min": POSITIVE,
    "sigma_max": POSITIVE,
    "sampling_steps": COUNT,
    "half_life": NOT_NEGATIVE,
}


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    process = VarianceExploding(config.log_mean, config.log_deviation)
    prediction = preconditioned(config.data_deviation)
    error = partial(denoising_loss, process=process, prediction=prediction)
    ends = {"smallest": config.sigma_min, "largest": config.sigma_max}
    averages = None
    if config.half_life:
        averages = ema_half_life(config.half_life, config.batch_size, ramp_up=0.05)
    bits = likelihood(
        config,
        process,
        prediction,
        smallest_time=config.sigma_min,
        largest_time=config.sigma_max,
    )
    return image_experiment(
        config,
        data,
        network=unet(config),
        process=process,
        prediction=prediction,
        loss=error,
        solvers={"images": heun(process, karras(config.sampling_steps, **ends))},
        scores=bits | {"output_mse": partial(error, train=False)},
        averages=averages,
    )
