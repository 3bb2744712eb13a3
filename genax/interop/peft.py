"""LoRA adapters as directories of PEFT: adapter_config.json and adapter_model.safetensors.

Where a number of a kernel goes is asked of the conversions of the plain network: they are given
kernels whose numbers are their own places, and the tensors that come out are read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from genax.core import tree
from genax.core.errors import GenaxError
from genax.core.task import Task
from genax.interop.architecture import Config
from genax.interop.export import to_pretrained
from genax.interop.pretrained import to_tensors
from genax.nn.lora import PARTS, WHOLE, AdaptedTask, LoRA, is_adapter
from genax.settings.files import read_json, to_json

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
# PEFT's name of the kind of model, by the end of the class' name.
TASKS = {
    "LMHeadModel": "CAUSAL_LM",
    "ForCausalLM": "CAUSAL_LM",
    "ForConditionalGeneration": "SEQ_2_SEQ_LM",
    "ForSequenceClassification": "SEQ_CLS",
    "ForTokenClassification": "TOKEN_CLS",
    "ForQuestionAnswering": "QUESTION_ANS",
}
# Marks of numbers that lie in no adapted kernel: fixed, and trained as before.
_FIXED, _TRAINED = -1, -2


@dataclass(frozen=True)
class _Layer:
    """A linear layer of the Hugging Face class, as a part of an adapted kernel.

    module: its name. path: of the layer in genax. number: among the layers of a stack, or None.
    ins, outs: which rows and columns of the kernel as a matrix are its inputs and outputs.
    transposed: whether its weight is [in, out].
    """

    module: str
    path: str
    number: int | None
    ins: np.ndarray
    outs: np.ndarray
    transposed: bool


@dataclass(frozen=True)
class _Adapters:
    """All adapters of one layer as one: matrices A [in, rank] and B [rank, out].

    reads: [rank, out], which outputs each row of B may change.
    """

    a: np.ndarray
    b: np.ndarray
    reads: np.ndarray


def export_adapter(
    task: Task, variables: Mapping[str, Any], directory: str | Path
) -> tuple[str, int]:
    """Write the adapters of a task as a directory that `PeftModel.from_pretrained` loads.

    What else the task trains, such as a new head, is written as PEFT's `modules_to_save`.
    variables: Linen variables of the task.
    Returns the name of the Hugging Face class, and the number of its adapted layers.
    Raises GenaxError for networks without such a class, and if the directory is not empty.
    """
    directory, lora = Path(directory), _lora_of(task)
    if directory.exists() and any(directory.iterdir()):
        raise GenaxError(f"{directory} is not empty; choose another directory.")
    leaves = {path: np.asarray(leaf) for path, leaf in tree.flatten(variables).items()}
    config, layers, trained = _find(task, leaves)
    tensors, ranks, transposed = {}, {}, set()
    for layer in layers:
        found = _joint(leaves, layer.path, layer.number)
        rows = found.reads[:, layer.outs].any(axis=1)
        if rows.any():
            name = f"{PREFIX}{layer.module}"
            tensors[f"{name}.lora_A.weight"] = found.a[layer.ins][:, rows].T
            tensors[f"{name}.lora_B.weight"] = found.b[rows][:, layer.outs].T
            ranks[layer.module] = int(rows.sum())
            transposed.add(layer.transposed)
    rank = max(ranks.values())
    other = {module: number for module, number in ranks.items() if number != rank}
    plain = {path: leaf for path, leaf in leaves.items() if not is_adapter(path)}
    values = to_tensors(*to_pretrained(task.networks, tree.nest(plain))) if trained else {}
    tensors |= {f"{PREFIX}{name}": values[name] for name in trained}
    architecture = config["architectures"][0]
    kinds = (kind for end, kind in TASKS.items() if architecture.endswith(end))
    content = {
        "peft_type": "LORA",
        "task_type": next(kinds, None),
        "base_model_name_or_path": None,
        "r": rank,
        "lora_alpha": rank * lora.scale,
        "rank_pattern": other,
        "alpha_pattern": {module: number * lora.scale for module, number in other.items()},
        "target_modules": sorted(ranks),
        "modules_to_save": sorted({name.rpartition(".")[0] for name in trained}) or None,
        "lora_dropout": lora.dropout,
        "fan_in_fan_out": transposed == {True},
        "bias": "none",
        "inference_mode": True,
    }
    directory.mkdir(parents=True, exist_ok=True)
    arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    save_file(arrays, directory / WEIGHTS, metadata={"format": "pt"})
    (directory / CONFIG).write_text(to_json(content, indent=2) + "\n")
    return architecture, len(ranks)


def load_adapter(directory: str | Path, task: Task, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables with the adapters of a directory that PEFT wrote.

    task: whose targets are the layers that the directory adapts, with the same rank.
    Raises GenaxError if the directory has other layers or another rank, or what LoRA of genax does
    not have.
    """
    directory, lora = Path(directory), _lora_of(task)
    config, tensors = _read(directory)
    given = tree.flatten(variables)
    leaves = {
        path: np.array(leaf) if is_adapter(path) else np.asarray(leaf)
        for path, leaf in given.items()
    }
    _, layers, trained = _find(task, leaves)
    if trained:
        raise GenaxError(f"{directory}: the task also trains {trained[0]}, which is not read.")
    wanted: dict[str, np.ndarray] = {}
    for layer in layers:
        found = _joint(leaves, layer.path, layer.number)
        rows = np.flatnonzero(found.reads[:, layer.outs].any(axis=1))
        if not len(rows):
            continue
        names = [f"{PREFIX}{layer.module}.lora_{part}.weight" for part in "AB"]
        shapes = [(len(rows), len(layer.ins)), (len(layer.outs), len(rows))]
        for name, shape in zip(names, shapes, strict=True):
            array = tensors.pop(name, None)
            if array is None or array.shape != shape:
                has = "lacks it" if array is None else f"has {list(array.shape)}"
                raise GenaxError(
                    f"{directory}: the task's adapters need {name} of shape {list(shape)}, but the "
                    f"file {has}; give LoRA the file's targets and rank."
                )
            wanted[name] = array.astype(np.float32)
        a, b = (wanted[name].T for name in names)
        scale = _scale(config, layer.module, len(rows)) / lora.scale
        _write(leaves, layer, rows, a, b * np.float32(scale))
    if tensors:
        raise GenaxError(
            f"{directory} also has {', '.join(sorted(tensors)[:5])}, which no adapter of the task "
            "is; give LoRA the file's targets."
        )
    read = {path: jnp.asarray(leaf) for path, leaf in leaves.items() if is_adapter(path)}
    return tree.nest({**given, **read})


