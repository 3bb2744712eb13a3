"""Samples of networks, by default with their averaged parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from etils import epath
from jax.experimental import multihost_utils
from PIL import Image

from genax.core import ema
from genax.core.data import global_index
from genax.core.errors import GenaxError
from genax.core.gradients import keys_of
from genax.core.nets import linen_variables
from genax.core.task import Loss, Rendered, Sampler, Task, TrainState
from genax.running.mistakes import check_rows


def variables(state: TrainState, averaged: bool = True) -> dict[str, Any]:
    """Linen variables of a state; averaged: with averages in place of what is averaged."""
    found = linen_variables(state.params, state.collections, state.fixed)
    return ema.averaged(found, state.ema) if averaged else found


def sample(
    task: Task,
    sampler: Sampler,
    variables: Mapping,
    num: int,
    seed: int = 0,
    condition: Mapping[str, Any] | None = None,
    workdir: Any = None,
    batch_size: int | None = None,
    step: int | None = None,
) -> Any:
    """`num` samples as numpy arrays; sample i is the same whatever `num` is.

    condition, step: see `sampling_batch`.
    batch_size: see `draw`.
    """
    batch = sampling_batch(task, sampler, num, workdir, condition, step)
    return draw(task, sampler, variables, batch, seed, batch_size)


def sampling_batch(
    task: Task,
    sampler: Sampler,
    num: int,
    workdir: Any = None,
    condition: Mapping[str, Any] | None = None,
    step: int | None = None,
) -> dict[str, Any]:
    """The batch that `num` samples are drawn from: "index" and what conditions them.

    condition: in place of the sampler's own, which may read workdir.
    step: steps taken when samples are drawn. It adds "stage", the number of the stage that plays
      then, and "step", the steps taken in that stage, which a loss has too.
    """
    batch = {"index": global_index(num)} | moment_of(task, step) | dict(condition or {})
    if condition is None and sampler.condition is not None:
        batch |= sampler.condition(num, workdir)
    return batch


def draw(
    task: Task,
    sampler: Sampler,
    variables: Mapping,
    batch: Mapping[str, Any],
    seed: int = 0,
    batch_size: int | None = None,
    progress: Callable[[int], Any] | None = None,
) -> Any:
    """Samples of a batch of `sampling_batch`, as numpy arrays.

    batch_size: how many are on the device at a time; None is all. A sample whose noise is that of
    `example_keys` does not depend on it; other random streams differ by chunk, as by shard.
    progress: called after each chunk with the samples in it, such as `tqdm.update`.
    Raises GenaxError for an array of the batch that has not one row per sample.
    """
    stage, key, drawn = batch.get("stage"), jax.random.key(seed), []
    for number, (left, chunk) in enumerate(_chunks(batch, batch_size)):
        found = to_host(_draw(task, sampler.function, stage, variables, key, number, chunk))
        drawn.append(jax.tree.map(lambda rows, left=left: rows[:left], found))
        if progress is not None:
            progress(min(left, len(chunk["index"])))
    return jax.tree.map(lambda *parts: np.concatenate(parts), *drawn)


def rehearse(
    task: Task,
    sampler: Sampler,
    variables: Mapping,
    batch: Mapping[str, Any],
    batch_size: int | None = None,
) -> None:
    """Trace what `draw` would compute, which then need not be traced again.

    Raises GenaxError if the sampler does not return one sample per element, and whatever its
    function raises.
    """
    _, chunk = next(_chunks(batch, batch_size))
    key, stage = jax.random.key(0), batch.get("stage")
    _draw.trace(task, sampler.function, stage, variables, key, 0, chunk)


def _chunks(
    batch: Mapping[str, Any], batch_size: int | None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Parts of a batch of samples for the device, each with the number of samples that count."""
    count = len(batch["index"])
    whole = {"step": batch["step"]} if "step" in batch else {}
    rows = {name: value for name, value in batch.items() if _is_numbers(value)}
    for name, value in rows.items():
        if value.shape[:1] != (count,):
            raise GenaxError(
                f"the condition of a sampler gives {name!r} of shape {value.shape} for {count} "
                "samples; it gives one row per sample."
            )
    size = min(count, batch_size or count)
    for first in range(0, count, size):
        # The last chunk is filled up, since another size would be another program.
        places = np.minimum(np.arange(first, first + size), count - 1)
        yield count - first, {name: value[places] for name, value in rows.items()} | whole


def write_sample(rendered: Any, path: epath.Path) -> epath.Path:
    """Write what a sampler renders; the path is given without its suffix, and returned with it.

    A text is written as .txt, a picture as .png, a `Rendered` with a suffix of its own.
    Raises GenaxError for anything else.
    """
    if not isinstance(rendered, str | Rendered | Image.Image):
        raise GenaxError(
            f"the render of a sampler returned a {type(rendered).__name__}; it returns a PIL "
            "image, a text or a Rendered."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(rendered, str):
        path = path.with_name(path.name + ".txt")
        path.write_text(rendered)
    elif isinstance(rendered, Rendered):
        path = path.with_name(path.name + rendered.suffix)
        path.write_bytes(rendered.content)
    else:
        path = path.with_name(path.name + ".png")
        with path.open("wb") as file:
            rendered.save(file, format="PNG")
    return path


def moment_of(task: Task, step: int | None) -> dict[str, Any]:
    """What a batch says of the time: "stage" and the "step" in it; nothing if no step is known."""
    if step is None:
        return {}
    stage, start = task.stage_at(step)
    return {"stage": stage, "step": np.int32(step - start)}


def apply_networks(
    task: Task, function: Callable, stage: int | None, variables, key, number, batch, *given
):
    """function(nets, batch, *given) of one batch. number: of the batch, for its random streams."""
    # A Python number, since arrays of another stage may have other shapes.
    batch = batch if stage is None else {**batch, "stage": stage}
    keys = keys_of(task, key, number)
    return nn.apply(function, task.networks)(variables, batch, *given, rngs=keys)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _draw(task: Task, function: Callable, stage: int | None, variables, key, number, batch):
    samples = apply_networks(task, function, stage, variables, key, number, batch)
    if isinstance(samples, Loss):
        raise GenaxError("it returned a Loss; a sampler returns samples, an evaluator a Loss.")
    check_rows("sample", samples, len(batch["index"]))
    return samples


def _is_numbers(value: Any) -> bool:
    """Whether a value of a batch is an array that a program takes in rows."""
    return isinstance(value, np.ndarray | jax.Array) and value.dtype.kind not in "OUS"


def to_host(tree: Any) -> Any:
    """Numpy arrays of all processes' parts."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return multihost_utils.process_allgather(tree, tiled=True)
