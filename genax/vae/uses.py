"""What a trained autoencoder is used for, as samplers and scores that settings ask for."""

from __future__ import annotations

from functools import partial
from typing import Any

from jaxtyping import Array, Float
from ml_collections import ConfigDict

from genax.core import Evaluator, GenaxError, Sampler
from genax.core.data import Data
from genax.core.task import Batch
from genax.data.drawn import Drawn
from genax.data.fields import factors_of
from genax.data.sets.named import open_set
from genax.evaluation.disentanglement import disentanglement
from genax.nn.conditions import Condition
from genax.settings.ranges import AMOUNT, COUNT, Ranges
from genax.vae.active_units import posterior_means
from genax.vae.compression.scores import compression
from genax.vae.latent_tools import latent_tools
from genax.vae.objectives import elbo

USES: dict[str, Any] = {
    # Whether there are samplers of the latent space: see `latent_tools`. They are asked for after
    # training, as in genax sample RUN --config.tools=True --sampler latent_map --num 5000.
    "tools": False,
    # Test images that are compressed to a file, and images that are coded side by side.
    "compressed": 0,
    "lanes": 16,
    # Examples whose factors are compared with their latents; the data set has such factors.
    "factor_examples": 0,
}
USES_RANGES: Ranges = {"compressed": AMOUNT, "lanes": COUNT, "factor_examples": AMOUNT}


def use_samplers(config: ConfigDict, data: Data, condition: Condition) -> dict[str, Sampler]:
    """Return the samplers that the settings ask for. data: whose images are shown."""
    if not config.tools:
        return {}
    return latent_tools(data, config.latent_size, condition, bool(config.num_classes))


def use_scores(
    config: ConfigDict,
    train: Data,
    test: Data | None,
    condition: Condition,
    factors: tuple[str, ...] = (),
) -> dict[str, Evaluator]:
    """Return the scores that the settings ask for.

    factors: their names, for a result.
    Raises GenaxError for images that cannot be compressed, and for data without factors.
    """
    scores = {}
    if config.factor_examples:
        drawn = Drawn(train if test is None else test, config.factor_examples)
        encode = partial(posterior_means, condition=condition)
        scores["factors"] = disentanglement(encode, drawn, factors)
    if config.compressed:
        levels = _levels(config)
        if test is None or config.num_classes:
            raise GenaxError(
                f"config.compressed={config.compressed} is a number of test images that a decoder "
                "reads back without labels: choose config.test_split and config.num_classes=0."
            )
        scores["compression"] = compression(
            _bound, config.latent_size, levels, config.compressed, config.lanes
        )
    return scores


def factor_names(name: str) -> tuple[str, ...]:
    """Return the names of a data set's factors. Raises GenaxError if it has none."""
    found = factors_of(open_set(name).fields)
    if not found:
        raise GenaxError(
            f"{name} has no factors; choose dsprites or shapes, or config.factor_examples=0."
        )
    return found


def _bound(nets: Any, batch: Batch) -> Float[Array, " b"]:
    return -elbo(nets, batch).values


def _levels(config: ConfigDict) -> int:
    if config.likelihood == "bernoulli" and config.binarisation != "none":
        return 2
    if config.likelihood == "discretised_logistic" and config.levels <= 256:
        return config.levels
    raise GenaxError(
        f"config.compressed={config.compressed} needs a likelihood of the levels that images have: "
        "choose config.likelihood=discretised_logistic of at most 256 config.levels, or bernoulli "
        "and config.binarisation."
    )
