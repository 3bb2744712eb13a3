"""genax train."""

from __future__ import annotations

import argparse

from genax.cli.evaluate import shown
from genax.core.errors import GenaxError
from genax.front.experiments import configure, load
from genax.running import processes
from genax.running.compilation import keep_programs
from genax.running.loop import train

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
    loaded = load(args.experiment)
    config = configure(loaded, args.settings, args.workdir)
    keep_programs(config.compile_cache)
    opened = loaded.run(config, args.workdir)
    init_from = {args.init_from: _names(args.map)} if args.init_from else None
    outcome = train(opened, args.from_step, init_from, args.began)
    if outcome.signal is not None and not outcome.step:
        print("interrupted before the first step; the same command starts it again.")
        return 128 + outcome.signal
    if outcome.signal is not None:
        print(f"interrupted: saved at step {outcome.step}; the same command resumes it.")
        return 128 + outcome.signal
    for name, score in outcome.scores.items():
        print(f"{name}: {shown(score)}")
    print(f"done: step {outcome.step}, samples and checkpoints in {args.workdir}")
    return 0


def _names(pairs: list[str]) -> dict[str, str]:
    for pair in pairs:
        if "=" not in pair:
            raise GenaxError(f"--map {pair} is not OLD=NEW.")
    return dict(pair.split("=", 1) for pair in pairs) or {"params": "params"}
