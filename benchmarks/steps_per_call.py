"""Five steps in one call on a CPU: scanned by one program, or dispatched one after another.

    python -m benchmarks.steps_per_call [--turns N]

A network of three convolutions, once Flax's and once genax's, on batches of 8 images of 16x16.
Both forms run in one process, in turns. `genax train` takes the form that `scans_well` chooses.
"""

from __future__ import annotations

import argparse
import statistics
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from genax.core import Loss, Phase, Stage, Task, init_state, make_step
from genax.core.compilation import compiler_options
from genax.core.step import make_steps
from genax.nn.convolution import Conv
from genax.running.dispatch import in_turn, scans_well
from genax.running.flops import phase_programs

STEPS = 5
ELEMENT = {"image": jax.ShapeDtypeStruct((16, 16, 3), jnp.float32)}


class Network(nn.Module):
    """Three convolutions with ReLU, and a mean."""

    conv: type

    @nn.compact
    def __call__(self, x):
        for features in (32, 64, 64):
            x = nn.relu(self.conv(features, (3, 3))(x))
        return nn.Dense(1)(x.mean((1, 2)))


class Networks(nn.Module):
    """One network."""

    network: nn.Module


def loss(nets, batch):
    """Outputs squared."""
    return Loss(nets.network(batch["image"]) ** 2)


def rates(conv: type, turns: int) -> tuple[bool, dict[str, list[float]]]:
    """Whether the loop scans the step; steps a second of both forms, by turn."""
    phase = Phase("fit", loss, ("network",), optax.adam(1e-3))
    task = Task(Networks(Network(conv)), [Stage([phase])])
    state, step = jax.jit(lambda: init_state(task, 0, ELEMENT))(), make_step(task)
    rng = np.random.default_rng(0)
    batches = jax.device_put(
        [{"image": rng.standard_normal((8, 16, 16, 3), np.float32)} for _ in range(STEPS)]
    )
    stacked = jax.tree.map(lambda *images: jnp.stack(images), *batches)
    options = {"compiler_options": compiler_options()}
    scanned = jax.jit(make_steps(step), **options)
    one = in_turn(jax.jit(step, **options))
    forms = {
        "scanned": lambda: scanned(state, stacked),
        "in turn": lambda: one(state, batches),
    }
    found: dict[str, list[float]] = {name: [] for name in forms}
    for turn in range(turns + 1):  # the first compiles
        for name, form in forms.items():
            start = time.perf_counter()
            jax.block_until_ready(form())
            if turn:
                found[name].append(STEPS / (time.perf_counter() - start))
    return scans_well(phase_programs(task, 0, state, batches[0])), found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--turns", type=int, default=7)
    turns = parser.parse_args().turns
    for name, conv in (("flax.linen.Conv", nn.Conv), ("genax.nn.convolution.Conv", Conv)):
        scans, found = rates(conv, turns)
        for form, measured in found.items():
            chosen = " (chosen)" if (form == "scanned") == scans else ""
            fastest, median = max(measured), statistics.median(measured)
            print(f"{name}, {form}{chosen}: {fastest:.1f} steps/s fastest, {median:.1f} median")


if __name__ == "__main__":
    main()
