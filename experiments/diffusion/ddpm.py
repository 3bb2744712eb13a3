"""Ho, Jain & Abbeel 2020, Denoising diffusion probabilistic models (arXiv:2006.11239).

The paper's U-Net predicts the noise of 1000 linear steps (L_simple, eq. 14), with averaged weights;
samples by the whole chain (ancestral) or in few steps (DDIM, Song et al. 2021, arXiv:2010.02502);
the score is the variational bound in bits per dimension (eq. 5).

    genax train experiments/diffusion/ddpm.py --workdir runs/ddpm
    genax train experiments/diffusion/ddpm.py:digits --workdir runs/digits

cpu: 9 min 13 s on two cores with four grids and the scores; test bits per dimension
3.96 (first 500 images, 256 levels), squared error of the noise 0.0462, clothes that a person names.
digits: 136 s of processor time on two cores with three grids and the scores; test bits per
dimension 3.05 (17 levels), squared error of the noise 0.0905, digits that a person can read.
cifar10, the paper's scores after 800,000 steps: FID 3.17 and at most 3.75 bits per dimension; not
run here.
"""

from dataclasses import replace
from functools import partial

import jax.numpy as jnp
import optax

from genax.core import (
    Evaluator,
    Experiment,
    Phase,
    Sampler,
    Stage,
    Task,
    base_config,
)
from genax.core.ema import ema_warmup
from genax.core.ranges import AMOUNT, COUNT, NOT_NEGATIVE, SHARE, Range
from genax.data import ImageData
from genax.diffusion.likelihood import variational_bound
from genax.diffusion.losses import denoising_loss
from genax.diffusion.networks import Networks
from genax.diffusion.process import DiscreteProcess
from genax.diffusion.samplers import (
    ancestral_sampler,
    ddim_coefficients,
    ddim_sampler,
    leading,
)
from genax.diffusion.schedules import linear_betas
from genax.diffusion.unet import PRESETS, UNet
from genax.evaluation.pictures import check_pictures, image_grid
from genax.nn.optimizers import RANGES as OPTIMIZER
from genax.nn.optimizers import clip_by_norm, warmup_constant

VARIANTS = {
    "cpu": "Fashion-MNIST at 28x28 in minutes on two cores, 0.7 M parameters",
    "digits": "8x8 digits, embedded: recognisable in about two minutes on two cores",
    "cifar10": "CIFAR-10 as in the paper, 35.7 M parameters, 800,000 steps of 128",
    "lsun256": "LSUN churches at 256x256 as in the paper, 113.7 M parameters; TFDS lsun",
    "celebahq256": "CelebA-HQ at 256x256 as in the paper, 113.7 M parameters; TFDS celeb_a_hq",
}
RANGES = {
    **OPTIMIZER,
    "size": COUNT,
    "unet.channels": COUNT,
    "unet.multipliers": COUNT,
    "unet.num_res_blocks": COUNT,
    "unet.attention_resolutions": replace(COUNT, empty=True),
    "unet.dropout": SHARE,
    "unet.num_groups": COUNT,
    "gradient_clip": NOT_NEGATIVE,
    "ema_decay": SHARE,
    "num_levels": Range(least=2),
    "num_timesteps": COUNT,
    "ddim_steps": COUNT,
    "ddim_eta": Range(least=0, most=1),
    "eval_examples": AMOUNT,
    "eval_draws": COUNT,
}


