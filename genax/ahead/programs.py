"""A run's step compiled for devices that are not here, and what the compiler says of it."""

from __future__ import annotations

import importlib.util
import math
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
from jax.experimental import topologies

from genax.ahead.chips import Chip, chip_of
from genax.ahead.costs import Costs, costs
from genax.core.devices import Jit
from genax.core.errors import GenaxError
from genax.core.step import make_step
from genax.core.task import TrainState
from genax.running.flops import kernel_flops
from genax.running.run import Run

# libtpu would look for the machine that it runs on, complain that there is none, and keep other
# processes out of it.
_NO_TPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_MIN_LOG_LEVEL": "3",
    "TPU_STDERR_LOG_LEVEL": "3",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


@dataclass(frozen=True)
class Memory:
    """Bytes of each device's main memory that a step needs.

    arguments: the state and a batch. outputs: what is not written over the arguments.
    """

    arguments: float
    outputs: float
    temporaries: float
    program: float

    @property
    def total(self) -> float:
        """All of them."""
        return self.arguments + self.outputs + self.temporaries + self.program


@dataclass(frozen=True)
class Roofline:
    """Seconds that a step takes at best if it were bound by each of these alone."""

    compute: float
    memory: float
    links: float

    @property
    def step(self) -> float:
        """Seconds of a step that overlaps them all."""
        return max(self.compute, self.memory, self.links)

    @property
    def bound(self) -> str:
        """The name of the longest."""
        return max(("compute", "memory", "links"), key=lambda name: getattr(self, name))


@dataclass(frozen=True)
class Estimate:
    """Seconds that the compiler expects of a step, one part after the other.

    instructions: the cycles that it expects of them. It expects none of kernels, which are taken at
    the chip's peak, and of links, taken at theirs.
    """

    instructions: float
    kernels: float
    links: float

    @property
    def step(self) -> float:
        """Seconds of a step that overlaps nothing."""
        return self.instructions + self.kernels + self.links


@dataclass(frozen=True)
class Compiled:
    """What the compiler says of a run's step on devices.

    flops: of a whole step, on all devices together, with what is computed again. kernel_flops: of
    Pallas kernels, on one device. text: the compiled program; None if the step does not fit.
    memory: None if the step does not fit, whose needs are then `wanted` bytes a device.
    """

    kind: str
    devices: int
    mesh: Mapping[str, int]
    seconds: float
    flops: float
    memory: Memory | None
    wanted: float
    kernel_flops: float
    text: str | None = field(repr=False)

    @property
    def chip(self) -> Chip | None:
        """The devices' published figures; None if they are not known."""
        return chip_of(self.kind)

    @cached_property
    def costs(self) -> Costs | None:
        """What the compiled program moves and sends."""
        return None if self.text is None else costs(self.text)

    @property
    def fits(self) -> bool:
        """Whether the step fits in the memory of each device, as far as that is known."""
        return self.memory is not None and (self.chip is None or self.wanted <= self.chip.memory)

    @property
    def roofline(self) -> Roofline | None:
        """What the chip could do at best; None if its figures are not known."""
        if self.chip is None or self.costs is None:
            return None
        return Roofline(
            self.flops / self.devices / self.chip.flops,
            self.costs.memory / self.chip.bandwidth,
            self.costs.sent / self.chip.links,
        )

    @property
    def estimate(self) -> Estimate | None:
        """The compiler's own estimate, if it makes one for the chip."""
        if self.chip is None or self.chip.clock is None or self.costs is None:
            return None
        return Estimate(
            self.costs.cycles / self.chip.clock,
            self.kernel_flops / self.chip.flops,
            self.costs.sent / self.chip.links,
        )

    def utilisation(self, model_flops: float, step: Roofline | Estimate | None) -> float | None:
        """The model FLOPs utilisation of a step that takes as long as one of these says."""
        if step is None or self.chip is None:
            return None
        return model_flops / self.devices / self.chip.flops / step.step


