"""Networks that never change: kept once in a run's folder, verified whenever they are read."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import jax
from etils import epath
from orbax.checkpoint import v1 as ocp

from genax.core import tree
from genax.core.errors import GenaxError, reason
from genax.running import checksums

FOLDER = "fixed"


def keep(fixed: Mapping[str, Any], workdir: epath.PathLike) -> str:
    """Write what `TrainState.fixed` holds, in one move, and return its digest.

    All processes call it. Raises GenaxError if the folder holds other networks.
    """
    folder, digest = _folder(workdir), tree.digest(fixed)
    if folder.exists():
        try:
            shapes(workdir)
            load(workdir, tree.flatten(_shapes_of(fixed)), digest)
        except GenaxError:
            raise GenaxError(
                f"{folder} is not what this run keeps there, the networks that never change; "
                "remove it or choose another --workdir."
            ) from None
    else:
        if jax.process_index() == 0:
            for path in folder.parent.glob(f"{FOLDER}.orbax-checkpoint-tmp*"):
                path.rmtree()  # of a run that was killed
        ocp.save(folder, tree.nest(tree.flatten(fixed)))
    checksums.seal(folder)
    return digest


def shapes(workdir: epath.PathLike) -> dict[str, Any]:
    """Path to shape and dtype of what a run keeps fixed.

    Raises GenaxError if a file is missing or is not what was written.
    """
    folder = _folder(workdir)
    if not folder.is_dir():
        raise _lost(folder, "there is no such folder")
    if lines := checksums.damage(folder):
        raise _lost(folder, "; ".join(lines))
    try:
        found = tree.flatten(ocp.metadata(folder).metadata)
    except Exception as error:
        raise _lost(folder, reason(error)) from error
    if not found:
        raise _lost(folder, "it holds no array")
    return found


def load(workdir: epath.PathLike, wanted: Mapping[str, Any], digest: str) -> dict[str, jax.Array]:
    """Path to array of what a run keeps fixed, in the shapes and places of `wanted`.

    Raises GenaxError if its digest is another than `keep` returned.
    """
    folder = _folder(workdir)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = tree.flatten(ocp.load(folder, tree.nest(wanted)))
    except Exception as error:
        raise _lost(folder, reason(error)) from error
    if tree.digest(found) != digest:
        raise _lost(folder, "it has another content than was written")
    return found


def _shapes_of(fixed: Mapping[str, Any]) -> Any:
    shape = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)  # noqa: E731
    return jax.tree.map(shape, fixed)


def _folder(workdir: epath.PathLike) -> epath.Path:
    return epath.Path(workdir).resolve() / FOLDER


def _lost(folder: epath.Path, why: str) -> GenaxError:
    return GenaxError(
        f"{folder} is missing or damaged ({why}); it holds the networks of this run that never "
        "change, which no checkpoint has: put it back as it was."
    )