def _lora_of(task: Any) -> LoRA:
    if not isinstance(task, AdaptedTask) or task.lora is None:
        raise GenaxError("this run has no adapters; config.lora.rank gives an experiment some.")
    return task.lora


def _find(task: Task, leaves: Mapping[str, np.ndarray]) -> tuple[Config, list[_Layer], list[str]]:
    """Return the config.json, the layers of adapted kernels, and the tensors trained besides."""
    marked, kernels, first = {}, [], 1
    adapted = {path.rsplit("/", 2)[0] for path in leaves if path.endswith("/lora_a")}
    for path, leaf in leaves.items():
        if is_adapter(path):
            continue
        if path.endswith("/kernel") and path.removesuffix("/kernel") in adapted:
            marked[path] = np.arange(first, first + leaf.size).reshape(leaf.shape)
            kernels.append((path.removesuffix("/kernel"), first))
            first += leaf.size
        else:
            place = path if path.startswith("params/") else f"collections/{path}"
            marked[path] = np.full(leaf.shape, _FIXED if task.is_fixed(place) else _TRAINED)
    config, variables = to_pretrained(task.networks, tree.nest(marked))
    layers, trained = [], []
    for name, numbers in to_tensors(config, variables).items():
        if numbers.size and numbers.min() > 0:
            layers.append(_layer_of(name, numbers, kernels, leaves))
        elif numbers.size and (numbers == _TRAINED).all():
            trained.append(name)
    return config, layers, trained


def _layer_of(name: str, numbers: np.ndarray, kernels: Any, leaves: Any) -> _Layer:
    path, first = next(k for k in reversed(kernels) if k[1] <= numbers.min())
    num_in, num_out, stacked = _sizes(leaves, path)
    places = (numbers - first) % (num_in * num_out)
    number = int(numbers.min() - first) // (num_in * num_out) if stacked else None
    module, _, kind = name.rpartition(".")
    for transposed in (False, True):
        if kind == "weight" and places.ndim == 2:
            matrix = places if transposed else places.T
            ins, outs = matrix // num_out, matrix % num_out
            if (ins == ins[:, :1]).all() and (outs == outs[:1]).all():
                return _Layer(module, path, number, ins[:, 0], outs[0], transposed)
    raise GenaxError(f"the adapter of {path} cannot be PEFT's: {name} is no matrix of a layer.")


