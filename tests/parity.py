"""Reference implementations: absent, their tests skip; under CI they must be there."""

from __future__ import annotations

import importlib
import importlib.util
import os
from functools import partial

import jax
import optax
import pytest


def require(*modules: str, extra: str = "parity") -> list:
    """Import packages of an extra, or skip; with CI set in the environment, fail instead."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        reason = f"needs {', '.join(missing)}: pip install 'genax[{extra}]'"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason, allow_module_level=True)
    return [importlib.import_module(name) for name in modules]


@partial(jax.jit, static_argnums=0)
def stepped(optimizer: optax.GradientTransformation, gradient, params):
    """The parameters after an optimizer's first step."""
    updates, _ = optimizer.update(gradient, optimizer.init(params), params)
    return optax.apply_updates(params, updates)
