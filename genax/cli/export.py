"""The verb `genax export`."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from genax.core import tree
from genax.core.errors import GenaxError
from genax.data.text.tokenizers import FILE as TOKENIZER
from genax.data.text.tokenizers import Subwords, read_tokenizer
from genax.front.experiments import reopen
from genax.front.restore import open_checkpoints, restore_variables
from genax.interop import export_pretrained
from genax.interop.export import to_pretrained, with_kept
from genax.interop.peft import export_adapter
from genax.interop.pretrained import CONFIG, find_architecture
from genax.running.transfer import HUGGING_FACE
from genax.settings.files import read_json


def add_parser(verbs: argparse._SubParsersAction) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "export",
        help="write a run as a Hugging Face directory (safetensors)",
        description="Write a trained GPT, LLaMA, BERT, T5, ViT, DiT or autoencoder, or what `genax "
        "import` wrote, as a Hugging Face directory of config.json and safetensors, with averaged "
        "weights, the run's tokenizer if it is of that format, and the files of the model that it "
        "started from. LoRA adapters are merged into the weights. Settings of a run are overridden "
        "as --config.KEY=VALUE.",
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
    parser.set_defaults(run=run, configurable=True)


def run(args: argparse.Namespace) -> int:
    """Write the directory and print what it holds."""
    if args.adapter:
        return _export_adapter(args)
    workdir, out = Path(args.workdir), Path(args.out)
    files = workdir / HUGGING_FACE
    if not (workdir / "checkpoints").is_dir():
        reopen(args.workdir)  # Says what is missing.
    checkpoints, step = open_checkpoints(args.workdir, args.step)
    if "imported" in checkpoints.record(step)["run"]:
        if args.settings:
            raise GenaxError(
                f"{workdir} holds what `genax import` wrote, which is exported as it came; leave "
                f"out --config.{next(iter(args.settings))}."
            )
        config = read_json(files / CONFIG)
        state = tree.nest(checkpoints.arrays(step))
        variables = {"params": state["params"], **state.get("collections", {})}
    else:
        opened = reopen(args.workdir, args.settings)
        variables, step = restore_variables(opened, args.step, averaged=not args.raw)
        config, variables = to_pretrained(opened.task.networks, opened.task.plain(variables))
        if files.is_dir():
            config = with_kept(config, read_json(files / CONFIG))
    export_pretrained(config, variables, out)
    for path in files.iterdir() if files.is_dir() else ():
        if path.name != CONFIG:
            shutil.copyfile(path, out / path.name)
    tokenizer = workdir / TOKENIZER
    lacks = tokenizer.exists() and not (out / TOKENIZER).exists()
    if lacks and isinstance(read_tokenizer(tokenizer), Subwords):
        shutil.copyfile(tokenizer, out / TOKENIZER)
    name, _ = find_architecture(config, args.out)
    print(f"{name} of step {step} in {args.out}")
    return 0


def _export_adapter(args: argparse.Namespace) -> int:
    """Write the adapters of a run and print how many there are."""
    opened = reopen(args.workdir, args.settings)
    variables, step = restore_variables(opened, args.step, averaged=not args.raw)
    name, layers = export_adapter(opened.task, variables, args.out)
    print(f"adapters of {layers} layers of {name} of step {step} in {args.out}")
    return 0
