"""Settings: their defaults, the values that they may have, and how text changes them."""

from genax.settings.config import Variant, base_config, from_config
from genax.settings.networks import NetworkSettings, start_from

__all__ = ["NetworkSettings", "Variant", "base_config", "from_config", "start_from"]
