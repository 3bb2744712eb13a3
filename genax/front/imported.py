"""Weights of other libraries as runs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from genax.core.errors import GenaxError
from genax.core.task import TrainState
from genax.data.text.run_tokenizer import find_tokenizer
from genax.data.text.tokenizers import save_tokenizer
from genax.front.experiments import load
from genax.front.pretrained import Source, check_network, settings_of_files, take
from genax.interop import load_pretrained
from genax.interop.cycle_gan import load_cycle_gan
from genax.interop.export import to_pretrained
from genax.interop.llama2c import load_llama2c
from genax.interop.pretrained import CONFIG, find_architecture
from genax.running.checkpoint import Checkpoints
from genax.running.policy import Keep
from genax.running.record import make_record
from genax.running.transfer import HUGGING_FACE
from genax.settings.files import read_json, to_json, write_json

# What a directory holds besides weights, and export gives back.
KEPT = (
    *("config.json", "generation_config.json", "preprocessor_config.json"),
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "chat_template*"),
    *("vocab*", "merges.txt", "*.spm", "spiece.model", "sentencepiece*"),
)


def import_model(source: Path, out: Path) -> tuple[nn.Module, dict[str, Any], str]:
    """Write a Hugging Face directory, or another project's file, as a folder with a checkpoint.

    A file is one of llama2.c, or a .npz of a generator of CycleGAN. The checkpoint is of step 0.
    The folder is a run if genax has an experiment for the class, and a tokenizer if that reads
    texts.
    Returns the model, its variables, and why the folder is no run, which is "" if it is one.
    Raises GenaxError, before anything is written, for what cannot be read.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise GenaxError(f"{out} is not an empty folder; choose another.")
    module: nn.Module
    config: dict[str, Any] | None
    if source.suffix == ".npz":
        (module, variables), config = load_cycle_gan(source), None
    elif source.is_file():
        module, variables = load_llama2c(source)
        config, _ = to_pretrained(module, variables)
    else:
        module, variables = load_pretrained(source)
        config = read_json(source / CONFIG)
    try:
        lacks = _write(module, variables, config, source, out)
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        raise
    return module, variables, lacks


def _write(
    module: nn.Module,
    variables: dict[str, Any],
    config: dict[str, Any] | None,
    source: Path,
    out: Path,
) -> str:
    """Write what `import_model` writes; return why it is no run.

    config: what config.json holds; None if no class of Hugging Face has such weights.
    """
    tokenizer = find_tokenizer(source) if source.is_dir() else None
    files = out / HUGGING_FACE
    out.mkdir(parents=True, exist_ok=True)
    if config is not None:
        files.mkdir()
        (files / CONFIG).write_text(to_json(config, indent=2) + "\n")
    for path in (path for pattern in KEPT for path in source.glob(pattern)):
        if path.is_file():
            shutil.copyfile(path, files / path.name)
    counts = {
        name: sum(leaf.size for leaf in jax.tree.leaves(part))
        for name, part in variables["params"].items()
    }
    record = {"imported": type(module).__name__}
    run = None if config is None else _run_of(module, config, files, out)
    lacks = "" if run is not None else f"genax has no experiment for {type(module).__name__}"
    if run is not None and tokenizer is None and "vocab_size" in run[2]:
        run, lacks = None, f"{source} has no tokenizer.json, which its class in transformers writes"
    if run is not None:
        record = make_record(*run, None, counts) | record
        write_json(out / "run.json", record)
        if tokenizer is not None:
            save_tokenizer(tokenizer, out)
    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        rng=jax.random.key_data(jax.random.key(0)),
        params=variables["params"],
        collections={name: tree for name, tree in variables.items() if name != "params"},
        opt_state={},
        ema={},
    )
    checkpoints = Checkpoints(out, Keep(1))
    checkpoints.save(state, 0, {"run": record, "position": None})
    checkpoints.close()
    return lacks


def _run_of(
    module: nn.Module, config: dict[str, Any], files: Path, out: Path
) -> tuple[str, str, dict[str, Any]] | None:
    """Return file, variant and settings of the experiment that trains a model, if there is one."""
    _, architecture = find_architecture(config, files / CONFIG)
    trained_by = architecture.experiment(module)
    if trained_by is None:
        return None
    name, own = trained_by
    loaded = load(name)
    source = Source(str(out), module, settings_of_files(files, module))
    settings = loaded.config()
    settings.update(own)
    declared = loaded.NETWORK
    assert declared is not None, name
    settings = take(settings, declared, source)
    check_network(loaded.build(settings).task.networks, declared, source)
    return *loaded.source, settings.to_dict()
