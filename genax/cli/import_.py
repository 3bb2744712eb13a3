"""The verb `genax import`."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp

from genax.core.errors import GenaxError
from genax.core.files import to_json
from genax.core.task import TrainState
from genax.interop import load_pretrained
from genax.interop.export import to_pretrained
from genax.interop.llama2c import load_llama2c
from genax.running.checkpoint import Checkpoints
from genax.running.policy import Keep

# What a directory holds besides weights, and export gives back.
FOLDER = "hugging_face"
KEPT = (
    *("config.json", "generation_config.json", "preprocessor_config.json"),
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "chat_template*"),
    *("vocab*", "merges.txt", "*.spm", "spiece.model", "sentencepiece*"),
)


def add_parser(verbs: argparse._SubParsersAction) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "import",
        help="read a Hugging Face directory (safetensors) into a checkpoint",
        description="Read a Hugging Face directory of config.json and safetensors into a folder "
        "with a checkpoint, for `genax train --init-from OUT` and `genax export OUT`.",
    )
    parser.add_argument("source", metavar="DIR", help="the directory, or a llama2.c file")
    parser.add_argument("out", metavar="OUT", help="a new folder")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the checkpoint and print what it holds."""
    source, out = Path(args.source), Path(args.out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise GenaxError(f"{out} is not an empty folder; choose another.")
    folder = out / FOLDER
    module: nn.Module
    if source.is_file():
        module, variables = load_llama2c(source)
        config, _ = to_pretrained(module, variables)
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(to_json(config, indent=2) + "\n")
    else:
        module, variables = load_pretrained(source)
        folder.mkdir(parents=True)
        for path in (path for pattern in KEPT for path in source.glob(pattern)):
            if path.is_file():
                shutil.copyfile(path, folder / path.name)
    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        rng=jax.random.key_data(jax.random.key(0)),
        params=variables["params"],
        collections={name: tree for name, tree in variables.items() if name != "params"},
        opt_state={},
        ema={},
    )
    checkpoints = Checkpoints(out, Keep(1))
    checkpoints.save(state, 0, {"run": {"imported": type(module).__name__}, "position": None})
    checkpoints.close()
    total = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    print(f"{type(module).__name__} of {total:,} parameters in {out}")
    return 0
