"""Diffusion models: processes, predictions, losses, solvers, guidance and denoisers."""

from genax.diffusion.clipping import dynamic_threshold
from genax.diffusion.conditions import dropped
from genax.diffusion.guidance import autoguidance, classifier_free, classifier_guidance
from genax.diffusion.losses import denoising_loss
from genax.diffusion.networks import GuidedNetworks, Networks
from genax.diffusion.predictions import CLEAN, EPSILON, V, with_variance
from genax.diffusion.process import DiscreteProcess, learned_range
from genax.diffusion.respacing import respaced
from genax.diffusion.sampling import sample
from genax.diffusion.schedules import cosine_betas, linear_betas
from genax.diffusion.solvers import ancestral, ddim, euler, heun
from genax.diffusion.spacings import leading, trailing
from genax.diffusion.unet import UNet
from genax.diffusion.variational_losses import hybrid_loss
from genax.diffusion.weightings import min_snr

__all__ = [
    "CLEAN",
    "EPSILON",
    "DiscreteProcess",
    "GuidedNetworks",
    "Networks",
    "UNet",
    "V",
    "ancestral",
    "autoguidance",
    "classifier_free",
    "classifier_guidance",
    "cosine_betas",
    "ddim",
    "denoising_loss",
    "dropped",
    "dynamic_threshold",
    "euler",
    "heun",
    "hybrid_loss",
    "leading",
    "learned_range",
    "linear_betas",
    "min_snr",
    "respaced",
    "sample",
    "trailing",
    "with_variance",
]
