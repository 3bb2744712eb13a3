"""Orthogonal regularisation of a network's kernels."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from genax.core import tree
from genax.core.task import Batch
from genax.gan.game import Round

# Parameters below these are left out: the generator's shared embedding.
LEFT_OUT = ("labels",)


def off_diagonal(kernel: Float[Array, "... outputs"]) -> Float[Array, ""]:
    """Return the sum of squared products of different columns of a kernel, which has one an output.

    |W^T W * (1 - I)|^2, Brock et al. 2019 (arXiv:1809.11096), eq. 3.
    """
    matrix = kernel.reshape(-1, kernel.shape[-1]).astype(jnp.float32)
    products = jnp.matmul(matrix.T, matrix, precision="highest")
    return jnp.square(products).sum() - jnp.square(jnp.diagonal(products)).sum()


def orthogonal_penalty(
    nets: nn.Module,
    batch: Batch,
    found: Round,
    weight: float = 1e-4,
    of: str = "generator",
    left_out: Sequence[str] = LEFT_OUT,
) -> Float[Array, " b"]:
    """weight / 2 times `off_diagonal`, added up over all parameters of two and more axes.

    Its gradient is that of ajbrock's BigGAN-PyTorch: 2 weight W (W^T W * (1 - I)). The paper's
    equation has no half.

    of: the name of the network.
    left_out: patterns of parameters.
    """
    params = tree.flatten(getattr(nets, of).variables["params"])
    kernels = [
        leaf
        for path, leaf in params.items()
        if leaf.ndim > 1 and not any(tree.matches(pattern, path) for pattern in left_out)
    ]
    total = sum((off_diagonal(kernel) for kernel in kernels), jnp.zeros(()))
    return jnp.full(len(batch["index"]), 0.5 * weight * total)
