"""Karras et al. 2022, Elucidating the design space of diffusion models (arXiv:2206.00364).

A preconditioned network is trained at log-normal levels of noise. Samples are drawn by Heun's
method, which may add noise as it goes (churn). The scores are the likelihood by the probability
flow, in bits per dimension, and the training loss on test images. Training images may be augmented
(`augment_probability`); samples and scores are of images that are not.

    genax train experiments/diffusion/edm.py --workdir runs/edm
    genax train experiments/diffusion/edm.py:digits --workdir runs/digits

cifar10, the paper's score after 200 million images: FID 1.97 without labels; not run here.
"""

from dataclasses import asdict
from functools import partial

from genax.diffusion.augmentation import NUM_LABELS, on_augmented
from genax.diffusion.losses import denoising_loss
from genax.diffusion.ncsnpp import PRESETS as NCSNPP
from genax.diffusion.ncsnpp import NCSNpp
from genax.diffusion.preconditioning import preconditioned
from genax.diffusion.settings import CIFAR10 as CIFAR10_RUN
from genax.diffusion.settings import FLOW_DEFAULTS as SHARED
from genax.diffusion.settings import RANGES as SHARED_RANGES
from genax.diffusion.settings import small_variants
from genax.diffusion.solvers import heun
from genax.diffusion.solvers.churn import Churn
from genax.diffusion.spacings import karras
from genax.diffusion.tasks import image_experiment, likelihood, network_of
from genax.diffusion.unet import PRESETS, UNet
from genax.diffusion.variance_exploding import VarianceExploding
from genax.nn.ema import ema_half_life
from genax.settings import Variant
from genax.settings.ranges import NOT_NEGATIVE, POSITIVE, SHARE, Range

DEFAULTS = SHARED | {
    # "unet" with the settings below that name, or a network of the paper.
    "network": "unet",
    # The standard deviation of the data.
    "data_deviation": 0.5,
    # The mean and the standard deviation of the logarithm of the noise in training.
    "log_mean": -1.2,
    "log_deviation": 1.2,
    # The noise of the first and the last step of sampling; n steps take 2 n - 1 evaluations.
    "sigma_min": 0.002,
    "sigma_max": 80.0,
    "sampling_steps": 18,
    # The noise added before each step, S_churn, between two levels, and its standard deviation.
    "churn": 0.0,
    "churn_min": 0.05,
    "churn_max": 50.0,
    "churn_noise": 1.003,
    # The images after which half of an average is new, at most 5% of those seen; 0 is `ema_decay`.
    "half_life": 0.0,
    # The probability of each part of the augmentation, whose labels the network gets; 0 is none.
    "augment_probability": 0.0,
}
SIZE = {"multipliers": (2, 2, 2), "dropout": 0.13}
NETWORKS = {
    "ddpmpp": (NCSNpp, NCSNPP["ddpmpp"] | SIZE),
    "ncsnpp": (NCSNpp, NCSNPP["ncsnpp"] | SIZE),
    "adm64": (UNet, PRESETS["adm64"]),
}
# 200 million images. The augmentation mirrors half of them.
CIFAR10 = CIFAR10_RUN | {
    "network": "ddpmpp",
    "flip": False,
    "augment_probability": 0.12,
    "learning_rate": 1e-3,
    "warmup_steps": 19_531,
    "gradient_clip": 0.0,
    "half_life": 5e5,
    "batch_size": 512,
    "steps": 390_625,
}
# 2,500 million images, not augmented.
IMAGENET64 = CIFAR10 | {
    "augment_probability": 0.0,
    "dataset": "tfds:downsampled_imagenet/64x64",
    "test_split": "validation",
    "size": 64,
    "network": "adm64",
    "learning_rate": 1e-4,
    "warmup_steps": 2_441,
    "half_life": 5e7,
    "sampling_steps": 256,
    "churn": 40.0,
    # The paper's code computes in 16 bits too.
    "dtype": "bfloat16",
    "batch_size": 4096,
    "parallel": {"topology": "v5e:16x16", "mesh": "data=-1,fsdp=64"},
    "steps": 610_352,
}
VARIANTS = small_variants(num_levels=17) | {
    "cifar10": Variant("CIFAR-10 with the network of DDPM++, config F of the paper (VP)", CIFAR10),
    "cifar10-ncsnpp": Variant(
        "CIFAR-10 with the network of NCSN++, config F of the paper (VE)",
        CIFAR10 | {"network": "ncsnpp"},
    ),
    "imagenet64": Variant("ImageNet at 64x64 with ADM's network, sampled with churn", IMAGENET64),
}
RANGES = SHARED_RANGES | {
    "data_deviation": POSITIVE,
    "log_mean": Range(),
    "log_deviation": POSITIVE,
    "half_life": NOT_NEGATIVE,
    "augment_probability": SHARE,
    "network": ("unet", *NETWORKS),
    "churn": NOT_NEGATIVE,
    "churn_min": NOT_NEGATIVE,
    "churn_max": NOT_NEGATIVE,
    "churn_noise": NOT_NEGATIVE,
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
    churn, said = None, {"solver": "heun", "steps": config.sampling_steps}
    if config.churn:
        churn = Churn(config.churn, config.churn_min, config.churn_max, config.churn_noise)
        said["churn"] = asdict(churn)
    solver = heun(process, karras(config.sampling_steps, **ends), churn)
    loss, labels = error, 0
    if config.augment_probability:
        loss, labels = on_augmented(error, config.augment_probability), NUM_LABELS
    experiment = partial(image_experiment, config, data, process=process, prediction=prediction)
    return experiment(
        loss=loss,
        solvers={"images": solver},
        said={"images": said},
        scores=bits | {"output_mse": partial(error, train=False)},
        averages=averages,
        network=network_of(config, NETWORKS, augmentation_labels=labels),
    )
