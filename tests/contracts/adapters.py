"""A language model whose feed-forward layers get adapters, and whose head is trained as before."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from genax.core import Task
from genax.nn.lora import adapted
from tests.contracts import language_model


def make(dtype: Any = jnp.float32) -> Task:
    task = language_model.make(dtype, dropout=0.0)
    return adapted(task, rank=2, targets=("**/up", "**/down"), trained=("decoder/head",))
