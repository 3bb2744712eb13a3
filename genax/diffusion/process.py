"""Gaussian corruption: what a noisy image is, and its exact posterior.

A process says how much signal and noise there is at a time, which times to train on, and with how
much noise sampling begins. What the network predicts (`predictions`), what it is trained on
(`losses`, `weightings`) and how samples are drawn (`solvers`) are separate. A new schedule is a new
table of betas, and a process in continuous time is another class with the four members of
`Process`, such as `VarianceExploding`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, Num

from genax.core.errors import GenaxError


@runtime_checkable
class Process(Protocol):
    """Noisy = signal(t) * clean + sigma(t) * noise.

    Times are integers in discrete processes and floats in continuous ones; noise grows with them.
    """

    def sample_time(self, key: Key[Array, ""]) -> Num[Array, ""]:
        """Return a time to train on, as the network gets it."""
        ...

    def signal(self, times: Num[Array, " b"]) -> Float[Array, " b"]:
        """Return what the clean image is multiplied with."""
        ...

    def sigma(self, times: Num[Array, " b"]) -> Float[Array, " b"]:
        """Return the standard deviation of the noise."""
        ...

    def prior(self, times: Num[Array, " b"]) -> Float[Array, " b"]:
        """Return the standard deviation of the noise that sampling from these times begins with."""
        ...


def expand(values: Array, like: Array) -> Array:
    """[b] with as many axes of size 1 behind it as `like` has: one factor per image."""
    return values.reshape(values.shape + (1,) * (like.ndim - values.ndim))


def q_sample(
    process: Process, clean: Float[Array, "b ..."], noise: Float[Array, "b ..."], timesteps: Array
) -> Float[Array, "b ..."]:
    """A draw from q(x_t | x_0) (Ho et al. 2020, eq. 4), timesteps: [b]."""
    signal, sigma = process.signal(timesteps), process.sigma(timesteps)
    return expand(signal, clean) * clean + expand(sigma, clean) * noise


@dataclass(frozen=True, eq=False)
class DiscreteProcess:
    """The Markov chain of DDPM (Ho et al. 2020, section 2).

    betas: float64 [T], the variances that T steps add. Timesteps are 0 to T-1 as in code; the
    paper's t is one more. Tables are float64; what is looked up in them is float32.
    Raises GenaxError where a beta is not between 0 and 1.
    """

    betas: np.ndarray

    def __post_init__(self):
        betas = np.asarray(self.betas, np.float64)
        if betas.ndim != 1 or not len(betas) or not np.all((betas > 0) & (betas < 1)):
            raise GenaxError(
                "DiscreteProcess: betas must be a list of numbers between 0 and 1 (exclusive), "
                f"got {betas}; see genax.diffusion.schedules."
            )
        object.__setattr__(self, "betas", betas)

    @property
    def num_timesteps(self) -> int:
        """T."""
        return len(self.betas)

    @cached_property
    def alphas_cumprod(self) -> np.ndarray:
        """Products of 1 - beta up to each step: float64 [T], the signal's share of the variance."""
        return np.cumprod(1.0 - self.betas)

    @cached_property
    def alphas_cumprod_before(self) -> np.ndarray:
        """`alphas_cumprod` one step closer to the data, where it is 1: float64 [T]."""
        return np.append(1.0, self.alphas_cumprod[:-1])

    @cached_property
    def posterior_variance(self) -> np.ndarray:
        """Variance of q(x_{t-1} | x_t, x_0) (eq. 7): float64 [T], 0 at timestep 0."""
        return (1 - self.alphas_cumprod_before) / (1 - self.alphas_cumprod) * self.betas

    def sample_time(self, key: Key[Array, ""]) -> Int[Array, ""]:
        """A timestep, all equally likely."""
        return jax.random.randint(key, (), 0, self.num_timesteps)

    def signal(self, timesteps: Int[Array, " b"]) -> Float[Array, " b"]:
        """sqrt(alphas_cumprod)."""
        return look_up(np.sqrt(self.alphas_cumprod), timesteps)

    def sigma(self, timesteps: Int[Array, " b"]) -> Float[Array, " b"]:
        """sqrt(1 - alphas_cumprod)."""
        return look_up(np.sqrt(1 - self.alphas_cumprod), timesteps)

    def prior(self, timesteps: Int[Array, " b"]) -> Float[Array, " b"]:
        """Return 1: data of variance 1 has it at every time."""
        return jnp.ones(timesteps.shape)

    def posterior_mean(
        self,
        clean: Float[Array, "b ..."],
        noisy: Float[Array, "b ..."],
        timesteps: Int[Array, " b"],
    ) -> Float[Array, "b ..."]:
        """Mean of q(x_{t-1} | x_t, x_0) (eq. 7)."""
        before, total = self.alphas_cumprod_before, 1 - self.alphas_cumprod
        of_clean = look_up(np.sqrt(before) * self.betas / total, timesteps)
        of_noisy = look_up(np.sqrt(1 - self.betas) * (1 - before) / total, timesteps)
        return expand(of_clean, clean) * clean + expand(of_noisy, noisy) * noisy


def look_up(table: np.ndarray, timesteps: Int[Array, " b"]) -> Float[Array, " b"]:
    """Entries of a float64 table, float32."""
    return jnp.asarray(table, jnp.float32)[timesteps]


def fixed_small(process: DiscreteProcess) -> np.ndarray:
    """Variances of the reverse steps, float64 [T]: those of the posterior (section 3.2).

    That is optimal where the data is one point. Timestep 0, where it would be 0, takes the next
    one's, as the paper's code does.
    """
    variance = process.posterior_variance.copy()
    variance[0] = variance[1] if len(variance) > 1 else process.betas[0]
    return variance


def fixed_large(process: DiscreteProcess) -> np.ndarray:
    """Variances of the reverse steps, float64 [T]: beta (section 3.2), optimal for x_0 ~ N(0, I).

    Timestep 0 takes that of `fixed_small`, as the paper's code does to get a better likelihood.
    """
    return np.append(fixed_small(process)[0], process.betas[1:])
