"""Every importable class agrees with transformers: outputs, loss, gradients, an AdamW step."""

import pytest

from tests.interop.agreement import CASES, errors

SIZES = [
    pytest.param(case, size, id=f"{case.name}-{number}")
    for case in CASES
    for number, size in enumerate(case.sizes)
]
TOLERANCES = {"outputs": 1e-5, "loss": 1e-5, "gradients": 1e-4, "AdamW step": 1e-5}


@pytest.mark.long
@pytest.mark.parametrize(("case", "size"), SIZES)
def test_agrees_with_transformers(case, size):
    found = errors(case, size)
    assert all(found[what] < limit for what, limit in TOLERANCES.items()), found
