"""Solvers: ways from noise to samples around one denoising function.

Each solver is one compiled loop for any number of steps. A new solver is a function of the same
kind in any file, see `genax.diffusion.sampling.Solver`.
"""

from genax.diffusion.solvers.adaptive import adaptive
from genax.diffusion.solvers.ancestral import ancestral
from genax.diffusion.solvers.churn import Churn
from genax.diffusion.solvers.ddim import ddim, ddim_inversion
from genax.diffusion.solvers.dpm_2 import dpm_2
from genax.diffusion.solvers.dpm_solver import (
    dpm_solver,
    dpm_solver_2m,
    dpm_solver_singlestep,
)
from genax.diffusion.solvers.dpm_solver_sde import dpm_solver_2s, dpm_solver_sde
from genax.diffusion.solvers.euler import euler, euler_ancestral
from genax.diffusion.solvers.flow import flow_heun
from genax.diffusion.solvers.heun import heun
from genax.diffusion.solvers.lms import lms
from genax.diffusion.solvers.pndm import pndm
from genax.diffusion.solvers.sa_solver import sa_solver
from genax.diffusion.solvers.uni_pc import uni_pc

__all__ = [
    "Churn",
    "adaptive",
    "ancestral",
    "ddim",
    "ddim_inversion",
    "dpm_2",
    "dpm_solver",
    "dpm_solver_2m",
    "dpm_solver_2s",
    "dpm_solver_sde",
    "dpm_solver_singlestep",
    "euler",
    "euler_ancestral",
    "flow_heun",
    "heun",
    "lms",
    "pndm",
    "sa_solver",
    "uni_pc",
]
