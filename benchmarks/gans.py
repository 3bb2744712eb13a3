"""GANs beside the same in PyTorch on the same cores, and forms of one GAN beside each other.

    python -m benchmarks.gans [dcgan style-gan2 ...] [--turns N] [--threads N]

Images of training data a second in whole steps: both players, their penalties and optimizers, the
averaged generator. Ours is the task that an experiment builds, compiled as `genax train` compiles
it. All sides of a case are timed in turns within one process, see `rates`.

dcgan: variant comparison of gan/dcgan.py beside the networks of PyTorch's example.
wgan-gp: variant comparison of gan/wgan_gp.py, half as wide as the paper's: five moves of the critic
  with its gradient penalty, then one of the generator with twice as many fakes.
pro-gan: gan/pro_gan.py, 32x32 pixels, grown, beside the networks of gan-lab.
style-gan2: gan/style_gan2.py, 32x32 pixels. The 16 steps of a turn have one R1 and four penalties
  on path lengths.
lazy: the same beside both penalties in each step.
shared: what phases compute together. Each phase draws latents of its own, so fakes made of latents
  are made anew in each, also in a stage with `together`: the first two forms of DCGAN compute as
  much. If both phases have the same latents ("one draw"), XLA makes the fakes once, in turn too, as
  the discriminator moves first and the generator is still the same. With `together` it then also
  scores them once. "one draw" reads latents from the batch by a wrapper of this benchmark, since no
  setting of genax has it. CycleGAN's fakes are made of images: with `together`, as in its
  experiment, they are made once, and in turn they are not, as the generators move first.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import torch

import genax
from benchmarks import torch_gans
from benchmarks.turns import Step, rates
from genax.core import Task, init_state, make_step
from genax.core.compilation import compiler_options
from genax.core.step import trained_by
from genax.gan.tasks import play_out
from tests.contracts.synthetic import Synthetic

UNSCORED = {"coverage_samples": 0, "fidelity": "none"}


@dataclass(frozen=True)
class Case:
    """An experiment, the same in PyTorch, and their sizes.

    steps: training steps of one turn.
    """

    experiment: str
    theirs: Callable[..., tuple[Step, int]]
    steps: int
    channels: int = 3
    settings: Mapping[str, Any] = field(default_factory=dict)

    def config(self, **changes: Any) -> Any:
        return genax.load(self.experiment).config({**self.settings, **changes})


@dataclass(frozen=True)
class Side:
    """Steps of one turn.

    parameters: number of those that are trained.
    flops: of the compiled step, if it was compiled by XLA.
    """

    take: Step
    parameters: int
    flops: float = 0.0


STYLE_GAN2 = Case(
    "experiments/gan/style_gan2.py",
    torch_gans.style_gan2,
    steps=16,
    settings={**UNSCORED, "image_size": 32, "batch_size": 32},
)
CASES = {
    "dcgan": Case(
        "experiments/gan/dcgan.py:comparison",
        torch_gans.dcgan,
        steps=50,
        channels=1,
        settings=UNSCORED,
    ),
    "wgan-gp": Case(
        "experiments/gan/wgan_gp.py:comparison",
        torch_gans.wgan_gp,
        steps=5,
        channels=1,
        settings=UNSCORED,
    ),
    "pro-gan": Case("experiments/gan/pro_gan.py", torch_gans.pro_gan, steps=5, settings=UNSCORED),
    "style-gan2": STYLE_GAN2,
}


def pictures(batch: Mapping[str, np.ndarray]) -> Synthetic:
    """Return data of which only the shapes are asked for."""
    element = {name: jax.ShapeDtypeStruct(x.shape[1:], x.dtype) for name, x in batch.items()}
    return Synthetic(element, lambda number, size: batch)


def noise(*names: str, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Return a batch of numbers from -1 to 1."""
    rng = np.random.default_rng(0)
    return {name: rng.uniform(-1, 1, shape).astype(np.float32) for name in names}


def ours(task: Task, batch: dict[str, np.ndarray], steps: int, data: Any = None) -> Side:
    """Return steps of a task's last stage.

    data: of all stages; None is that of which `batch` is a batch.
    """
    stage, placed = len(task.stages) - 1, jax.device_put(batch)
    elements = tuple(one.element for one in data or [pictures(batch)] * len(task.stages))
    state = jax.jit(lambda: init_state(task, 0, elements, stage))()
    state = state.replace(step=state.step + task.start_of(stage))
    trained = {}
    for phase in task.stages[stage].phases:
        trained |= trained_by(phase, state.params)
    parameters = sum(x.size for x in trained.values())
    step = jax.jit(make_step(task, stage), donate_argnums=0, compiler_options=compiler_options())
    compiled = step.lower(state, placed).compile()

    def take() -> None:
        nonlocal state
        for _ in range(steps):
            state, metrics = compiled(state, placed)
        jax.block_until_ready((state, metrics))

    return Side(take, parameters, compiled.cost_analysis()["flops"])


