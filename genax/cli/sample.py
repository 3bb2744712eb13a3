"""genax sample."""

from __future__ import annotations

import argparse
from pathlib import Path

from genax.front.runs import open_run
from genax.front.samples import check_asked, check_ending, check_place


def add_parser(verbs: argparse._SubParsersAction) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "sample",
        help="draw samples from a trained run",
        description="Draw samples from a run's newest checkpoint, with averaged weights. Settings, "
        "such as temperature, are overridden as --config.KEY=VALUE.",
    )
    parser.add_argument("workdir", metavar="WORKDIR", help="the run's folder")
    parser.add_argument(
        "--num", type=int, metavar="N", help="how many (default: config.num_samples)"
    )
    parser.add_argument("--out", metavar="FILE", help="default: a file under WORKDIR/samples")
    parser.add_argument("--sampler", metavar="NAME", help="default: the task's first")
    parser.add_argument("--prompt", metavar="TEXT", help="what the samples continue or show")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (default: 0)")
    add_experiment(parser)
    parser.add_argument("--step", type=int, metavar="N", help="of the checkpoint (default: newest)")
    parser.add_argument("--raw", action="store_true", help="weights without averaging")
    parser.set_defaults(run=run, configurable=True)


def run(args: argparse.Namespace) -> int:
    """Write the samples and print where."""
    opened = open_run(args.workdir, args.experiment, args.settings)
    name, sampler = opened.sampler(args.sampler)
    check_asked(name, sampler, args.num, args.seed, args.prompt, option="--")
    out = None if args.out is None else Path(args.out)
    if out is not None:
        check_ending(out, sampler)
        check_place(out)
    samples = opened.sample(
        args.num,
        name=name,
        prompt=args.prompt,
        seed=args.seed,
        step=args.step,
        averaged=not args.raw,
    )
    path = samples.save(out)
    if isinstance(samples.rendered, str):
        print(samples.rendered)
    print(f"samples of step {samples.step} in {path}")
    return 0


def add_experiment(parser: argparse.ArgumentParser) -> None:
    """Add the option of verbs that open a run."""
    parser.add_argument(
        "--experiment",
        metavar="FILE",
        help="the run's experiment, if its file was moved (default: the file that trained it, or "
        "the run's copy of it)",
    )
