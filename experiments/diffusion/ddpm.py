"""Ho, Jain & Abbeel 2020, Denoising diffusion probabilistic models (arXiv:2006.11239).

The paper's U-Net predicts the noise of 1000 linear steps (L_simple, eq. 14). Samples and scores
take averaged weights. Samples are drawn by the whole chain (ancestral) or in few steps (DDIM, Song
et al. 2021, arXiv:2010.02502). The score is the variational bound in bits per dimension (eq. 5).
With `num_classes` the network gets labels, and samples are guided (Ho & Salimans 2022,
arXiv:2207.12598).

    genax train experiments/diffusion/ddpm.py --workdir runs/ddpm
    genax train experiments/diffusion/ddpm.py:digits --workdir runs/digits
    genax train experiments/diffusion/ddpm.py:digits-conditional --workdir runs/conditional

cpu: 9 min 13 s on two cores with four grids and the scores; test bits per dimension
3.96 (first 500 images, 256 levels), squared error of the noise 0.0462, clothes that a person names.
digits: 136 s of processor time on two cores with three grids and the scores; test bits per
dimension 3.05 (17 levels), squared error of the noise 0.0905, digits that a person can read.
digits-conditional: 600 steps in 4 min 52 s on two busy cores; all of 60 samples are nearest (5
neighbours) to digits of the class that was asked for.
cifar10, the paper's scores after 800,000 steps: FID 3.17 and at most 3.75 bits per dimension; not
run here.
"""

from dataclasses import replace
from functools import partial

import optax

from genax.core import Evaluator, Experiment, GenaxError, Phase, Sampler, Stage, Task
from genax.data import ImageData, given_or
from genax.diffusion.conditions import dropped
from genax.diffusion.guidance import classifier_free, unguided
from genax.diffusion.likelihood import variational_bound
from genax.diffusion.losses import denoising_loss
from genax.diffusion.networks import Networks
from genax.diffusion.process import DiscreteProcess
from genax.diffusion.sampling import sample
from genax.diffusion.schedules import linear_betas
from genax.diffusion.solvers import ancestral, ddim
from genax.diffusion.spacings import leading
from genax.diffusion.unet import PRESETS, UNet
from genax.evaluation.examples import labels_in_turn
from genax.evaluation.pictures import check_pictures, image_grid
from genax.nn.conditions import on_label, unconditional
from genax.nn.ema import ema_warmup
from genax.nn.optimizers import RANGES as OPTIMIZER
from genax.nn.optimizers import clip_by_norm, warmup_constant
from genax.settings import Variant, from_config
from genax.settings.ranges import AMOUNT, COUNT, NOT_NEGATIVE, SHARE, Range