def beside_torch(case: Case) -> tuple[dict[str, Side], int]:
    config = case.config()
    side = config.image_size
    batch = noise("image", shape=(config.batch_size, side, side, case.channels))
    experiment = genax.load(case.experiment).build(config, pictures(batch))
    several = experiment.data if isinstance(experiment.data, tuple) else None
    sides = {"genax": ours(experiment.task, batch, case.steps, several)}
    sides["torch"] = Side(*case.theirs(config, batch, case.steps))
    return sides, case.steps * config.batch_size


def lazy() -> tuple[dict[str, Side], int]:
    """Return StyleGAN2 with lazy penalties, and with penalties in each step."""
    case, sides = STYLE_GAN2, {}
    for name, settings in (("lazy", {}), ("each step", {"r1_every": 1, "path_every": 1})):
        config = case.config(**settings)
        side = config.image_size
        batch = noise("image", shape=(config.batch_size, side, side, case.channels))
        task = genax.load(case.experiment).build(config, pictures(batch)).task
        sides[name] = ours(task, batch, case.steps)
    return sides, case.steps * config.batch_size


class GivenLatents(nn.Module):
    """Generator of the latents of the batch, in place of those that a phase draws."""

    generator: nn.Module

    @property
    def latent_size(self) -> int:
        return self.generator.latent_size

    def __call__(
        self, z: jax.Array, latent: jax.Array | None = None, train: bool = False
    ) -> jax.Array:
        return self.generator(z if latent is None else latent, train=train)


def shared_dcgan() -> tuple[dict[str, Side], int]:
    """Return DCGAN with new latents in each phase, and with the same."""
    case = CASES["dcgan"]
    config = case.config()
    side = config.image_size
    batch = noise("image", shape=(config.batch_size, side, side, case.channels))
    networks = genax.load(case.experiment).build(config, pictures(batch)).task.networks
    drawn = batch | noise("latent", shape=(config.batch_size, config.latent_size))
    given = {
        "networks": networks.clone(generator=GivenLatents(networks.generator)),
        "inputs": lambda nets, batch: {"latent": batch["latent"]},
    }
    forms = {
        "in turn": (play_out(config, networks), batch),
        "together": (play_out(config, networks, together=True), batch),
        "in turn, one draw": (play_out(config, **given), drawn),
        "together, one draw": (play_out(config, **given, together=True), drawn),
    }
    sides = {name: ours(*form, case.steps) for name, form in forms.items()}
    return sides, case.steps * config.batch_size


def shared_cycle_gan(steps: int = 10) -> tuple[dict[str, Side], int]:
    """Return CycleGAN whose fakes are made once or twice."""
    definition = genax.load("experiments/gan/cycle_gan.py")
    config = definition.config()
    batch = noise("a_image", "b_image", shape=(config.batch_size, config.size, config.size, 3))
    together = definition.build(config, pictures(batch)).task
    [stage] = together.stages
    in_turn = replace(together, stages=[replace(stage, together=False)])
    forms = {"in turn": in_turn, "together": together}
    sides = {name: ours(task, batch, steps) for name, task in forms.items()}
    return sides, steps * config.batch_size


TABLES: dict[str, Callable[[], tuple[dict[str, Side], int]]] = {
    **{name: lambda case=case: beside_torch(case) for name, case in CASES.items()},
    "lazy": lazy,
    "shared dcgan": shared_dcgan,
    "shared cycle-gan": shared_cycle_gan,
}


def lines(name: str, turns: int) -> Iterator[str]:
    """Yield a table: images a second of each side, and the ratio of the first to it."""
    sides, images = TABLES[name]()
    counts = {side.parameters for side in sides.values()}
    assert len(counts) == 1, f"{name}: {counts} parameters"
    yield f"{name}: {counts.pop():,} parameters, {images} images a turn"
    first, found = (
        next(iter(sides)),
        dict(rates({n: s.take for n, s in sides.items()}, turns, images)),
    )
    yield f"{'':<24}" + "".join(f"{kind:>24}" for kind in found) + f"{'GFLOP a step':>16}"
    for one, side in sides.items():
        cells = [f"{rate[one]:10.1f} ({rate[first] / rate[one]:5.2f})" for rate in found.values()]
        flops = f"{side.flops / 1e9:16.2f}" if side.flops else ""
        yield f"{one:<24}" + "".join(f"{cell:>24}" for cell in cells) + flops


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("cases", nargs="*", help=f"the first words of {', '.join(TABLES)}")
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    torch.set_num_threads(args.threads or len(os.sched_getaffinity(0)))
    print(f"{jax.devices()[0].device_kind}, load {os.getloadavg()[0]:.1f}")
    for name in TABLES:
        if not args.cases or any(name.startswith(case) for case in args.cases):
            for line in lines(name, args.turns):
                print(line, flush=True)


if __name__ == "__main__":
    main()