def _adapters_at(leaves: Mapping[str, np.ndarray], path: str) -> list[str]:
    """Return the names of a layer's adapters."""
    below = (name.removeprefix(f"{path}/").split("/") for name in leaves if name.startswith(path))
    return sorted(names[0] for names in below if len(names) == 2 and names[1] == "lora_a")


def _sizes(leaves: Mapping[str, np.ndarray], path: str) -> tuple[int, int, bool]:
    """Return a kernel's inputs and outputs, and whether it is stacked."""
    name = _adapters_at(leaves, path)[0]
    names = ("kernel", f"{name}/lora_a", f"{name}/lora_b")
    kernel, a, b = (leaves[f"{path}/{leaf}"] for leaf in names)
    stacked = a.ndim + b.ndim - 2 + (name != WHOLE) > kernel.ndim
    num_in = math.prod(a.shape[stacked:-1])
    return num_in, kernel.size // (len(kernel) if stacked else 1) // num_in, stacked


def _parts(
    leaves: Mapping[str, np.ndarray], path: str, number: int | None
) -> Iterator[tuple[np.ndarray, np.ndarray, slice]]:
    """Yield A [in, rank] and B [rank, out] of each adapter of a layer, and its outputs."""
    num_in, _, _ = _sizes(leaves, path)
    for name in _adapters_at(leaves, path):
        a, b = (leaves[f"{path}/{name}/{leaf}"] for leaf in ("lora_a", "lora_b"))
        a, b = (a, b) if number is None else (a[number], b[number])
        a, b = a.reshape(num_in, -1), b.reshape(a.shape[-1], -1)
        part = 0 if name == WHOLE else PARTS[path.rsplit("/", 1)[-1]].index(name)
        yield a, b, slice(part * b.shape[1], (part + 1) * b.shape[1])


def _joint(leaves: Mapping[str, np.ndarray], path: str, number: int | None) -> _Adapters:
    """Return all adapters of a layer as one, whose rank is the sum of theirs."""
    _, num_out, _ = _sizes(leaves, path)
    found = list(_parts(leaves, path, number))
    b = np.zeros((sum(len(rows) for _, rows, _ in found), num_out), np.float32)
    reads, first = np.zeros(b.shape, bool), 0
    for _, rows, outs in found:
        b[first : first + len(rows), outs] = rows
        reads[first : first + len(rows), outs] = True
        first += len(rows)
    return _Adapters(np.concatenate([a for a, _, _ in found], axis=1), b, reads)


def _write(leaves: Any, layer: _Layer, rows: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
    """Set what a Hugging Face layer holds of a layer's adapters, whose arrays are changed."""
    first = 0
    for ours_a, ours_b, outs in _parts(leaves, layer.path, layer.number):
        own = np.flatnonzero((rows >= first) & (rows < first + len(ours_b)))
        columns = np.flatnonzero((layer.outs >= outs.start) & (layer.outs < outs.stop))
        if len(own):
            ours_a[np.ix_(layer.ins, rows[own] - first)] = a[:, own]
            ours_b[np.ix_(rows[own] - first, layer.outs[columns] - outs.start)] = b[
                np.ix_(own, columns)
            ]
        first += len(ours_b)


def _read(directory: Path) -> tuple[Config, dict[str, np.ndarray]]:
    config = read_json(directory / CONFIG)
    allowed_values: dict[str, tuple[Any, ...]] = {
        "peft_type": ("LORA",),
        "bias": ("none", None),
        "use_dora": (False, None),
        "modules_to_save": (None, []),
    }
    for key, allowed in allowed_values.items():
        if config.get(key) not in allowed:
            raise GenaxError(
                f"{directory / CONFIG} has {key}={config.get(key)!r}; only {allowed[0]!r} is read."
            )
    try:
        return config, load_file(directory / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise GenaxError(f"{directory / WEIGHTS} is missing or damaged ({error}).") from error


def _scale(config: Config, module: str, rank: int) -> float:
    """Return the factor of B A in a layer of PEFT."""
    alphas: dict[str, float] = config.get("alpha_pattern") or {}
    alpha: float = alphas.get(module) or config["lora_alpha"]
    return alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
