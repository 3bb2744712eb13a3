"""Solvers: ways from noise to samples around one denoising function.

Each solver is one compiled loop for any number of steps. A new solver is a function of the same
kind in any file, see `genax.diffusion.sampling.Solver`.
"""

from genax.diffusion.solvers.ancestral import ancestral
from genax.diffusion.solvers.ddim import ddim
from genax.diffusion.solvers.dpm_solver import dpm_solver_2m
from genax.diffusion.solvers.euler import euler
from genax.diffusion.solvers.heun import heun

__all__ = ["ancestral", "ddim", "dpm_solver_2m", "euler", "heun"]
