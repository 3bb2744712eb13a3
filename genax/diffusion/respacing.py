"""Respacing: a discrete process that keeps some timesteps of another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from genax.core.errors import GenaxError
from genax.diffusion.process import DiscreteProcess
from genax.diffusion.schedules import betas_of


def respaced(process: DiscreteProcess, timesteps: Sequence[int] | np.ndarray) -> DiscreteProcess:
    """Return the process of the kept timesteps alone (Nichol & Dhariwal 2021, section 4).

    Its betas follow from the products of 1 - beta at the kept timesteps. The network still gets the
    numbers that the timesteps had in the first process.

    timesteps: kept timesteps in any order, such as those of a spacing.
    Raises GenaxError for timesteps that the process does not have, and if one comes twice.
    """
    kept = np.sort(np.asarray(timesteps))
    if (
        kept.ndim != 1
        or not len(kept)
        or not np.issubdtype(kept.dtype, np.integer)
        or not 0 <= kept[0] <= kept[-1] < process.num_timesteps
        or np.any(np.diff(kept) == 0)
    ):
        raise GenaxError(
            f"respaced: the timesteps {kept} are to be kept, which have to be different whole "
            f"numbers from 0 to {process.num_timesteps - 1}."
        )
    numbers = kept if process.numbers is None else np.asarray(process.numbers)[kept]
    return replace(process, betas=betas_of(process.alphas_cumprod[kept]), numbers=numbers)


def in_sections(num_timesteps: int, counts: Sequence[int]) -> np.ndarray:
    """Falling timesteps of a process that is cut into equal sections, evenly spaced in each.

    The code of Nichol & Dhariwal 2021 chooses them so. Both ends of a section are kept.

    counts: number of timesteps of each section, the one with least noise first.
    Raises GenaxError for a section that has fewer timesteps than its number, or for none.
    """
    sizes = [len(part) for part in np.array_split(np.arange(num_timesteps), max(len(counts), 1))]
    kept: list[int] = []
    for number, (size, count) in enumerate(zip(sizes, counts, strict=False)):
        if not 1 <= count <= size:
            raise GenaxError(
                f"{count} timesteps of a section of {size}: choose between 1 and {size}, or cut "
                f"the {num_timesteps} timesteps into fewer sections."
            )
        stride = (size - 1) / (count - 1) if count > 1 else 1.0
        kept += [sum(sizes[:number]) + round(place * stride) for place in range(count)]
    if not kept:
        raise GenaxError("in_sections: no counts are given; name at least one section's.")
    return np.array(kept)[::-1]
