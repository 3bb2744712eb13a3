"""Gaussian corruption: the noisy image at a time, and its exact posterior.

A process says how much signal and noise there is at a time, which times to train on, and with how
much noise sampling begins. Other files hold what the network predicts (`predictions`), what it is
trained on (`losses`, `weightings`) and how samples are drawn (`solvers`). A new schedule is a new
table of betas. A process in continuous time is another class with the four members of `Process`,
such as `VarianceExploding`.
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
    """Gaussian corruption noisy = signal(t) * clean + sigma(t) * noise.

    Times are integers in discrete processes and floats in continuous ones. Noise grows with time.
    """

    def sample_time(self, key: Key[Array, ""]) -> Num[Array, ""]:
        """Return a time to train on, in the form that the network gets."""
        ...

    def signal(self, times: Num[Array, " b"]) -> Float[Array, " b"]:
        """Return the factor of the clean image."""
        ...

    def sigma(self, times: Num[Array, " b"]) -> Float[Array, " b"]:
        """Return the standard deviation of the noise."""
        ...

    def prior(self, times: Num[Array, " b"]) -> Float[Array, " b"]:
        """Return the standard deviation of the noise from which sampling at these times begins."""
        ...


@runtime_checkable
class Invertible(Process, Protocol):
    """Process that finds the time of an amount of noise, for solvers that add or halve noise."""

    def time_of(self, ratios: Float[Array, " b"]) -> Float[Array, " b"]:
        """Return the times at which sigma / signal has these values."""
        ...


def expand(values: Array, like: Array) -> Array:
    """Append axes of size 1 to values [b], up to the rank of `like`: one factor per image."""
    return values.reshape(values.shape + (1,) * (like.ndim - values.ndim))


def factors(
    process: Process, times: Num[Array, " b"], like: Float[Array, "b ..."]
) -> tuple[Float[Array, "b ..."], Float[Array, "b ..."]]:
    """Return signal and sigma in a shape that multiplies images."""
    return expand(process.signal(times), like), expand(process.sigma(times), like)


def q_sample(
    process: Process, clean: Float[Array, "b ..."], noise: Float[Array, "b ..."], timesteps: Array
) -> Float[Array, "b ..."]:
    """Return a draw from q(x_t | x_0) (Ho et al. 2020, eq. 4).

    timesteps: [b].
    """
    signal, sigma = factors(process, timesteps, clean)
    return signal * clean + sigma * noise


@dataclass(frozen=True, eq=False)
class DiscreteProcess:
    """Markov chain of DDPM (Ho et al. 2020, section 2).

    Timesteps are 0 to T-1 as in code. The paper's t is one more. Tables are float64, and entries
    looked up in them are float32. Solvers may step through fractional timesteps, at which
    sigma / signal is interpolated.

    betas: float64 [T], the variances that T steps add. The last one may be 1, which leaves no
      signal.
    interpolation: "log" interpolates ln(sigma / signal), "linear" interpolates sigma / signal, as
      diffusers does for evenly spaced fractional timesteps.
    numbers: whole numbers [T], what the network gets for the timesteps, see `respaced`. None means
      the timesteps themselves.
    Raises GenaxError if a beta is not between 0 and 1, for another interpolation, and for numbers
    of another length.
    """

    betas: np.ndarray
    interpolation: str = "log"
    numbers: np.ndarray | None = None

    def __post_init__(self):
        if self.interpolation not in ("log", "linear"):
            raise GenaxError(
                f"DiscreteProcess: interpolation={self.interpolation!r} is neither 'log' nor "
                "'linear'."
            )
        betas = np.asarray(self.betas, np.float64)
        if betas.ndim != 1 or not len(betas) or not _are_variances(betas):
            raise GenaxError(
                "DiscreteProcess: betas must be a list of numbers between 0 and 1 (exclusive, but "
                f"the last one may be 1), got {betas}; see genax.diffusion.schedules."
            )
        object.__setattr__(self, "betas", betas)
        if self.numbers is not None and np.shape(self.numbers) != betas.shape:
            raise GenaxError(
                f"DiscreteProcess: {np.size(self.numbers)} numbers for {len(betas)} timesteps; "
                "give one for each, see genax.diffusion.respacing."
            )

    @property
    def num_timesteps(self) -> int:
        """Number of timesteps T."""
        return len(self.betas)

    @cached_property
    def alphas_cumprod(self) -> np.ndarray:
        """Products of 1 - beta up to each step: float64 [T], the signal's share of the variance."""
        return np.cumprod(1.0 - self.betas)

    @cached_property
    def alphas_cumprod_before(self) -> np.ndarray:
        """Table of `alphas_cumprod` one step closer to the data, for which it is 1: float64 [T]."""
        return np.append(1.0, self.alphas_cumprod[:-1])

    @cached_property
    def posterior_variance(self) -> np.ndarray:
        """Variance of q(x_{t-1} | x_t, x_0) (eq. 7): float64 [T], 0 at timestep 0."""
        return (1 - self.alphas_cumprod_before) / (1 - self.alphas_cumprod) * self.betas

    @cached_property
    def ratios(self) -> np.ndarray:
        """Values of sigma / signal: float64 [T]. Without signal the last one is infinite."""
        with np.errstate(divide="ignore"):
            return np.sqrt((1 - self.alphas_cumprod) / self.alphas_cumprod)

    def sample_time(self, key: Key[Array, ""]) -> Int[Array, ""]:
        """Return a timestep. All are equally likely."""
        return jax.random.randint(key, (), 0, self.num_timesteps)

    def signal(self, timesteps: Num[Array, " b"]) -> Float[Array, " b"]:
        """Return sqrt(alphas_cumprod)."""
        if jnp.issubdtype(timesteps.dtype, jnp.integer):
            return look_up(np.sqrt(self.alphas_cumprod), timesteps)
        return jnp.sqrt(jax.nn.sigmoid(-2 * self._log_ratio(timesteps)))

    def sigma(self, timesteps: Num[Array, " b"]) -> Float[Array, " b"]:
        """Return sqrt(1 - alphas_cumprod)."""
        if jnp.issubdtype(timesteps.dtype, jnp.integer):
            return look_up(np.sqrt(1 - self.alphas_cumprod), timesteps)
        return jnp.sqrt(jax.nn.sigmoid(2 * self._log_ratio(timesteps)))

    def prior(self, timesteps: Num[Array, " b"]) -> Float[Array, " b"]:
        """Return 1, since data of variance 1 has that variance at every time."""
        return jnp.ones(timesteps.shape)

    def time_of(self, ratios: Float[Array, " b"]) -> Float[Array, " b"]:
        """Return the fractional timesteps of values of sigma / signal, at most those of the ends.

        `karras` and `exponential` space such values.
        """
        values = jnp.log(ratios) if self.interpolation == "log" else jnp.asarray(ratios)
        timesteps = jnp.arange(self.num_timesteps, dtype=values.dtype)
        return jnp.interp(values, jnp.asarray(self._interpolated, values.dtype), timesteps)

    @cached_property
    def _interpolated(self) -> np.ndarray:
        """What is interpolated between timesteps: float64 [T]."""
        return np.log(self.ratios) if self.interpolation == "log" else self.ratios

    def _log_ratio(self, timesteps: Float[Array, " b"]) -> Float[Array, " b"]:
        """Return ln(sigma / signal) at fractional timesteps."""
        check_timesteps(self.num_timesteps, timesteps)
        last = self.num_timesteps - 1
        below = jnp.floor(timesteps).astype(int).clip(0, last)
        share = timesteps - below
        low = look_up(self._interpolated, below)
        high = look_up(self._interpolated, jnp.minimum(below + 1, last))
        # A last timestep without signal is infinite and may not be multiplied by 0.
        value = jnp.where(share > 0, low + share * (high - low), low)
        return value if self.interpolation == "log" else jnp.log(value)

    def posterior_mean(
        self,
        clean: Float[Array, "b ..."],
        noisy: Float[Array, "b ..."],
        timesteps: Int[Array, " b"],
    ) -> Float[Array, "b ..."]:
        """Return the mean of q(x_{t-1} | x_t, x_0) (eq. 7)."""
        before, total = self.alphas_cumprod_before, 1 - self.alphas_cumprod
        of_clean = look_up(np.sqrt(before) * self.betas / total, timesteps)
        of_noisy = look_up(np.sqrt(1 - self.betas) * (1 - before) / total, timesteps)
        return expand(of_clean, clean) * clean + expand(of_noisy, noisy) * noisy


