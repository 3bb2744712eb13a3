"""Programs that are compiled as users' are: well, where tests/conftest.py has them made at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from genax.core.compilation import compiler_options

# What undoes the flags of tests/conftest.py for one program, as `compiler_options` of jax.jit.
USERS_OPTIONS = {
    "xla_backend_optimization_level": 3,
    "xla_llvm_disable_expensive_passes": False,
    "xla_cpu_use_fusion_emitters": True,
}


def _options(platform: str | None = None) -> dict:
    return USERS_OPTIONS | (compiler_options(platform) or {})


@contextmanager
def users_compilation() -> Iterator[None]:
    """Make steps that are compiled as users' runs are."""
    with mock.patch("genax.core.devices.compiler_options", _options):
        yield