def get_config(variant="cpu"):
    """Settings of a variant.

    train_split, test_split: of the data set; no test_split, no scores. num_levels: of a pixel.
    eval_examples: the scores' first so many test images, 0 for all, each at eval_draws timesteps.
    ddim_steps, ddim_eta: of the sampler "ddim". ancestral: also sample by the whole chain.
    """
    paper = {
        "size": 32,
        "flip": True,
        "unet": dict(PRESETS["cifar10"]),
        "learning_rate": 2e-4,
        "warmup_steps": 5000,
        "ema_decay": 0.9999,
        "num_levels": 256,
        "ddim_steps": 100,
        "ddim_eta": 0.0,
        "ancestral": True,
        "eval_examples": 0,
        "batch_size": 128,
        "parallel": {"topology": "v5e:2x4"},
        "steps": 800_000,
        "log_every": 100,
        "checkpoint_every": 10_000,
        "sample_every": 20_000,
        "eval_every": 100_000,
    }
    large = paper | {
        "size": 256,
        "unet": dict(PRESETS["image256"]),
        "learning_rate": 2e-5,
        "batch_size": 64,
        "parallel": {"topology": "v5e:4x8"},
        "num_samples": 16,
        "eval_batch_size": 64,
        "eval_examples": 256,
    }
    small = {
        "dataset": "fashion_mnist",
        "size": 28,
        "flip": False,
        "unet": dict(PRESETS["cpu"]),
        "learning_rate": 1e-3,
        "warmup_steps": 100,
        "ema_decay": 0.995,
        "num_levels": 256,
        # Fresh noise at each step corrects the errors of a network trained for minutes.
        "ddim_steps": 100,
        "ddim_eta": 1.0,
        "ancestral": False,
        "eval_examples": 500,
        "batch_size": 64,
        "steps": 1000,
        "checkpoint_every": 250,
        "sample_every": 250,
    }
    settings = {
        "cpu": small,
        "digits": small
        | {
            "dataset": "digits",
            "size": 8,
            "unet": dict(PRESETS["digits"]),
            "num_levels": 17,
            "eval_examples": 0,
            "steps": 800,
            "steps_per_call": 10,
            "checkpoint_every": 400,
            "sample_every": 200,
        },
        "cifar10": paper | {"dataset": "cifar10"},
        "lsun256": large
        | {
            "dataset": "tfds:lsun/church_outdoor",
            "test_split": "validation",
            "flip": False,
            "steps": 1_200_000,
        },
        "celebahq256": large
        | {"dataset": "tfds:celeb_a_hq/256", "test_split": "", "steps": 500_000},
    }
    defaults = {
        "train_split": "train",
        "test_split": "test",
        "num_timesteps": 1000,
        "gradient_clip": 1.0,
        "eval_draws": 10,
    }
    return base_config(**defaults | settings[variant])


def build(config):
    """The experiment that the settings describe."""
    data = partial(ImageData, config.dataset, size=config.size)
    train = data(config.train_split, flip=config.flip)
    check_pictures(train)
    test = data(config.test_split) if config.test_split else None
    shape = train.element["image"].shape

    process = DiscreteProcess(linear_betas(config.num_timesteps))
    if config.num_samples:
        # Refused now, not after training.
        timesteps = leading(config.num_timesteps, config.ddim_steps)
        ddim_coefficients(process, timesteps, config.ddim_eta)
    loss = partial(denoising_loss, process=process)
    unet = UNet(**config.unet, dtype=jnp.dtype(config.dtype), remat=config.remat)
    rate = warmup_constant(config.learning_rate, config.warmup_steps)
    optimizer = optax.chain(clip_by_norm(config.gradient_clip), optax.adam(rate))

    samplers = {"ddim": partial(ddim_sampler, num_steps=config.ddim_steps, eta=config.ddim_eta)}
    if config.ancestral:
        samplers["ancestral"] = ancestral_sampler
    bound = partial(
        variational_bound,
        process=process,
        num_draws=config.eval_draws,
        num_levels=config.num_levels,
    )
    scores = {"bits_per_dim": bound, "epsilon_mse": partial(loss, train=False)}
    task = Task(
        networks=Networks(denoiser=unet),
        stages=[Stage([Phase("denoiser", loss, ("denoiser",), optimizer)])],
        samplers={
            name: Sampler(partial(function, process=process, shape=shape), image_grid)
            for name, function in samplers.items()
        },
        evaluators={
            name: Evaluator(function, examples=config.eval_examples or None)
            for name, function in scores.items()
        }
        if test
        else {},
        ema={"denoiser": ema_warmup(config.ema_decay)},
    )
    return Experiment(task, train, test)
