"""genax sample."""

from __future__ import annotations

import argparse
from pathlib import Path

from genax.cli.experiments import reopen
from genax.cli.restore import restore_variables
from genax.core import evaluate
from genax.core.compilation import keep_programs
from genax.core.errors import GenaxError


def add_parser(verbs: argparse._SubParsersAction) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "sample",
        help="draw samples from a trained run",
        description="Draw samples from a run's newest checkpoint, with averaged weights.",
    )
    parser.add_argument("workdir", metavar="WORKDIR", help="the run's folder")
    parser.add_argument(
        "--num", type=int, metavar="N", help="how many (default: config.num_samples)"
    )
    parser.add_argument("--out", metavar="FILE", help="default: a file under WORKDIR/samples")
    parser.add_argument("--sampler", metavar="NAME", help="default: the task's first")
    parser.add_argument("--prompt", metavar="TEXT", help="what the samples continue or show")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--step", type=int, metavar="N", help="of the checkpoint (default: newest)")
    parser.add_argument("--raw", action="store_true", help="weights without averaging")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the samples and print where."""
    opened = reopen(args.workdir)
    keep_programs(opened.config.get("compile_cache", True))
    samplers = opened.task.samplers
    name = args.sampler or next(iter(samplers), "")
    if name not in samplers:
        raise GenaxError(f"no sampler {name!r}; the task has {', '.join(samplers) or 'none'}.")
    sampler = samplers[name]
    num = opened.config["num_samples"] if args.num is None else args.num
    if num < 1:
        raise GenaxError(f"--num {num} must be at least 1.")
    condition = None
    if args.prompt is not None:
        if sampler.prompt is None:
            raise GenaxError(f"the sampler {name!r} takes no --prompt.")
        condition = sampler.prompt(args.prompt, num, opened.workdir)
    variables, step = restore_variables(opened, args.step, averaged=not args.raw)
    drawn = evaluate.sample(
        opened.task, sampler, variables, num, args.seed, condition, opened.workdir
    )
    rendered = sampler.render(drawn, opened.workdir)
    if args.out is None:
        out = opened.workdir / "samples" / f"{name}_{step:08d}_seed{args.seed}"
        path = evaluate.write_sample(rendered, out)
    else:
        path = Path(args.out)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(rendered) if isinstance(rendered, str) else rendered.save(path)
    if isinstance(rendered, str):
        print(rendered)
    print(f"{num} samples of step {step} in {path}")
    return 0
