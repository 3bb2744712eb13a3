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
from genax.diffusion.ncsnpp import PRESETS as NCSNPP
from genax.diffusion.ncsnpp import NCSNpp
from genax.diffusion.predictions import CONTINUOUS_EPSILON
from genax.diffusion.scores import half_sum, scaled_score
from genax.diffusion.settings import CIFAR10 as CIFAR10_RUN
from genax.diffusion.settings import COMPARISON, small_variants
from genax.diffusion.settings import FLOW_DEFAULTS as SHARED
from genax.diffusion.settings import RANGES as SHARED_RANGES
from genax.diffusion.solvers import heun
from genax.diffusion.solvers.predictor_corrector import (
    euler_maruyama,
    predictor_corrector,
    reverse_diffusion,
)
from genax.diffusion.tasks import image_experiment, likelihood, network_of
from genax.diffusion.variance_exploding import GeometricExploding
from genax.diffusion.variance_preserving import SubVariancePreserving, VariancePreserving
from genax.settings import Variant
from genax.settings.ranges import AMOUNT, COUNT, POSITIVE, Range

PREDICTORS = {"euler_maruyama": euler_maruyama, "reverse_diffusion": reverse_diffusion}
DEFAULTS = SHARED | {
    # "unet" with the settings below that name, or a network of the paper.
    "network": "unet",
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
NETWORKS = {name: (NCSNpp, fields) for name, fields in NCSNPP.items()}
CIFAR10 = CIFAR10_RUN | {"sampling_steps": 1000, "flow_steps": 100, "steps": 1_300_000}
CIFAR10_VE = CIFAR10 | VE | {"network": "ncsnpp", "ema_decay": 0.999}
DEEP = {"steps": 950_000}
FACES = CIFAR10_VE | {
    "dataset": "tfds:celeb_a_hq/256",
    "test_split": "",
    "size": 256,
    "network": "ncsnpp-ffhq256",
    "sigma_max": 696.0,
    "snr": 0.075,
    "sampling_steps": 2000,
    "batch_size": 64,
    "num_samples": 16,
    "parallel": {"topology": "v5e:4x8"},
    "steps": 2_400_000,
}
LARGE_FACES = {
    "ema_decay": 0.9999,
    "dataset": "tfds:celeb_a_hq/1024",
    "size": 1024,
    "network": "ncsnpp-ffhq1024",
    "sigma_max": 2696.0,
    "snr": 0.15,
    "batch_size": 8,
    "parallel": {"topology": "v5e:2x4"},
}
SMALL = small_variants(num_levels=17)
# The largest noise is about the largest distance between two images (Song & Ermon 2020, technique
# 1): 41.9 among 3,000 of Fashion-MNIST, 9.6 among the digits.
SMALL_VE = VE | {"sigma_max": 45.0}
DIGITS_VE = VE | {"sigma_max": 10.0}
VARIANTS = SMALL | {
    "cpu-ve": Variant("Fashion-MNIST by the VE SDE", SMALL_VE),
    "cpu-sub-vp": Variant("Fashion-MNIST by the sub-VP SDE", {"sde": "sub-vp"}),
    "comparison-ve": Variant("the VE SDE by the protocol of the comparison", COMPARISON | SMALL_VE),
    "digits-ve": Variant("digits by the VE SDE", SMALL["digits"].settings | DIGITS_VE),
    "cifar10": Variant("CIFAR-10, DDPM++ cont. (VP)", CIFAR10 | {"network": "ddpmpp"}),
    "cifar10-deep": Variant(
        "CIFAR-10, DDPM++ cont. deep (VP)", CIFAR10 | DEEP | {"network": "ddpmpp-deep"}
    ),
    "cifar10-sub-vp": Variant(
        "CIFAR-10, DDPM++ cont. (sub-VP)", CIFAR10 | {"network": "ddpmpp", "sde": "sub-vp"}
    ),
    "cifar10-sub-vp-deep": Variant(
        "CIFAR-10, DDPM++ cont. deep (sub-VP)",
        CIFAR10 | DEEP | {"network": "ddpmpp-deep", "sde": "sub-vp"},
    ),
    "cifar10-ve": Variant("CIFAR-10, NCSN++ cont. (VE)", CIFAR10_VE),
    "cifar10-ve-deep": Variant(
        "CIFAR-10, NCSN++ cont. deep (VE)", CIFAR10_VE | DEEP | {"network": "ncsnpp-deep"}
    ),
    "faces256": Variant("CelebA-HQ at 256x256 as the paper's FFHQ, 65.6 M parameters (VE)", FACES),
    "faces1024": Variant(
        "CelebA-HQ at 1024x1024 as the paper's FFHQ, 105.8 M parameters (VE)", FACES | LARGE_FACES
    ),
}
RANGES = SHARED_RANGES | {
    "network": ("unet", *NETWORKS),
    "sde": ("vp", "sub-vp", "ve"),
    "smallest_time": Range(above=0, below=1),
    "predictor": tuple(PREDICTORS),
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
    parts = {"process": process, "prediction": prediction}
    error = partial(denoising_loss, **parts)
    times = np.linspace(1, config.smallest_time, config.sampling_steps)
    solvers = {
        "images": predictor_corrector(
            process,
            times,
            predictor=PREDICTORS[config.predictor],
            snr=config.snr,
            corrections=config.corrections,
        ),
        "flow": heun(process, np.linspace(1, config.smallest_time, config.flow_steps)),
    }
    said = {
        "images": {"solver": f"{config.predictor} and Langevin", "steps": config.sampling_steps}
        | {name: config[name] for name in ("corrections", "snr")},
        "flow": {"solver": "heun", "steps": config.flow_steps},
    }
    experiment = partial(image_experiment, config, data, said=said, **parts)
    return experiment(
        clip_denoised=False,
        # The paper's code has half the sum over pixels for the VE SDE, and the mean for others.
        loss=half_sum(error) if config.sde == "ve" else error,
        solvers=solvers,
        scores=likelihood(config, **parts) | {"noise_mse": partial(error, train=False)},
        network=network_of(config, NETWORKS),
    )
