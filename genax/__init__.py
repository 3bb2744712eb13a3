"""Generative models as pure functions on JAX and Flax, trained by one step and one loop."""

import time

# Of the command: what follows takes seconds to import.
BEGAN = time.monotonic()

from typing import TYPE_CHECKING, Any  # noqa: E402

from genax.core import Experiment, GenaxError  # noqa: E402
from genax.settings import Variant, base_config  # noqa: E402

if TYPE_CHECKING:
    from genax.front.experiments import define, load
    from genax.front.runs import open_run as open
    from genax.front.training import train

__version__ = "0.1.0"

__all__ = [
    "Experiment",
    "GenaxError",
    "Variant",
    "base_config",
    "define",
    "load",
    "open",
    "train",
]


def __getattr__(name: str) -> Any:
    """Import what opens experiments and runs when it is asked for: it takes a second."""
    if name in ("define", "load"):
        from genax.front import experiments

        return getattr(experiments, name)
    if name == "train":
        from genax.front.training import train

        return train
    if name == "open":
        from genax.front.runs import open_run

        return open_run
    raise AttributeError(f"module 'genax' has no attribute {name!r}")
