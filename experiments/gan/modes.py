"""Lin et al. 2018, PacGAN: the power of two samples (arXiv:1712.04086), section 4.1: 25 Gaussians.

How many Gaussians of a grid a generator reaches. The networks and settings are those of the
authors' code, which moves both players at once; a mode counts if one of 2,500 samples lies within
three deviations of its mean. `pack` is the number of samples that are scored together. The paper
trains for 400,000 steps: a plain GAN reaches 17.3 of 25 modes, packs of two 23.8 and of four 24.8.

    genax train experiments/gan/modes.py --workdir runs/modes
    genax train experiments/gan/modes.py:packed --workdir runs/packed

digits: 14 s of processor time; 9 of 9 modes, 45% of the points within three deviations.
"""

from functools import partial

from jax.nn.initializers import normal

from genax.core import Experiment, Sampler
from genax.data import given_or
from genax.gan.maxout import MaxoutDiscriminator
from genax.gan.mode_networks import STD, PointGenerator
from genax.gan.modes import GaussianGrid, grid_modes, scatter
from genax.gan.networks import Networks
from genax.gan.sampling import generate
from genax.gan.settings import FLAT_PAIRS, MODES, PLAIN_PENALTIES, UNIT_SLOPE
from genax.gan.settings import RANGES as SHARED_RANGES
from genax.gan.tasks import play_out
from genax.settings import Variant, from_config

DEFAULTS = MODES | {
    "latent_size": 2,
    # Features of the generator's layers, and of the discriminator's with their affine maps.
    "hidden": (400, 400, 400, 400),
    "units": (200, 200, 200),
    "pieces": 5,
    # Gaussians in a row of the grid.
    "side": 5,
    # Points that are drawn to count modes.
    "mode_samples": 2_500,
    # Whether both players take their gradients at the parameters before the step.
    "together": True,
    "learning_rate": 1e-4,
    "b1": 0.8,
    "batch_size": 100,
    "steps": 40_000,
    "steps_per_call": 50,
    "num_samples": 2_500,
    "eval_batch_size": 2_500,
}
SMALL = {"side": 3, "hidden": (64, 64), "units": (32, 32), "steps": 10_000, "learning_rate": 1e-3}
IN_TURN = {"together": False}
VARIANTS = {
    "cpu": Variant("a plain GAN on 25 Gaussians"),
    # A step has 100 packs, as in the authors' code.
    "packed": Variant("two points scored together", {"pack": 2, "batch_size": 200}),
    "packed-4": Variant("four points scored together", {"pack": 4, "batch_size": 400}),
    "wgan-gp": Variant("Wasserstein with a gradient penalty", UNIT_SLOPE | IN_TURN),
    "r3gan": Variant("relativistic with R1 and R2", FLAT_PAIRS | IN_TURN | {"penalty_weight": 0.1}),
    "digits": Variant("nine Gaussians and small networks, in seconds", SMALL),
}
RANGES = SHARED_RANGES | {"penalty": PLAIN_PENALTIES}


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    grid = GaussianGrid(config.side)
    train, _ = given_or(data, lambda: (grid, grid))
    maxout = partial(MaxoutDiscriminator, dropout=0.0, input_dropout=0.0, kernel_init=normal(STD))
    networks = Networks(from_config(PointGenerator, config), from_config(maxout, config))
    parts = {
        "samplers": {"points": Sampler(generate, scatter)},
        "evaluators": {"points": grid_modes(generate, grid, config.mode_samples)},
    }
    return Experiment(play_out(config, networks, together=config.together, **parts), train)
