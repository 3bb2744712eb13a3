"""Generators of the official CycleGAN code, as arrays of a .npz under their PyTorch names."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from genax.core import tree
from genax.core.errors import GenaxError
from genax.gan.resnet_generator import ResNetGenerator
from genax.interop.conversion import Conversion, convolution, flat


class ResnetGenerator(nn.Module):
    """The class of that name in the official code."""

    generator: ResNetGenerator

    def __call__(self, image: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
        """Return translated images in [-1, 1]."""
        return self.generator(image)


def load_cycle_gan(path: str | Path) -> tuple[ResnetGenerator, dict[str, Any]]:
    """Return the generator of a file and its variables.

    The file has the names of the class `ResnetGenerator` with instance norm and without dropout,
    such as "model.1.weight". Width, channels and the number of blocks follow from the arrays.
    Raises GenaxError for a file that cannot be read and for arrays that are not those of such a
    generator.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise GenaxError(f"{path} cannot be read as arrays of a .npz: {error}.") from error
    blocks = len({name.split(".")[1] for name in arrays if ".conv_block." in name})
    first, last = (arrays.get(f"model.{number}.weight") for number in (1, blocks + 17))
    if first is None or last is None or first.ndim != 4 or last.ndim != 4:
        raise GenaxError(
            f"{path} holds no generator of CycleGAN's code: it lacks the convolutions model.1 and "
            f"model.{blocks + 17} of one with {blocks} residual blocks."
        )
    generator = ResNetGenerator(channels=len(last), width=len(first), num_blocks=blocks)
    module = ResnetGenerator(generator)
    image = jax.ShapeDtypeStruct((1, 8, 8, first.shape[1]), jnp.float32)
    shapes = tree.flatten(jax.eval_shape(module.init, jax.random.key(0), image))
    conversions = conversions_of(blocks)
    names = {name for conversion in conversions for name in conversion.names}
    if other := sorted(names ^ arrays.keys()):
        raise GenaxError(
            f"{path} is no generator of CycleGAN's code with {blocks} residual blocks: it "
            f"{'lacks' if other[0] in names else 'also has'} {other[0]}."
        )
    leaves = {}
    for conversion in conversions:
        wanted = shapes[conversion.path].shape
        found = [np.asarray(arrays[name], np.float32) for name in conversion.names]
        (expected,) = conversion.write(np.broadcast_to(np.float32(0), wanted))
        if found[0].shape != expected.shape:
            raise GenaxError(
                f"{path}: {conversion.names[0]} has the shape {found[0].shape}, expected "
                f"{expected.shape} of a generator of width {generator.width}."
            )
        leaves[conversion.path] = jnp.asarray(conversion.read(found, wanted))
    return module, tree.nest(leaves)


def conversions_of(blocks: int) -> list[Conversion]:
    """Return which array holds which variable of a generator of so many blocks."""
    layers = {"first": "1", "down_1": "4", "down_2": "7", "last": str(blocks + 17)}
    for number in range(blocks):
        for which, place in enumerate((1, 5)):
            layers[f"block_{number}_{which}"] = f"{10 + number}.conv_block.{place}"
    found = [convolution(f"generator/{ours}", f"model.{name}") for ours, name in layers.items()]
    for ours, place in (("up_1", blocks + 10), ("up_0", blocks + 13)):
        found.append(_transposed(f"generator/{ours}", f"model.{place}"))
    return [conversion for layer in found for conversion in layer]


def _transposed(path: str, name: str) -> list[Conversion]:
    """Convert the weight [in, out, height, width] of a transposed convolution and its bias."""
    kernel = Conversion(
        f"params/{path}/kernel",
        (f"{name}.weight",),
        lambda found, shape: found[0].transpose(2, 3, 0, 1),
        lambda ours: (ours.transpose(2, 3, 0, 1),),
    )
    return [kernel, flat(f"params/{path}/bias", f"{name}.bias")]
