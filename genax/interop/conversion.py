"""Which tensors of a file hold which parameter, and how each is made of the other, to the bit."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Link:
    """A parameter by its path, and the tensors that it is read from and written to.

    read: (tensors, the parameter's shape) -> parameter. write: parameter -> tensors.
    """

    path: str
    names: tuple[str, ...]
    read: Callable[[Sequence[np.ndarray], Shape], np.ndarray]
    write: Callable[[np.ndarray], Sequence[np.ndarray]]


def flat(path: str, name: str, shape: tuple[int, ...] | None = None) -> Link:
    """The same numbers in the same order. shape: the tensor's, with one -1; None is ours."""

    def write(ours):
        return (ours if shape is None else ours.reshape(shape),)

    return Link(path, (name,), lambda found, shape: found[0].reshape(shape), write)


def matrix(path: str, name: str, num_in: int = 1) -> Link:
    """A kernel [*in, *out] from a weight [out, in]; num_in: axes of the kernel that are inputs."""

    def write(ours):
        return (ours.reshape(math.prod(ours.shape[:num_in]), -1).T,)

    return Link(path, (name,), lambda found, shape: found[0].T.reshape(shape), write)


def matrices(path: str, *names: str) -> Link:
    """A kernel [in, parts, *out] from a weight [out, in] for each part."""

    def read(found, shape):
        return np.stack([weight.T.reshape(shape[0], *shape[2:]) for weight in found], axis=1)

    def write(ours):
        return [ours[:, part].reshape(len(ours), -1).T for part in range(ours.shape[1])]

    return Link(path, names, read, write)


def parts(path: str, *names: str) -> Link:
    """A parameter [parts, *shape] from a vector for each part."""

    def read(found, shape):
        return np.stack([vector.reshape(shape[1:]) for vector in found])

    return Link(path, names, read, lambda ours: [part.reshape(-1) for part in ours])


def patches(path: str, name: str, size: int) -> Link:
    """A kernel [size * size * c, d] from a convolution's weight [d, c, size, size]."""

    def write(ours):
        return (ours.reshape(size, size, -1, ours.shape[-1]).transpose(3, 2, 0, 1),)

    return Link(
        path, (name,), lambda found, shape: found[0].transpose(2, 3, 1, 0).reshape(shape), write
    )


def norm(path: str, name: str, bias: bool = True) -> list[Link]:
    """A norm's scale and, where it has one, bias."""
    links = [flat(f"{path}/scale", f"{name}.weight")]
    return [*links, flat(f"{path}/bias", f"{name}.bias")] if bias else links


def dense(path: str, name: str, bias: bool = True, num_in: int = 1) -> list[Link]:
    """A projection from a linear layer."""
    links = [matrix(f"{path}/kernel", f"{name}.weight", num_in)]
    return [*links, flat(f"{path}/bias", f"{name}.bias", (-1,))] if bias else links


def fused(path: str, names: Sequence[str], bias: bool = True) -> list[Link]:
    """A projection to several parts from as many linear layers."""
    links = [matrices(f"{path}/kernel", *(f"{name}.weight" for name in names))]
    return [*links, parts(f"{path}/bias", *(f"{name}.bias" for name in names))] if bias else links


def attention(path: str, names: Sequence[str], joint: bool = True, bias: bool = True) -> list[Link]:
    """Attention from linear layers for query, key, value and output.

    joint: whether the first three are one projection of ours.
    """
    query, key, value, output = names
    if joint:
        inputs = fused(f"{path}/qkv", (query, key, value), bias)
    else:
        inputs = dense(f"{path}/query", query, bias)
        inputs += fused(f"{path}/key_value", (key, value), bias)
    return [*inputs, *dense(f"{path}/output", output, bias, num_in=2)]