def _are_variances(betas: np.ndarray) -> bool:
    return bool(np.all(betas > 0) and np.all(betas[:-1] < 1) and betas[-1] <= 1)


def network_times(process: Process, times: Num[Array, " b"]) -> Num[Array, " b"]:
    """Return what the network gets for the process's times: the times, or their numbers."""
    if not isinstance(process, DiscreteProcess) or process.numbers is None:
        return times
    numbers = jnp.asarray(process.numbers)
    if jnp.issubdtype(times.dtype, jnp.integer):
        return numbers[times]
    return jnp.interp(times, jnp.arange(len(numbers)), numbers)


def check_timesteps(num_timesteps: int, timesteps: Num[Array, " *b"]) -> None:
    """Raise GenaxError, outside of jit, for timesteps that a process of so many does not have."""
    if isinstance(timesteps, jax.core.Tracer):
        return
    numbers = np.asarray(timesteps)
    wrong = numbers[(numbers < 0) | (numbers > num_timesteps - 1)]
    if wrong.size:
        raise GenaxError(
            f"a discrete process of {num_timesteps} timesteps got timestep {wrong[0]}: its "
            f"timesteps are 0 to {num_timesteps - 1}."
        )


def look_up(table: np.ndarray, timesteps: Num[Array, " b"]) -> Float[Array, " b"]:
    """Return entries of a float64 table, in the default precision of floats, which is float32.

    A timestep that the table lacks gives NaN.
    Raises GenaxError for timesteps that are not whole numbers, and, outside of jit, for those that
    the table lacks.
    """
    if not jnp.issubdtype(timesteps.dtype, jnp.integer):
        raise GenaxError(
            f"a table of a discrete process got times of {timesteps.dtype}: its timesteps are the "
            f"whole numbers from 0 to {len(table) - 1}."
        )
    check_timesteps(len(table), timesteps)
    entries = jnp.asarray(table, float).at[timesteps]
    return entries.get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)


