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

from functools import partial

from genax.diffusion.losses import denoising_loss
from genax.diffusion.process import DiscreteProcess
from genax.diffusion.schedules import linear_betas
from genax.diffusion.settings import CHAIN_DEFAULTS as SHARED
from genax.diffusion.settings import CIFAR10 as CIFAR10_RUN
from genax.diffusion.settings import IMAGE256, SOLVERS, small_variants
from genax.diffusion.settings import RANGES as SHARED_RANGES
from genax.diffusion.solvers import ancestral, ddim
from genax.diffusion.spacings import leading
from genax.diffusion.tasks import chain_bound, image_experiment
from genax.diffusion.unet import PRESETS
from genax.settings import Variant
from genax.settings.ranges import COUNT, Range

DEFAULTS = SHARED | {
    # How the sampler "images" draws, in how many steps. Fresh noise at each step of DDIM (an eta of
    # 1) corrects the errors of a network that is trained for minutes.
    "solver": "ddim",
    "ddim_steps": 100,
    "ddim_eta": 1.0,
    # Whether samples are also drawn by the whole chain.
    "ancestral": False,
}
SMALL = small_variants(num_levels=17)
CIFAR10 = CIFAR10_RUN | {"unet": PRESETS["cifar10"], "ddim_eta": 0.0, "ancestral": True}
LARGE = CIFAR10 | IMAGE256 | {"unet": PRESETS["image256"], "learning_rate": 2e-5}
CHURCHES = {
    "dataset": "tfds:lsun/church_outdoor",
    "test_split": "validation",
    "flip": False,
    "steps": 1_200_000,
}
FACES = {"dataset": "tfds:celeb_a_hq/256", "test_split": "", "steps": 500_000}
VARIANTS = SMALL | {
    "digits-conditional": Variant(
        "digits of the classes that are asked for, by classifier-free guidance",
        SMALL["digits"].settings | {"num_classes": 10, "label_dropout": 0.1, "guidance": 2.0},
    ),
    "cifar10": Variant("CIFAR-10 as in the paper, 35.7 M parameters, 800,000 steps", CIFAR10),
    "lsun256": Variant(
        "LSUN churches at 256x256 as in the paper, 113.7 M parameters; TFDS lsun",
        LARGE | CHURCHES,
    ),
    "celebahq256": Variant(
        "CelebA-HQ at 256x256 as in the paper, 113.7 M parameters; TFDS celeb_a_hq",
        LARGE | FACES,
    ),
}
RANGES = SHARED_RANGES | {
    "ddim_steps": COUNT,
    "ddim_eta": Range(least=0, most=1),
}


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    process = DiscreteProcess(linear_betas(config.num_timesteps))
    solvers, said = {}, {}
    # A run that draws no samples may have fewer timesteps than DDIM has steps.
    if config.num_samples or config.ddim_steps <= config.num_timesteps:
        timesteps = leading(config.num_timesteps, num_steps=config.ddim_steps)
        named = {**SOLVERS, "ddim": partial(ddim, eta=config.ddim_eta)}
        solvers["images"] = named[config.solver](process, timesteps)
        eta = {"eta": config.ddim_eta} if config.solver == "ddim" else {}
        said["images"] = {"solver": config.solver, "steps": config.ddim_steps, **eta}
    if config.ancestral:
        solvers["ancestral"] = ancestral(process)
        said["ancestral"] = {"solver": "ancestral", "steps": config.num_timesteps}
    simple = partial(denoising_loss, process=process)
    return image_experiment(
        config,
        data,
        process=process,
        loss=simple,
        solvers=solvers,
        said=said,
        scores={
            "bits_per_dim": chain_bound(config, process),
            "epsilon_mse": partial(simple, train=False),
        },
    )
