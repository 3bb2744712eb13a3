"""What a loss may do with the bound networks besides calling them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, Literal

import flax.linen as nn
import jax
from jax import lax
from jaxtyping import Array, Key

from genax.core import tree
from genax.core.errors import GenaxError
from genax.core.task import Batch, PyTree

BATCH_AXIS = "batch_shard"
# Which part of the batch the function being traced sees; "shard" is all of it under jit.
Part = Literal["shard", "microbatch", "global batch"]
PART: ContextVar[Part] = ContextVar("part", default="shard")


def batch_axis() -> str | None:
    """Name of the axis over which the batch is split by pmap.

    None under jit, and in a loss with rows: both see one global batch.
    """
    if PART.get() == "global batch":
        return None
    try:
        lax.axis_index(BATCH_AXIS)
    except NameError:
        return None
    return BATCH_AXIS


def gather(x: Array) -> Array:
    """The global batch of which `x` is this device's part; `x` itself under jit.

    Raises GenaxError in a microbatch, in which the rest of the batch is not at hand.
    """
    if PART.get() == "microbatch":
        raise GenaxError(
            "a loss gathers the whole batch, which is not at hand in microbatches: its mean would "
            "be that of another loss; make what it gathers in Phase(embed=...) and take it as the "
            "loss's third argument, or set config.accumulate=1."
        )
    axis = batch_axis()
    return x if axis is None else lax.all_gather(x, axis, axis=0, tiled=True)


def linen_variables(params: PyTree, collections: PyTree, fixed: PyTree) -> dict[str, Any]:
    """What Linen's `apply` takes, of the parts of a `TrainState`."""
    both = tree.joined({"params": params, "collections": collections}, fixed)
    return {"params": both["params"], **both["collections"]}


@contextlib.contextmanager
def seeing(part: Part) -> Iterator[None]:
    """Say which part of the batch the functions traced inside see."""
    token = PART.set(part)
    try:
        yield
    finally:
        PART.reset(token)


def example_keys(nets: nn.Module, batch: Batch) -> Key[Array, " batch"]:
    """One key per element of the batch, the same on any layout of devices; new at each call."""
    key = nets.make_rng("example")
    return jax.vmap(jax.random.fold_in, (None, 0))(key, batch["index"])


def per_example(draw: Callable, nets: nn.Module, batch: Batch, *args, **kwargs) -> Array:
    """`draw(key, *args, **kwargs)` for each element: [batch, ...].

    per_example(jax.random.normal, nets, batch, (32, 32, 3)) is noise for a batch of images.
    """
    return jax.vmap(lambda key: draw(key, *args, **kwargs))(example_keys(nets, batch))


def pure(network: nn.Module, *args, method: Any = None, **kwargs) -> Callable:
    """The network as a pure function, for use inside jax.grad, lax.scan and their like.

    args, kwargs: an example call, made only while initialising, since a network that has never
    been called has no parameters. The function cannot update collections or draw random keys.
    """
    if network.is_initializing():
        (network if method is None else getattr(network, method))(*args, **kwargs)
    module, variables = network.unbind()
    return lambda *args, **kwargs: module.apply(variables, *args, method=method, **kwargs)


def read(nets: nn.Module, collection: str, name: str, initial: Callable[[], Any]) -> Any:
    """A variable of the task's own, such as a running mean or an image pool."""
    if nets.is_initializing() and not nets.has_variable(collection, name):
        nets.put_variable(collection, name, initial())
    return nets.get_variable(collection, name)


def write(nets: nn.Module, collection: str, name: str, value: Any) -> None:
    """Set a variable made by `read`; while initialising or evaluating it stays as it was."""
    if not nets.is_initializing() and nets.is_mutable_collection(collection):
        nets.put_variable(collection, name, value)
