"""Contracts run row by row, and let go of a row's programs and runs after its last test.

Each program is several mappings of memory, and Linux allows a process 65,530: XLA crashes then.
"""

from pathlib import Path

import flax.linen as nn
import jax
import pytest

from tests.contracts import harness
from tests.contracts.rows import BY_NAME, Row

FOLDER = Path(__file__).parent
SHARED = (harness.task_of, harness.initial, harness.compiled, harness.history, harness.last_of)


@pytest.fixture(autouse=True, scope="package")
def _without_kinks():
    """Smooth activations in place of the rectifiers that networks call.

    Rounding decides whether a rectifier near zero is on, and in a network of few channels that
    changes the whole gradient. Activations that are fields of a network stay as they are.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn, "relu", nn.silu)
        patch.setattr(nn, "leaky_relu", leaky_silu)
        yield


def leaky_silu(x: jax.Array, slope: float = 0.01) -> jax.Array:
    return slope * x + (1 - slope) * nn.silu(x)


def row_of(item) -> str:
    """The name of the row that a test is of, or nothing."""
    if item is None or not hasattr(item, "callspec"):
        return ""
    row = item.callspec.params.get("row", item.callspec.params.get("name", ""))
    return row.name if isinstance(row, Row) else row


def pytest_itemcollected(item):
    """Most rows run with all tests only."""
    row = row_of(item)
    if row in BY_NAME and not BY_NAME[row].daily:
        item.add_marker(pytest.mark.long)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    places = [place for place, item in enumerate(items) if item.path.parent == FOLDER]
    ordered = sorted((items[place] for place in places), key=row_of)
    for place, item in zip(places, ordered, strict=True):
        items[place] = item


def pytest_runtest_teardown(item, nextitem):
    if row_of(item) != row_of(nextitem):
        for function in SHARED:
            function.cache_clear()
        jax.clear_caches()
