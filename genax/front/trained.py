"""A network of a trained run, for data that it encodes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genax.core.errors import GenaxError
from genax.data.sets.cache import fingerprint_folder
from genax.front.experiments import reopen
from genax.front.restore import open_checkpoints, restore_variables
from genax.front.runs import OpenedRun
from genax.running.run import Run
from genax.running.sampling import variables

Rows = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class TrainedNetwork:
    """A network of a run, called without training, as the encoder of `genax.data.Latents`.

    run: the run's folder.
    network: the name of one of its task's networks, or of a method of one: "vae.encode".
    inputs: what it reads of an example, in the order of its arguments.
    step: of the checkpoint; None is the newest.
    averaged: whether averages take the place of what is averaged.
    made: (element) -> what `outputs` returns, for an experiment that knows it without the run, and
      so samples when the folder is gone.
    """

    run: str
    network: str
    inputs: tuple[str, ...] = ("image",)
    step: int | None = None
    averaged: bool = True
    made: Callable[[Mapping[str, Any]], Mapping[str, jax.ShapeDtypeStruct]] | None = None

    def fingerprint(self) -> str:
        """SHA-256 (hex) over the files of the checkpoint and how the network is called."""
        if not self.run:
            raise GenaxError(
                f"the data is what {self.network!r} of a trained run makes of it, and no run is "
                "named; set config.pretrained to the folder of one."
            )
        checkpoints, step = open_checkpoints(self.run, self.step)
        content = fingerprint_folder(Path(checkpoints.directory) / str(step))
        checkpoints.close()
        how = repr((self.network, self.inputs, self.averaged, content))
        return hashlib.sha256(how.encode()).hexdigest()

    def outputs(
        self, element: Mapping[str, jax.ShapeDtypeStruct]
    ) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Return shapes and dtypes of what it makes of one example; loads no weights."""
        if self.made is not None:
            return self.made(element)
        weights = variables(self._run.shapes(), self.averaged)
        batch = {
            name: jax.ShapeDtypeStruct((1, *element[name].shape), element[name].dtype)
            for name in self.inputs
        }
        made = jax.eval_shape(self._apply, weights, batch)
        return {name: jax.ShapeDtypeStruct(s.shape[1:], s.dtype) for name, s in made.items()}

    def load(self) -> Callable[[Rows], Rows]:
        """Return the function from a batch to its rows, on this process's first device."""
        found, _ = restore_variables(self._run, self.step, self.averaged)
        weights = jax.device_put(self._run.task.plain(found), jax.local_devices()[0])
        apply = jax.jit(self._apply)

        def encode(batch: Rows) -> Rows:
            made = apply(weights, {name: batch[name] for name in self.inputs})
            return {name: np.asarray(array) for name, array in made.items()}

        return encode

    @cached_property
    def _run(self) -> Run:
        return OpenedRun(reopen(self.run)).at(self.step)

    def _apply(self, weights: Mapping[str, Any], batch: Mapping[str, Any]) -> dict[str, jax.Array]:
        def call(nets: Any) -> Any:
            function = nets
            for part in self.network.split("."):
                if not hasattr(function, part):
                    raise GenaxError(
                        f"the run in {self.run} has no network or method {self.network!r}; its "
                        f"networks are {', '.join(weights['params'])}."
                    )
                function = getattr(function, part)
            return function(*(batch[name] for name in self.inputs))

        made = self._run.task.networks.apply(weights, method=call)
        if isinstance(made, jax.Array):
            whole = jnp.issubdtype(made.dtype, jnp.integer)
            return {"latent": made if whole else made.astype(jnp.float32)}
        if hasattr(made, "mean") and hasattr(made, "log_variance"):
            mean, log_variance = (x.astype(jnp.float32) for x in (made.mean, made.log_variance))
            return {"mean": mean, "deviation": jnp.exp(0.5 * log_variance)}
        raise GenaxError(
            f"{self.network!r} of the run in {self.run} returns {type(made).__name__}; an encoder "
            "returns an array, or a distribution with a mean and a log_variance."
        )
