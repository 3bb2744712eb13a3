"""genax sample."""

from __future__ import annotations

import argparse
import io
import tempfile
from pathlib import Path
from typing import Any

from etils import epath
from PIL import Image

from genax.core.errors import GenaxError
from genax.core.task import Rendered
from genax.front.experiments import reopen
from genax.front.restore import restore_variables
from genax.running import sampling
from genax.running.compilation import keep_programs
from genax.settings.config import RANGES
from genax.settings.ranges import COUNT

TEXTS = (".txt", ".md")


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
    for option, value, allowed in (("num", num, COUNT), ("seed", args.seed, RANGES["seed"])):
        if value not in allowed:
            raise GenaxError(f"--{option} {value} must be {allowed}.")
    out = None if args.out is None else Path(args.out)
    if out is not None:
        _check_ending(out, sampler.text)
        _check_place(out)
    condition = None
    if args.prompt is not None:
        if sampler.prompt is None:
            raise GenaxError(f"the sampler {name!r} takes no --prompt.")
        if any("\ud800" <= character <= "\udfff" for character in args.prompt):
            raise GenaxError("--prompt is no UTF-8 text.")
        condition = sampler.prompt(args.prompt, num, opened.workdir)
    variables, step = restore_variables(opened, args.step, averaged=not args.raw)
    batch = sampling.sampling_batch(opened.task, sampler, num, opened.workdir, condition, step)
    drawn = sampling.draw(opened.task, sampler, variables, batch, args.seed, opened.eval_batch_size)
    rendered = sampler.render(drawn, batch, opened.workdir)
    path: Any = opened.workdir / "samples" / f"{name}_{step:08d}_seed{args.seed}"
    if out is None or not out.suffix:
        path = sampling.write_sample(rendered, path if out is None else epath.Path(out))
    elif _fits(rendered, out.suffix.lower()):
        path = out
        _write(rendered, out)
    else:
        path = sampling.write_sample(rendered, path)
        raise GenaxError(
            f"--out {out}: the sampler draws no {out.suffix} but {path.suffix}; the samples are in "
            f"{path}."
        )
    if isinstance(rendered, str):
        print(rendered)
    print(f"samples of step {step} in {path}")
    return 0


def _fits(rendered: Any, ending: str) -> bool:
    """Whether a file with this ending may hold what a sampler renders."""
    if isinstance(rendered, Rendered):
        return ending == rendered.suffix.lower()
    return ending in TEXTS if isinstance(rendered, str) else _is_picture(ending)


def _write(rendered: Any, out: Path) -> None:
    if isinstance(rendered, str):
        out.write_text(rendered)
    elif isinstance(rendered, Rendered):
        out.write_bytes(rendered.content)
    else:
        rendered.save(out)


def _check_ending(out: Path, text: bool | None) -> None:
    """Raise GenaxError if a file's name is not one for a text or a picture.

    text: which of the two is drawn; None if it is not known yet, or neither.
    """
    ending = out.suffix.lower()
    names_text = ending in TEXTS
    if not ending or text is None:
        return
    if not (names_text or _is_picture(ending)):
        raise GenaxError(
            f"--out {out}: {ending} is no ending of a picture, such as .png, or text, .txt."
        )
    if text != names_text:
        drawn, wanted = ("text", ".txt") if text else ("a picture", ".png")
        raise GenaxError(
            f"--out {out}: the sampler draws {drawn}; name a file that ends in {wanted}."
        )


def _is_picture(ending: str) -> bool:
    """Whether Pillow can write files with this ending."""
    kind = Image.registered_extensions().get(ending)
    if kind not in Image.SAVE:
        return False
    try:
        Image.new("RGB", (1, 1)).save(io.BytesIO(), kind)
    except (OSError, ValueError):  # a format whose library is missing, or that holds no such image
        return False
    return True


def _check_place(out: Path) -> None:
    """Raise GenaxError if a file cannot be written where it is to be."""
    if out.is_dir():
        raise GenaxError(f"--out {out} is a folder; name a file, such as {out / 'samples'}.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise GenaxError(f"--out {out} can't be written: {error.strerror}.") from None
