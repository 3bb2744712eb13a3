"""Song et al. 2021, Score-based generative modeling through SDEs (arXiv:2011.13456).

The score of images under three diffusions in continuous time: the variance-preserving SDE (VP), of
which DDPM is a discretisation, the variance-exploding SDE (VE), and the sub-VP SDE. Samples are
drawn by a predictor and a corrector, and by the probability flow. The score is the likelihood by
the probability flow, in bits per dimension.

    genax train experiments/diffusion/score_sde.py --workdir runs/vp
    genax train experiments/diffusion/score_sde.py:cpu-ve --workdir runs/ve
    genax train experiments/diffusion/score_sde.py:digits --workdir runs/digits

The paper's scores on CIFAR-10, not run here: FID 2.20 with the VE SDE and the deep NCSN++, and 2.99
bits per dimension with the sub-VP SDE and the deep DDPM++.
"""

from functools import partial

import numpy as np

from genax.diffusion.losses import denoising_loss
from genax.diffusion.predictions import CONTINUOUS_EPSILON
from genax.diffusion.scores import half_sum, scaled_score
from genax.diffusion.solvers import heun
from genax.diffusion.solvers.predictor_corrector import (
    euler_maruyama,
    predictor_corrector,
    reverse_diffusion,
)
from genax.diffusion.tasks import COMPARISON, LIKELIHOOD, UNET, image_experiment, likelihood, unet
from genax.diffusion.tasks import DEFAULTS as SHARED
from genax.diffusion.tasks import DIGITS as DIGITS_RUN
from genax.diffusion.tasks import RANGES as SHARED_RANGES
from genax.diffusion.unet import PRESETS
from genax.diffusion.variance_exploding import GeometricExploding
from genax.diffusion.variance_preserving import SubVariancePreserving, VariancePreserving
from genax.settings import Variant
from genax.settings.ranges import AMOUNT, COUNT, POSITIVE, Range

DEFAULTS = {
    **SHARED,
    **UNET,
    **LIKELIHOOD,
    # The diffusion: "vp", "sub-vp" or "ve".
    "sde": "vp",
    # The ends of the noise of "ve", for images in [-1, 1] (twice those of the paper).
    "sigma_min": 0.02,
    "sigma_max": 100.0,
    # Steps of the sampler "images" from time 1 to the smallest one, and corrections at each time.
    "sampling_steps": 100,
    "smallest_time": 1e-3,
    "predictor": "euler_maruyama",
    "corrections": 0,
    "snr": 0.16,
    # Steps of the sampler "flow", each of two evaluations.
    "flow_steps": 25,
}
VE = {"sde": "ve", "smallest_time": 1e-5, "predictor": "reverse_diffusion", "corrections": 1}
DIGITS = DIGITS_RUN | {"unet": PRESETS["digits"], "num_levels": 17}
VARIANTS = {
    "cpu": Variant("Fashion-MNIST at 28x28 by the VP SDE, in minutes on two cores, 0.7 M"),
    "cpu-ve": Variant("the same by the VE SDE", VE),
    "cpu-sub-vp": Variant("the same by the sub-VP SDE", {"sde": "sub-vp"}),
    "comparison": Variant("the VP SDE by the protocol of this chapter's comparison", COMPARISON),
    "comparison-ve": Variant("the VE SDE by that protocol", COMPARISON | VE),
    "digits": Variant("8x8 digits, embedded, by the VP SDE, in about two minutes", DIGITS),
    "digits-ve": Variant("8x8 digits by the VE SDE", DIGITS | VE),
}
RANGES = SHARED_RANGES | {
    "sde": ("vp", "sub-vp", "ve"),
    "sigma_min": POSITIVE,
    "sigma_max": POSITIVE,
    "sampling_steps": COUNT,
    "smallest_time": Range(above=0, below=1),
    "predictor": ("euler_maruyama", "reverse_diffusion"),
    "corrections": AMOUNT,
    "snr": POSITIVE,
    "flow_steps": COUNT,
}


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    if config.sde == "ve":
        process = GeometricExploding(config.sigma_min, config.sigma_max)
        prediction = scaled_score()
    else:
        process = {"vp": VariancePreserving, "sub-vp": SubVariancePreserving}[config.sde]()
        prediction = CONTINUOUS_EPSILON
    predictor = {"euler_maruyama": euler_maruyama, "reverse_diffusion": reverse_diffusion}
    error = partial(denoising_loss, process=process, prediction=prediction)
    times = np.linspace(1, config.smallest_time, config.sampling_steps)
    solvers = {
        "images": predictor_corrector(
            process,
            times,
            predictor=predictor[config.predictor],
            snr=config.snr,
            corrections=config.corrections,
        ),
        "flow": heun(process, np.linspace(1, config.smallest_time, config.flow_steps)),
    }
    bits = likelihood(config, process, prediction)
    return image_experiment(
        config,
        data,
        network=unet(config),
        process=process,
        prediction=prediction,
        clip_denoised=False,
        # The paper's code has half the sum over pixels for the VE SDE, and the mean for others.
        loss=half_sum(error) if config.sde == "ve" else error,
        solvers=solvers,
        scores=bits | {"noise_mse": partial(error, train=False)},
    )
