"""genax sample."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from etils import epath
from PIL import Image

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
    parser.add_argument("--step", type=int, metavar="N", help="of the checkpoint (default: newest)")
    parser.add_argument("--raw", action="store_true", help="weights without averaging")
    parser.set_defaults(run=run, configurable=True)


def run(args: argparse.Namespace) -> int:
    """Write the samples and print where."""
    opened = reopen(args.workdir, args.settings)
    keep_programs(opened.config.get("compile_cache", True))
    samplers = opened.task.samplers
    name = args.sampler or next(iter(samplers), "")
    if name not in samplers:
        raise GenaxError(f"no sampler {name!r}; the task has {', '.join(samplers) or 'none'}.")
    sampler = samplers[name]
    num = opened.config["num_samples"] if args.num is None else args.num
    if num < 1:
        raise GenaxError(f"--num {num} must be at least 1.")
    out = None if args.out is None else _checked(Path(args.out))
    condition = None
    if args.prompt is not None:
        if sampler.prompt is None:
            raise GenaxError(f"the sampler {name!r} takes no --prompt.")
        if any("\ud800" <= character <= "\udfff" for character in args.prompt):
            raise GenaxError("--prompt is no UTF-8 text.")
        condition = sampler.prompt(args.prompt, num, opened.workdir)
    variables, step = restore_variables(opened, args.step, averaged=not args.raw)
    drawn = evaluate.sample(
        opened.task, sampler, variables, num, args.seed, condition, opened.workdir
    )
    rendered = sampler.render(drawn, opened.workdir)
    if out is None or not out.suffix:
        default = opened.workdir / "samples" / f"{name}_{step:08d}_seed{args.seed}"
        path = evaluate.write_sample(rendered, default if out is None else epath.Path(out))
    elif isinstance(rendered, str):
        path = out
        path.write_text(rendered)
    else:
        path = out if out.suffix.lower() in _pictures() else out.with_suffix(".png")
        rendered.save(path)
    if isinstance(rendered, str):
        print(rendered)
    print(f"samples of step {step} in {path}")
    return 0


def _pictures() -> set[str]:
    endings = Image.registered_extensions()
    return {ending for ending, kind in endings.items() if kind in Image.SAVE}


def _checked(out: Path) -> Path:
    """Where samples can be written; raises GenaxError before they are drawn."""
    if out.suffix and out.suffix.lower() not in _pictures() | {".txt", ".md"}:
        raise GenaxError(
            f"--out {out}: {out.suffix} is no ending of a picture, such as .png, or text, .txt."
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise GenaxError(f"--out {out} can't be written: {error.strerror}.") from None
    return out