def fixed_small(process: DiscreteProcess) -> np.ndarray:
    """Variances of the reverse steps, float64 [T]: those of the posterior (section 3.2).

    They are optimal if the data is one point. Timestep 0, at which the posterior's variance is 0,
    takes the next one, as in the paper's code.
    """
    variance = process.posterior_variance.copy()
    variance[0] = variance[1] if len(variance) > 1 else process.betas[0]
    return variance


def fixed_large(process: DiscreteProcess) -> np.ndarray:
    """Variances of the reverse steps, float64 [T]: beta (section 3.2), optimal for x_0 ~ N(0, I).

    Timestep 0 takes the variance of `fixed_small`, as the paper's code does to get a better
    likelihood.
    """
    return np.append(fixed_small(process)[0], process.betas[1:])


def learned_range(process: DiscreteProcess) -> np.ndarray:
    """Ends of the variances that a network chooses between, float64 [2, T]: posterior's and beta.

    Nichol & Dhariwal 2021, eq. 15. See `between`.
    """
    return np.stack([fixed_small(process), process.betas])


def between(ends: Float[Array, "2 ..."], fraction: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return the variance whose logarithm lies at a fraction of the way from one end to the other.

    A fraction of 0 is the first end (Nichol & Dhariwal 2021, eq. 15).
    """
    low, high = jnp.log(ends)
    return jnp.exp(low + fraction * (high - low))
