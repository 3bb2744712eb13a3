"""Which tensors of a file hold which variable, and how each is made of the other without rounding.

A path from the root names a variable, such as "params/encoder/final_norm/scale" or
"batch_stats/encoder/norm/mean". Functions for whole layers take the layer's path within each
collection, such as "encoder/final_norm", and the first part of the tensors' names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from genax.core.errors import GenaxError

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Conversion:
    """A variable, and the tensors that it is read from and written to.

    path: the variable's path from the root.
    names: the tensors' names.
    read: (tensors, the variable's shape) -> the variable.
    write: the variable -> the tensors.
    """

    path: str
    names: tuple[str, ...]
    read: Callable[[Sequence[np.ndarray], Shape], np.ndarray]
    write: Callable[[np.ndarray], Sequence[np.ndarray]]


def flat(path: str, name: str, shape: Shape | None = None) -> Conversion:
    """Convert a tensor that has the same numbers in the same order.

    path: the variable's path from the root.
    shape: the tensor's, with one -1; None is the variable's.
    """

    def write(ours):
        return (ours if shape is None else ours.reshape(shape),)

    return Conversion(path, (name,), lambda found, shape: found[0].reshape(shape), write)


def matrix(path: str, name: str, num_in: int = 1) -> Conversion:
    """Convert a weight [out, in] to a kernel [*in, *out].

    path: the kernel's path from the root.
    num_in: the number of the kernel's axes that are inputs.
    """

    def write(ours):
        return (ours.reshape(math.prod(ours.shape[:num_in]), -1).T,)

    return Conversion(path, (name,), lambda found, shape: found[0].T.reshape(shape), write)


def matrices(path: str, *names: str) -> Conversion:
    """Convert a weight [out, in] for each part to one kernel [in, parts, *out].

    path: the kernel's path from the root.
    """

    def read(found, shape):
        return np.stack([weight.T.reshape(shape[0], *shape[2:]) for weight in found], axis=1)

    def write(ours):
        return [ours[:, part].reshape(len(ours), -1).T for part in range(ours.shape[1])]

    return Conversion(path, names, read, write)


def parts(path: str, *names: str) -> Conversion:
    """Convert a vector for each part to one variable [parts, *shape].

    path: the variable's path from the root.
    """

    def read(found, shape):
        return np.stack([vector.reshape(shape[1:]) for vector in found])

    return Conversion(path, names, read, lambda ours: [part.reshape(-1) for part in ours])


def patches(path: str, name: str, size: int) -> Conversion:
    """Convert a convolution's weight [d, c, size, size] to a kernel [size * size * c, d].

    path: the kernel's path from the root.
    """

    def write(ours):
        return (ours.reshape(size, size, -1, ours.shape[-1]).transpose(3, 2, 0, 1),)

    return Conversion(
        path, (name,), lambda found, shape: found[0].transpose(2, 3, 1, 0).reshape(shape), write
    )


def embedding(path: str, name: str) -> Conversion:
    """Convert a table of embeddings."""
    return flat(f"params/{path}/embedding", f"{name}.weight")


def norm(path: str, name: str, bias: bool = True) -> list[Conversion]:
    """Convert the scale of a norm and its bias, if it has one."""
    found = [flat(f"params/{path}/scale", f"{name}.weight")]
    return [*found, flat(f"params/{path}/bias", f"{name}.bias")] if bias else found


def batch_norm(path: str, name: str) -> list[Conversion]:
    """Convert the scale and bias of a BatchNorm, and its running mean and variance."""
    return [
        *norm(path, name),
        flat(f"batch_stats/{path}/mean", f"{name}.running_mean"),
        flat(f"batch_stats/{path}/var", f"{name}.running_var"),
    ]


def dense(path: str, name: str, bias: bool = True, num_in: int = 1) -> list[Conversion]:
    """Convert a linear layer to a projection."""
    found = [matrix(f"params/{path}/kernel", f"{name}.weight", num_in)]
    return [*found, flat(f"params/{path}/bias", f"{name}.bias", (-1,))] if bias else found


def convolution(path: str, name: str) -> list[Conversion]:
    """Convert the weight [out, in, height, width] of a convolution and its bias."""

    def write(ours):
        return (ours.transpose(3, 2, 0, 1),)

    def read(found, shape):
        return found[0].transpose(2, 3, 1, 0)

    kernel = Conversion(f"params/{path}/kernel", (f"{name}.weight",), read, write)
    return [kernel, flat(f"params/{path}/bias", f"{name}.bias")]


def residual_block(
    path: str, name: str, shortcut: bool, condition: bool = True
) -> list[Conversion]:
    """Convert a `ResnetBlock2D` of diffusers to a residual block.

    shortcut: whether its shortcut is a convolution, and not nothing.
    condition: whether it has a linear layer of a time.
    """
    return [
        *norm(f"{path}/norm_0", f"{name}.norm1"),
        *convolution(f"{path}/conv_0", f"{name}.conv1"),
        *(dense(f"{path}/condition", f"{name}.time_emb_proj") if condition else []),
        *norm(f"{path}/norm_1", f"{name}.norm2"),
        *convolution(f"{path}/conv_1", f"{name}.conv2"),
        *(convolution(f"{path}/shortcut", f"{name}.conv_shortcut") if shortcut else []),
    ]


def pixel_attention(path: str, name: str) -> list[Conversion]:
    """Convert an `Attention` of diffusers among the pixels of a feature map."""
    found = norm(f"{path}/norm", f"{name}.group_norm")
    pairs = {"query": "to_q", "key": "to_k", "value": "to_v", "out": "to_out.0"}
    for ours, theirs in pairs.items():
        found += dense(f"{path}/{ours}", f"{name}.{theirs}")
    return found


def fused(path: str, names: Sequence[str], bias: bool = True) -> list[Conversion]:
    """Convert a linear layer for each part to one projection to all parts."""
    found = [matrices(f"params/{path}/kernel", *(f"{name}.weight" for name in names))]
    if bias:
        found.append(parts(f"params/{path}/bias", *(f"{name}.bias" for name in names)))
    return found


def attention(
    path: str, names: Sequence[str], joint: bool = True, bias: bool = True
) -> list[Conversion]:
    """Convert the linear layers of query, key, value and output to an attention.

    joint: whether the attention has one projection to the first three.
    """
    query, key, value, output = names
    if joint:
        inputs = fused(f"{path}/qkv", (query, key, value), bias)
    else:
        inputs = dense(f"{path}/query", query, bias)
        inputs += fused(f"{path}/key_value", (key, value), bias)
    return [*inputs, *dense(f"{path}/output", output, bias, num_in=2)]


def repeated(*copies: Sequence[Conversion]) -> list[Conversion]:
    """Convert variables that the tensors hold several times.

    copies: the conversions of each copy, all to the same variables.
    Reading raises GenaxError for copies that differ.
    """

    def join(group: Sequence[Conversion]) -> Conversion:
        first = group[0]

        def read(found, shape):
            size = len(first.names)
            for start in range(size, len(found), size):
                for number, name in enumerate(first.names):
                    if not np.array_equal(found[number], found[start + number], equal_nan=True):
                        raise GenaxError(
                            f"tensor {names[start + number]} should repeat {name}, but differs "
                            "from it: genax has one of them."
                        )
            return first.read(found[:size], shape)

        names = tuple(name for one in group for name in one.names)
        return Conversion(first.path, names, read, lambda ours: [*first.write(ours)] * len(group))

    return [join(group) for group in zip(*copies, strict=True)]
