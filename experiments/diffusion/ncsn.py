"""Song & Ermon 2019, Generative modeling by estimating gradients of the data distribution (NCSN).

arXiv:1907.05600. A RefineNet learns the scores of images at ten levels of noise. Annealed Langevin
dynamics draws samples from the one with the most noise to the one with the least.

    genax train experiments/diffusion/ncsn.py --workdir runs/ncsn
    genax train experiments/diffusion/ncsn.py:digits --workdir runs/digits

cifar10, the paper's score after 200,000 steps: FID 25.32; not run here.
"""

from functools import partial

from genax.core import GenaxError
from genax.diffusion.dequantisation import on_dequantised
from genax.diffusion.losses import denoising_loss
from genax.diffusion.refine_net import RefineNet
from genax.diffusion.scores import by_sigma, half_sum, ncsn_score
from genax.diffusion.settings import CIFAR10 as CIFAR10_RUN
from genax.diffusion.settings import DEFAULTS as SHARED
from genax.diffusion.settings import DIGITS as DIGITS_RUN
from genax.diffusion.settings import RANGES as SHARED_RANGES
from genax.diffusion.solvers.langevin import annealed_langevin
from genax.diffusion.tasks import image_experiment
from genax.diffusion.variance_exploding import NoiseLevels
from genax.settings import Variant, from_config
from genax.settings.ranges import COUNT, POSITIVE, Range

DEFAULTS = SHARED | {
    "channels": 16,
    # Levels of noise.
    "num_noises": 10,
    # The values that a pixel can have.
    "num_levels": 256,
    # Langevin steps at each level, and the size of those at the last one (4 times the paper's).
    "steps_per_level": 20,
    "step_size": 8e-5,
}
PAPER_RUN = {
    "warmup_steps": 0,
    "gradient_clip": 0.0,
    # The paper has no averages.
    "ema_decay": 0.0,
    "steps_per_level": 100,
    "steps": 200_000,
}
CIFAR10 = CIFAR10_RUN | PAPER_RUN | {"learning_rate": 1e-3}
MNIST = CIFAR10 | {"dataset": "mnist", "size": 28, "flip": False, "channels": 64}
VARIANTS = {
    "cpu": Variant("Fashion-MNIST on two cores with 16 channels"),
    "digits": Variant("8x8 digits on two cores", DIGITS_RUN | {"num_levels": 17}),
    "cifar10": Variant("CIFAR-10 as in the paper", CIFAR10 | {"channels": 128}),
    "mnist": Variant("MNIST as in the paper", MNIST),
}
RANGES = SHARED_RANGES | {
    "channels": COUNT,
    "num_noises": Range(least=2, most=10_000, whole=True),
    "steps_per_level": COUNT,
    "step_size": POSITIVE,
}


def refine_net(config, num_classes, null_class):
    """Return the network, which knows no classes."""
    if num_classes:
        raise GenaxError(
            f"config.num_classes={num_classes}: the network of NCSN takes no labels; set 0."
        )
    return from_config(RefineNet, config, num_levels=config.num_noises)


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    process = NoiseLevels(num_levels=config.num_noises)
    parts = {"process": process, "prediction": ncsn_score(config.num_noises)}
    # The square of sigma in the paper's unit.
    loss = half_sum(partial(denoising_loss, **parts, weighting=by_sigma(2.0, factor=0.25)))
    loss = on_dequantised(loss, config.num_levels)
    langevin = from_config(annealed_langevin, config, process=process)
    experiment = partial(image_experiment, config, data, **parts)
    return experiment(
        network=partial(refine_net, config),
        clip_denoised=False,
        loss=loss,
        solvers={"images": langevin},
        said={"images": {"solver": "annealed Langevin", "levels": config.num_noises}},
        scores={"score_error": partial(loss, train=False)},
    )
