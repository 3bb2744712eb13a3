"""genax compile."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax
from ml_collections import ConfigDict
from tqdm import tqdm

from genax.ahead.programs import Compiled, compile_ahead, topology
from genax.ahead.suggest import Plan, plans
from genax.core.errors import GenaxError
from genax.front.experiments import Definition, configure, load
from genax.running.flops import step_flops
from genax.settings.files import to_json
from genax.settings.overrides import override

DESCRIPTION = """Compile an experiment's train step for a TPU slice that is not here.

Prints what each device's memory would hold, what a step computes, moves and sends, how fast the
chip could do it at best, and how long the compiler expects it to take. Needs libtpu (the extra
"tpu"), and no TPU. Settings are overridden as --config.KEY=VALUE. FLOPs are those of matrix
products and convolutions; attention counts in full, though a fused causal kernel leaves half of it
out. The compiler's estimate is the sum of the cycles that it states in the program; it states none
for kernels and collectives, which are added at the chip's published peaks as if nothing
overlapped."""

# Settings of a step as plain XLA computes it, and of one that computes nothing twice.
PLAIN = {"attention": "xla", "scan": "xla"}
ONCE = {"remat": "none", "chunk": 0}

_GIB = 2.0**30


def add_parser(verbs: argparse._SubParsersAction) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "compile",
        help="compile a train step for TPUs that are not here: memory, FLOPs, collectives",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("experiment", metavar="EXPERIMENT[:VARIANT]", help="path of a Python file")
    parser.add_argument(
        "--topology",
        metavar="CHIP:SHAPE",
        help="such as v5e:4x4 or v5p:4x4x8, or local (default: config.parallel.topology)",
    )
    parser.add_argument("--stage", type=int, default=0, metavar="N", help="of the task, from 0")
    parser.add_argument(
        "--suggest",
        type=int,
        nargs="?",
        const=12,
        metavar="TRIES",
        help="compile other meshes, remat policies and microbatches; list those that fit, best "
        "first (default: 12 compilations)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.set_defaults(run=run, configurable=True)


def run(args: argparse.Namespace) -> int:
    """Print what the compiler says; 1 if the step does not fit."""
    loaded = load(args.experiment)
    config = configure(loaded, args.settings)
    name = args.topology or config.parallel.topology
    if not name:
        raise GenaxError(
            f"{args.experiment} states no config.parallel.topology; add --topology CHIP:SHAPE."
        )
    if name != "local":
        jax.config.update("jax_platforms", "cpu")
    devices = topology(name)
    stages = len(loaded.build(config).task.stages)
    if not 0 <= args.stage < stages:
        raise GenaxError(f"{args.experiment} has stages 0 to {stages - 1}, no {args.stage}.")
    if args.suggest is not None:
        return _suggest(args, loaded, config, devices)
    found = describe(loaded, config, devices, args.stage)
    print(to_json(found.facts) if args.json else found)
    return 0 if found.compiled.fits else 1


@dataclasses.dataclass(frozen=True)
class Description:
    """A compiled step with the settings that matter to it.

    model_flops: of a step without what is computed again.
    """

    compiled: Compiled
    model_flops: float
    batch_size: int
    accumulate: int
    remat: str

    @property
    def facts(self) -> dict[str, Any]:
        """Facts for JSON; bytes are of one device, FLOPs of all."""
        found, roofline = self.compiled, self.compiled.roofline
        estimate = found.estimate
        memory = found.memory and dataclasses.asdict(found.memory) | {"total": found.memory.total}
        return {
            "fits": found.fits,
            "device": found.kind,
            "devices": found.devices,
            "mesh": dict(found.mesh),
            "batch_size": self.batch_size,
            "accumulate": self.accumulate,
            "remat": self.remat,
            "memory": memory,
            "memory_wanted": found.wanted,
            "memory_there": found.chip and found.chip.memory,
            "flops": found.flops,
            "model_flops": self.model_flops,
            "bytes": found.costs and found.costs.memory,
            "collectives": found.costs
            and {
                kind: {"count": count, "bytes": size}
                for kind, (count, size) in found.costs.collectives.items()
            },
            "open_loops": found.costs and found.costs.open_loops,
            "roofline_seconds": roofline
            and dataclasses.asdict(roofline) | {"step": roofline.step, "bound": roofline.bound},
            "model_flops_utilisation": found.utilisation(self.model_flops, roofline),
            "estimate_seconds": estimate and dataclasses.asdict(estimate) | {"step": estimate.step},
            "estimated_utilisation": found.utilisation(self.model_flops, estimate),
            "compile_seconds": found.seconds,
        }

    def __str__(self) -> str:
        found = self.compiled
        mesh = ", ".join(f"{axis}={size}" for axis, size in found.mesh.items())
        lines = [
            f"{found.devices} x {found.kind}, mesh {mesh}; batch {self.batch_size} in "
            f"{self.accumulate} microbatch(es), remat {self.remat}",
            *_memory_lines(found),
            f"FLOPs: {found.flops:.3e} a step, {self.model_flops:.3e} of them the model's",
        ]
        if found.costs:
            sent = [
                f"{kind} {size / 1e6:,.0f} MB in {count}"
                for kind, (count, size) in sorted(found.costs.collectives.items())
            ]
            lines += [
                f"memory traffic: {found.costs.memory / 1e9:,.1f} GB a step and device",
                f"collectives, sent by each device: {'; '.join(sent) or 'none'}",
            ]
            if found.costs.open_loops:
                lines += [f"loops of unknown length, counted once: {found.costs.open_loops}"]
        if found.roofline:
            best, share = found.roofline, found.utilisation(self.model_flops, found.roofline)
            lines += [
                f"roofline: compute {best.compute:.3g} s, memory {best.memory:.3g} s, links "
                f"{best.links:.3g} s; a step takes at least {best.step:.3g} s, bound by "
                f"{best.bound}: model FLOPs utilisation of at most {share:.0%}",
            ]
        if found.estimate:
            guess, share = found.estimate, found.utilisation(self.model_flops, found.estimate)
            lines += [
                f"compiler's estimate: {guess.instructions:.3g} s of instructions; with kernels at "
                f"the chip's peak ({guess.kernels:.3g} s) and collectives at its links' "
                f"({guess.links:.3g} s) added, {guess.step:.3g} s: utilisation of {share:.0%}",
            ]
        return "\n".join([*lines, f"compiled in {found.seconds:.0f} s"])


def _memory_lines(found: Compiled) -> Iterator[str]:
    there = f" of {found.chip.memory / _GIB:.1f}" if found.chip else ""
    spare = (found.chip.memory - found.wanted) / _GIB if found.chip else 0.0
    if found.memory is None:
        yield f"memory: DOES NOT FIT: needs {found.wanted / _GIB:.1f}{there} GiB a device"
        return
    yield (
        f"memory, GiB a device: arguments {found.memory.arguments / _GIB:.2f}, temporaries "
        f"{found.memory.temporaries / _GIB:.2f}, outputs {found.memory.outputs / _GIB:.2f}, "
        f"program {found.memory.program / _GIB:.2f}"
    )
    verdict = f"fits, {spare:.1f} left" if found.fits else "DOES NOT FIT"
    yield f"together {found.wanted / _GIB:.2f}{there} GiB: {verdict}"


def describe(
    loaded: Definition, config: ConfigDict, devices: Sequence[jax.Device], stage: int = 0
) -> Description:
    """Compile the step of an experiment with these settings for these devices."""
    run = loaded.run(config, "", devices)
    run.check()
    flops = _flops(loaded, config, stage)
    compiled = compile_ahead(run, flops, stage)
    needed = model_flops(loaded, config, stage)
    return Description(compiled, needed, run.batch_size(stage), config.accumulate, config.remat)


def model_flops(loaded: Definition, config: ConfigDict, stage: int = 0) -> float:
    """FLOPs of a step that computes nothing twice."""
    return _flops(loaded, config, stage, **ONCE)


def _flops(loaded: Definition, config: ConfigDict, stage: int, **settings: Any) -> float:
    """FLOPs of a step as plain XLA would compute it, which are the same on any devices."""
    run = loaded.run(counted(config, **settings), "")
    return step_flops(run.task, stage, run.shapes(stage), run.abstract_batch(stage))


def counted(config: ConfigDict, **settings: Any) -> ConfigDict:
    """Return the settings of a step of plain XLA, and these, of which an experiment has some."""
    known = {key: str(value) for key, value in {**PLAIN, **settings}.items() if key in config}
    return override(config, known)


def _recomputes(loaded: Definition, config: ConfigDict, stage: int) -> bool:
    """Whether the networks can compute activations again; if not, an experiment may refuse it."""
    none = _flops(loaded, config, stage, remat="none")
    try:
        return _flops(loaded, config, stage, remat="full") > none
    except GenaxError:
        return False


def _suggest(args, loaded: Definition, config: ConfigDict, devices) -> int:
    if args.suggest < 1:
        raise GenaxError(
            f"--suggest {args.suggest} compiles nothing; 1 compiles the simplest mesh."
        )
    found: list[Description] = []
    refused: list[str] = []
    tried = 0
    again = _recomputes(loaded, config, args.stage)
    run = loaded.run(config, "", devices)
    search = plans(len(devices), run.batch_size(args.stage), again, config.parallel.mesh)
    with tqdm(total=args.suggest, unit="compilation") as bar:
        plan = next(search, None)
        while plan is not None and tried < args.suggest:
            bar.set_postfix_str(str(plan))
            settings = override(config, plan.settings)
            try:
                described = describe(loaded, settings, devices, args.stage)
            except GenaxError as error:  # heads or widths that the mesh does not divide
                refused.append(f"{plan}: {error}")
                plan = _after(search, None)
                continue
            tried += 1
            bar.update()
            if described.compiled.fits:
                found.append(described)
            plan = _after(search, described.compiled.fits)
    if not tried and not refused:
        raise GenaxError(
            f"{run.stated_batch_size(args.stage)} is not divisible by the parts of any mesh of "
            f"{len(devices)} devices that is tried; {len(devices)} is."
        )
    found.sort(key=lambda one: _seconds(one.compiled))
    if args.json:
        facts = {"tried": tried, "refused": refused, "fit": [one.facts for one in found]}
        print(to_json(facts))
    else:
        print(f"{len(found)} of {tried} fit, best first:")
        for number, one in enumerate(found, start=1):
            print(f"\n{number}. {one}")
        if refused:
            print("\nnot compiled:", *refused, sep="\n")
    return 0 if found else 1


def _seconds(found: Compiled) -> float:
    """What a step takes, by the best that is known of the chip."""
    known = found.estimate or found.roofline
    return known.step if known else 0.0


def _after(search, fitted: bool | None) -> Plan | None:
    try:
        return search.send(fitted)
    except StopIteration:
        return None