DEFAULTS = {
    "dataset": "fashion_mnist",
    # Splits of the data set; without a test_split nothing is scored.
    "train_split": "train",
    "test_split": "test",
    "size": 28,
    "flip": False,
    "unet": PRESETS["cpu"],
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
    "num_timesteps": 1000,
    # The sampler "images" is DDIM. Fresh noise at each step (an eta of 1) corrects the errors of a
    # network that is trained for minutes.
    "ddim_steps": 100,
    "ddim_eta": 1.0,
    # Whether samples are also drawn by the whole chain.
    "ancestral": False,
    # The values that a pixel can have.
    "num_levels": 256,
    # The first test images that are scored, 0 for all, each at so many timesteps.
    "eval_examples": 500,
    "eval_draws": 10,
    "steps": 1000,
    "checkpoint_every": 250,
    "sample_every": 250,
}
DIGITS = {
    "dataset": "digits",
    "size": 8,
    "unet": PRESETS["digits"],
    "num_levels": 17,
    "eval_examples": 0,
    "steps": 800,
    "steps_per_call": 10,
    "checkpoint_every": 400,
    "sample_every": 200,
}
CIFAR10 = {
    "dataset": "cifar10",
    "size": 32,
    "flip": True,
    "unet": PRESETS["cifar10"],
    "learning_rate": 2e-4,
    "warmup_steps": 5000,
    "ema_decay": 0.9999,
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
LARGE = CIFAR10 | {
    "size": 256,
    "unet": PRESETS["image256"],
    "learning_rate": 2e-5,
    "batch_size": 64,
    "parallel": {"topology": "v5e:4x8"},
    "num_samples": 16,
    "eval_batch_size": 64,
    "eval_examples": 256,
}
CHURCHES = {
    "dataset": "tfds:lsun/church_outdoor",
    "test_split": "validation",
    "flip": False,
    "steps": 1_200_000,
}
FACES = {"dataset": "tfds:celeb_a_hq/256", "test_split": "", "steps": 500_000}
VARIANTS = {
    "cpu": Variant("Fashion-MNIST at 28x28 in minutes on two cores, 0.7 M parameters"),
    "digits": Variant(
        "8x8 digits, embedded: recognisable in about two minutes on two cores", DIGITS
    ),
    "digits-conditional": Variant(
        "digits of the classes that are asked for, by classifier-free guidance",
        DIGITS | {"num_classes": 10, "label_dropout": 0.1, "guidance": 2.0},
    ),
    "cifar10": Variant(
        "CIFAR-10 as in the paper, 35.7 M parameters, 800,000 steps of 128", CIFAR10
    ),
    "lsun256": Variant(
        "LSUN churches at 256x256 as in the paper, 113.7 M parameters; TFDS lsun",
        LARGE | CHURCHES,
    ),
    "celebahq256": Variant(
        "CelebA-HQ at 256x256 as in the paper, 113.7 M parameters; TFDS celeb_a_hq",
        LARGE | FACES,
    ),
}
RANGES = OPTIMIZER | {
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
    "num_levels": Range(least=2),
    "num_timesteps": COUNT,
    "ddim_steps": COUNT,
    "ddim_eta": Range(least=0, most=1),
    "eval_examples": AMOUNT,
    "eval_draws": COUNT,
}


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    classes = config.num_classes or None
    images = partial(ImageData, config.dataset, size=config.size, classes=classes)
    images = partial(images, damaged=config.damaged)
    own = partial(images, split=config.train_split, flip=config.flip)
    unseen = partial(images, split=config.test_split) if config.test_split else lambda: None
    train, test = given_or(data, lambda: (own(), unseen()))
    check_pictures(train)
    shape = train.element["image"].shape

    process = DiscreteProcess(linear_betas(config.num_timesteps))
    unet = from_config(
        UNet, config, num_classes=classes, null_class=config.label_dropout > 0, **config.unet
    )
    if (not classes and config.label_dropout) or (
        not config.label_dropout and config.guidance != 1
    ):
        raise GenaxError(
            f"config.guidance={config.guidance} with config.label_dropout={config.label_dropout} "
            f"and config.num_classes={config.num_classes}: guidance other than 1 needs labels that "
            "are dropped in training, and those need classes; set all three, or "
            "config.guidance=1 and config.label_dropout=0."
        )
    condition = on_label if classes else unconditional
    training, guide = condition, unguided
    if config.label_dropout:
        training = dropped(condition, probability=config.label_dropout, label=unet.null_label)
    if config.guidance != 1:
        guide = classifier_free(scale=config.guidance, label=unet.null_label)
    error = partial(denoising_loss, process=process)
    loss = partial(error, condition=training)
    rate = warmup_constant(config.learning_rate, warmup_steps=config.warmup_steps)
    optimizer = optax.chain(clip_by_norm(config.gradient_clip), optax.adam(rate))

    solvers = {}
    # A run that draws no samples may have fewer timesteps than DDIM has steps.
    if config.num_samples or config.ddim_steps <= config.num_timesteps:
        timesteps = leading(config.num_timesteps, num_steps=config.ddim_steps)
        solvers["images"] = ddim(process, timesteps, eta=config.ddim_eta)
    if config.ancestral:
        solvers["ancestral"] = ancestral(process)
    draw = partial(sample, process=process, shape=shape, guide=guide, condition=condition)
    bound = partial(
        variational_bound,
        process=process,
        num_draws=config.eval_draws,
        num_levels=config.num_levels,
        condition=condition,
    )
    unseen = partial(error, condition=condition, train=False)
    scores = {"bits_per_dim": bound, "epsilon_mse": unseen}
    task = Task(
        networks=Networks(denoiser=unet),
        stages=[Stage([Phase("denoiser", loss, ("denoiser",), optimizer)])],
        samplers={
            name: Sampler(
                partial(draw, solver=solver),
                image_grid,
                labels_in_turn(classes) if classes else None,
            )
            for name, solver in solvers.items()
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
