"""Settings: their defaults, the values that they may have, and how text changes them."""

from genax.settings.config import Variant, base_config, from_config

__all__ = ["Variant", "base_config", "from_config"]
