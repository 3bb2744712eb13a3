"""Generative models as pure functions on JAX and Flax, trained by one step and one loop."""

import time

# Of the command: what follows takes seconds to import.
BEGAN = time.monotonic()

from genax.core import Experiment, GenaxError  # noqa: E402
from genax.settings import base_config  # noqa: E402

__version__ = "0.1.0"

__all__ = ["Experiment", "GenaxError", "base_config"]
