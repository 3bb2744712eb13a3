"""genax train."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator

from genax.cli.evaluate import lines
from genax.core import GenaxError, Task
from genax.front.experiments import load
from genax.front.training import begin, interrupted
from genax.running import processes

DESCRIPTION = """Train an experiment in a folder. The same command resumes it.

Settings are overridden as --config.KEY=VALUE: --config.steps=100 bounds the run,
--config.parallel.strategy=jit|pmap and --config.parallel.mesh=data=-1,fsdp=1,tensor=1 place it.
`genax params EXPERIMENT` counts its parameters; `genax list` shows experiments and variants."""


def add_parser(verbs: argparse._SubParsersAction) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "train",
        help="train an experiment, or resume it",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("experiment", metavar="EXPERIMENT[:VARIANT]", help="path of a Python file")
    parser.add_argument("--workdir", required=True, metavar="DIR", help="the run's folder")
    parser.add_argument(
        "--from-step", type=int, metavar="N", help="resume at this checkpoint; set later ones aside"
    )
    parser.add_argument(
        "--init-from", metavar="DIR", help="start with parameters of another run's checkpoint"
    )
    parser.add_argument(
        "--map",
        action="append",
        default=[],
        metavar="OLD=NEW",
        help="which of its parameters become which, such as params/encoder=params/text_encoder or "
        "params/*=params/vae/*; layers are stacked or taken out of a stack as needed",
    )
    several = parser.add_argument_group("several processes")
    several.add_argument(
        "--distributed", action="store_true", help="find the others by Cloud TPU, SLURM, ..."
    )
    several.add_argument("--coordinator", metavar="HOST:PORT", help="or name the first process's")
    several.add_argument("--num-processes", type=int, metavar="N")
    several.add_argument("--process-id", type=int, metavar="I")
    several.add_argument(
        "--heartbeat-seconds",
        type=int,
        default=100,
        metavar="S",
        help="a process silent for so long counts as ended, and the others end (default: 100)",
    )
    parser.set_defaults(run=run, configurable=True)


def run(args: argparse.Namespace) -> int:
    """Train; 128 plus the signal's number if one interrupted the run."""
    if args.distributed or args.coordinator:
        processes.connect(
            args.coordinator,
            args.num_processes,
            args.process_id,
            args.heartbeat_seconds,
            args.workdir,
        )
    elif args.num_processes is not None or args.process_id is not None:
        raise GenaxError("--num-processes and --process-id need --coordinator HOST:PORT as well.")
    if args.map and not args.init_from:
        raise GenaxError("--map says what --init-from DIR takes; name that too.")
    init_from = {args.init_from: _names(args.map)} if args.init_from else None
    opened, outcome = begin(
        load(args.experiment), args.workdir, args.settings, args.from_step, init_from, args.began
    )
    if outcome.signal is not None:
        print(interrupted(outcome, "command"))
        return 128 + outcome.signal
    for line in lines(outcome.scores):
        print(line)
    print(f"done: step {outcome.step}, samples and checkpoints in {args.workdir}")
    for path in outcome.samples:
        print(f"samples: {path}")
    for command in _next(opened.task, args.workdir):
        print(f"next: {command}")
    return 0


def _next(task: Task, workdir: str) -> Iterator[str]:
    """What may be typed after a training."""
    folder = shlex.quote(workdir)
    if task.samplers:
        prompt = ' --prompt "..."' if next(iter(task.samplers.values())).prompt else ""
        yield f"genax sample {folder}{prompt}"
    if task.evaluators:
        yield f"genax eval {folder}"


def _names(pairs: list[str]) -> dict[str, str]:
    for pair in pairs:
        if "=" not in pair:
            raise GenaxError(f"--map {pair} is not OLD=NEW.")
    return dict(pair.split("=", 1) for pair in pairs) or {"params": "params"}