def topology(name: str) -> Sequence[jax.Device]:
    """The devices of a TPU slice by its name, such as "v5e:4x4"; "local" is those at hand.

    Raises GenaxError if libtpu, whose compiler answers for TPUs, is missing or knows no such
    slice.
    """
    if name == "local":
        return jax.devices()
    if importlib.util.find_spec("libtpu") is None:
        raise GenaxError(
            'compiling for a TPU needs its compiler, libtpu: python -m pip install "genax[tpu]".'
        )
    for key, value in _NO_TPU.items():
        os.environ.setdefault(key, value)
    # As JAX finds them on the machine itself, libtpu only if asked: both cores of a v4 chip are one
    # device, and links wrap around.
    options: dict[str, Any] = {"wrap": wrap_around(name)}
    if name.startswith("v4"):
        options["chip_config_name"] = "megacore"
    if name.endswith(":1x1"):
        # libtpu takes a host for one of four chips unless it is told otherwise.
        options["chips_per_host_bounds"] = [1, 1, 1]
    try:
        return topologies.get_topology_desc(platform="tpu", topology_name=name, **options).devices
    except Exception as error:
        raise GenaxError(
            f"topology {name!r} is unknown to this libtpu ({' '.join(str(error).split())[:200]}); "
            "name a slice of v4, v5e, v5p or v6e by its shape, such as v5e:4x4 or v5p:4x4x8."
        ) from error


def wrap_around(name: str) -> list[bool]:
    """Which of the three dimensions of a slice have links from their last chip to their first.

    All of v4 and v5p from 4x4x4 on, those of 16 chips of v5e and v6e: cloud.google.com/tpu/docs.
    """
    chip, _, shape = name.partition(":")
    sizes = [int(size) for size in re.findall(r"\d+", shape)]
    if chip in ("v4", "v5p"):
        return [len(sizes) == 3 and min(sizes) >= 4] * 3
    return ([size == 16 for size in sizes] + [False] * 3)[:3]


def compile_ahead(run: Run, flops: float, stage: int = 0) -> Compiled:
    """Lower and compile the step of a run's stage for the run's devices.

    flops: of a step, by `step_flops`.
    Raises GenaxError if the settings do not fit them, if the host's memory is too small, and
    for strategies other than jit.
    """
    run.check()
    strategy = run.strategy
    if not isinstance(strategy, Jit):
        raise GenaxError("genax compile is for config.parallel.strategy=jit.")
    state, batch = run.abstract(stage), run.abstract_batch(stage)
    device = strategy.mesh.devices.flat[0]
    step = make_step(run.task, stage, run.config["accumulate"])
    facts: dict[str, Any] = {
        "kind": device.device_kind,
        "devices": strategy.mesh.size,
        "mesh": dict(strategy.mesh.shape),
        "flops": flops,
    }
    start = time.perf_counter()
    jitted: Any = strategy.compile(step, state, stacked=False)
    traced = jitted.trace(state, batch)
    facts["kernel_flops"] = kernel_flops(traced.jaxpr.jaxpr)
    lowered = traced.lower(lowering_platforms=(device.platform,))
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        host = re.search(r"memory space host\. Used (\S+) of (\S+) host", str(error))
        if host:
            raise GenaxError(
                f"the step needs {host[1]} of the host's memory, which has {host[2]}; keep less "
                "there (config.remat) or add microbatches (config.accumulate)."
            ) from error
        wanted = _wanted(str(error), state)
        if wanted is None:
            raise
        seconds = time.perf_counter() - start
        return Compiled(**facts, seconds=seconds, memory=None, wanted=wanted, text=None)
    seconds = time.perf_counter() - start
    found = compiled.memory_analysis()
    memory = Memory(
        found.argument_size_in_bytes,
        found.output_size_in_bytes - found.alias_size_in_bytes,
        found.temp_size_in_bytes,
        found.generated_code_size_in_bytes,
    )
    return Compiled(
        **facts,
        seconds=seconds,
        memory=memory,
        wanted=memory.total,
        text=compiled.as_text(),
    )


def _wanted(message: str, state: TrainState) -> float | None:
    """Bytes a device that a step would need which the compiler refuses for want of memory."""
    everything = re.search(r"Used ([\d.]+)([KMGT]?) of [\d.]+[KMGT]? hbm", message)
    temporaries = re.search(r"required for HLO temporaries \(([\d.]+)([KMGT]?)\)", message)
    found = everything or temporaries
    if not found:
        return None
    units = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
    bytes_ = float(found[1]) * units[found[2]]
    return bytes_ if everything else bytes_ + sum(map(_local_bytes, jax.tree.leaves(state)))


def _local_bytes(leaf: jax.ShapeDtypeStruct) -> float:
    """Bytes of a device's part of an array."""
    assert leaf.sharding is not None
    return math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
