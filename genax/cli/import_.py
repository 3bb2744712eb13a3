"""The verb `genax import`."""

from __future__ import annotations

import argparse
from pathlib import Path

import jax

from genax.front.imported import import_model


def add_parser(verbs: argparse._SubParsersAction) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "import",
        help="read a Hugging Face directory (safetensors) into a run",
        description="Read a Hugging Face directory of config.json and safetensors into a folder "
        "with a checkpoint. `genax export` writes it again, and `genax train "
        "--config.pretrained=OUT` starts from it. If genax trains such models, the folder is a run "
        "for `genax sample` and `genax eval`.",
    )
    parser.add_argument(
        "source", metavar="DIR", help="the directory, a llama2.c file, or a .npz of CycleGAN"
    )
    parser.add_argument("out", metavar="OUT", help="a new folder")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the checkpoint and print what it holds."""
    module, variables, lacks = import_model(Path(args.source), Path(args.out))
    total = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    print(f"{type(module).__name__} of {total:,} parameters in {args.out}")
    if lacks:
        print(
            f"{lacks}: {args.out} is for `genax export`, --config.pretrained and --init-from, and "
            "is not sampled or scored by itself."
        )
    return 0
