"""The verb `genax export`."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from genax.cli.import_ import FOLDER
from genax.core import tree
from genax.core.files import read_json
from genax.data.text.tokenizers import FILE, Subwords, read_tokenizer
from genax.front.experiments import reopen
from genax.front.restore import open_checkpoints, restore_variables
from genax.interop import export_pretrained
from genax.interop.export import to_pretrained
from genax.interop.peft import export_adapter
from genax.interop.pretrained import find_architecture


def add_parser(verbs: argparse._SubParsersAction) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "export",
        help="write a run as a Hugging Face directory (safetensors)",
        description="Write a trained GPT, LLaMA, BERT, T5 or ViT, or what `genax import` wrote, as "
        "a Hugging Face directory of config.json and safetensors, with averaged weights and the "
        "run's tokenizer if it is of that format. LoRA adapters are merged into the weights.",
    )
    parser.add_argument("workdir", metavar="WORKDIR", help="the run's folder")
    parser.add_argument("out", metavar="OUT", help="a new folder")
    parser.add_argument("--step", type=int, metavar="N", help="of the checkpoint (default: newest)")
    parser.add_argument("--raw", action="store_true", help="weights without averaging")
    parser.add_argument(
        "--adapter",
        action="store_true",
        help="write the run's LoRA adapters alone, as a directory of PEFT",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the directory and print what it holds."""
    if args.adapter:
        return _export_adapter(args)
    kept = Path(args.workdir) / FOLDER
    if kept.is_dir():
        config = read_json(kept / "config.json")
        checkpoints, step = open_checkpoints(args.workdir, args.step)
        state = tree.nest(checkpoints.arrays(step))
        variables = {"params": state["params"], **state.get("collections", {})}
    else:
        opened = reopen(args.workdir)
        variables, step = restore_variables(opened, args.step, averaged=not args.raw)
        config, variables = to_pretrained(opened.task.networks, opened.task.plain(variables))
    export_pretrained(config, variables, args.out)
    out = Path(args.out)
    if kept.is_dir():
        for path in kept.iterdir():
            shutil.copyfile(path, out / path.name)
    else:
        tokenizer = opened.workdir / FILE
        if tokenizer.exists() and isinstance(read_tokenizer(tokenizer), Subwords):
            (out / FILE).write_text(tokenizer.read_text())
    name, _ = find_architecture(config, args.out)
    print(f"{name} of step {step} in {args.out}")
    return 0


def _export_adapter(args: argparse.Namespace) -> int:
    """Write the adapters of a run and print how many there are."""
    opened = reopen(args.workdir)
    variables, step = restore_variables(opened, args.step, averaged=not args.raw)
    name, layers = export_adapter(opened.task, variables, args.out)
    print(f"adapters of {layers} layers of {name} of step {step} in {args.out}")
    return 0
