"""Generative models as pure functions on JAX and Flax, trained by one step and one loop."""

from genax.core import Experiment, GenaxError, base_config

__version__ = "0.1.0"

__all__ = ["Experiment", "GenaxError", "base_config"]
