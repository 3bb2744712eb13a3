"""Diffusion models: processes, predictions, losses, solvers, guidance and denoisers."""

from genax.diffusion.conditions import dropped
from genax.diffusion.guidance import classifier_free
from genax.diffusion.losses import denoising_loss
from genax.diffusion.networks import Networks
from genax.diffusion.predictions import CLEAN, EPSILON, V
from genax.diffusion.process import DiscreteProcess
from genax.diffusion.sampling import sample
from genax.diffusion.schedules import linear_betas
from genax.diffusion.solvers import ancestral, ddim, euler, heun
from genax.diffusion.spacings import leading, trailing
from genax.diffusion.unet import UNet

__all__ = [
    "CLEAN",
    "EPSILON",
    "DiscreteProcess",
    "Networks",
    "UNet",
    "V",
    "ancestral",
    "classifier_free",
    "ddim",
    "denoising_loss",
    "dropped",
    "euler",
    "heun",
    "leading",
    "linear_betas",
    "sample",
    "trailing",
]
