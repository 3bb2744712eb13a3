"""Chen et al. 2018, Isolating Sources of Disentanglement in VAEs (arXiv:1802.04942).

The divergence from the prior is estimated in three parts from the whole batch, and the total
correlation among the dimensions of the latent weighs `beta`.

    genax train experiments/vae/beta_tc_vae.py --workdir runs/beta_tc
    genax train experiments/vae/beta_tc_vae.py:digits --workdir runs/digits

`dsprites` has batch, rate and networks of the official code, 50 passes over the data. Larger
batches estimate the parts better: the estimate is biased by the batch's size.
"""

from functools import partial

from genax.core import Phase, Stage
from genax.data.counting import examples_in
from genax.nn.optimizers import warmup_constant
from genax.settings import Variant
from genax.settings.ranges import AMOUNT, NOT_NEGATIVE
from genax.vae.autoencoders import DSPRITES
from genax.vae.settings import DEFAULTS as SHARED
from genax.vae.settings import DISENTANGLED, SHAPES, small_variants
from genax.vae.settings import DSPRITES as DSPRITES_DATA
from genax.vae.settings import RANGES as SHARED_RANGES
from genax.vae.tasks import adam, autoencoder
from genax.vae.total_correlation import beta_tc_loss, tc_rows

DEFAULTS = SHARED | DISENTANGLED
DEFAULTS |= {
    # Weights of the mutual information, the total correlation and the divergence by dimension.
    "alpha": 1.0,
    "beta": 6.0,
    "gamma": 1.0,
    # The steps in which beta grows from 0.
    "beta_warmup_steps": 0,
    # Whether densities are estimated by stratified sampling of the batch, or by weighted sampling.
    "stratified": False,
    # Examples of the training data; 0 counts them.
    "dataset_size": 0,
    "batch_size": 250,
    "steps": 4_800,
}
SPRITES = DSPRITES_DATA | DSPRITES.settings
SPRITES |= {"dataset_size": 737_280, "batch_size": 2_048, "steps": 18_000}
VARIANTS = small_variants(digits={"latent_size": 6, "batch_size": 128, "steps": 1_000}) | {
    "shapes": Variant("embedded sprites with their factors, in a minute", SHAPES),
    "dsprites": Variant("dSprites with the fully connected networks of the official code", SPRITES),
}
RANGES = SHARED_RANGES | {"alpha": NOT_NEGATIVE, "gamma": NOT_NEGATIVE, "dataset_size": AMOUNT}


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""

    def stage(condition, train):
        objective = partial(
            beta_tc_loss,
            dataset_size=config.dataset_size or examples_in(train),
            beta=warmup_constant(config.beta, config.beta_warmup_steps),
            alpha=config.alpha,
            gamma=config.gamma,
            stratified=config.stratified,
        )
        rows = partial(tc_rows, condition=condition)
        return Stage([Phase("elbo", objective, ("encoder", "decoder"), adam(config), embed=rows)])

    return autoencoder(config, data, stage)
