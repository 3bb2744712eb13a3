"""The mesh of devices: its axes, the text that names one, and what a traced program asks of it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import jax
from jax.experimental.mesh_utils import create_device_mesh
from jax.sharding import AxisType, Mesh, PartitionSpec
from jaxtyping import Array, Shaped

from genax.core.errors import GenaxError

# Innermost last: neighbours in it are neighbours in the machine.
AXES = ("data", "fsdp", "sequence", "tensor")
# Those that split a batch; "sequence" splits its tokens, "fsdp" and "tensor" split parameters.
BATCH = ("data", "fsdp")


def make_mesh(text: str, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh from text such as "data=-1,fsdp=4"; -1 takes the devices that are left.

    Raises GenaxError if the text is of another form or does not fit the devices.
    """
    devices = jax.devices() if devices is None else devices
    named: dict[str, int] = {}
    for part in text.split(","):
        axis, _, size = part.strip().partition("=")
        if axis not in AXES or axis in named or not re.fullmatch(r"-?\d+", size):
            raise GenaxError(
                f"config.parallel.mesh={text}: {part!r} is not AXIS=SIZE, each of {AXES} once."
            )
        named[axis] = int(size)
    sizes = dict.fromkeys(AXES, 1) | named
    rest = [axis for axis, size in sizes.items() if size == -1]
    fixed = math.prod(size for size in sizes.values() if size != -1)
    if len(rest) == 1 and fixed and len(devices) % fixed == 0:
        sizes[rest[0]] = len(devices) // fixed
    if math.prod(sizes.values()) != len(devices) or min(sizes.values()) < 1:
        raise GenaxError(
            f"config.parallel.mesh={text} does not fit {len(devices)} device(s): the product of "
            "its sizes must be their number, with at most one -1."
        )
    # An axis may be part of a physical one: 32 of 8 x 8 x 8 chips.
    shape = tuple(sizes.values())
    places = create_device_mesh(shape, devices=devices, allow_split_physical_axes=True)
    return Mesh(places, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def traced_mesh() -> jax.sharding.AbstractMesh | None:
    """The mesh that the program being traced is partitioned over; None if there is none."""
    mesh = jax.sharding.get_abstract_mesh()
    return mesh if set(AXES) <= set(mesh.axis_names) and mesh.size > 1 else None


def platform() -> str:
    """What the program being traced is for: its mesh's devices, which may not be at hand."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return jax.default_backend() if device is None else device.platform


def split_batch(x: Shaped[Array, "b ..."]) -> Shaped[Array, "b ..."]:
    """x with its examples split over the mesh and whole otherwise.

    Without this XLA may choose to split activations as the parameters are and to hold all examples
    on every device. It then also doubled the gradient of StyleGAN2's discriminator in microbatches.
    A batch that the mesh does not divide, such as one example of a vmap, is left alone.
    """
    mesh = traced_mesh()
    if mesh is None or len(x) % math.prod(mesh.shape[axis] for axis in BATCH):
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(BATCH))


def split_tokens(x: Shaped[Array, "b t ..."]) -> Shaped[Array, "b t ..."]:
    """x with its examples split over the mesh, and their positions over "sequence"."""
    if traced_mesh() is None:
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(BATCH, "sequence"))
