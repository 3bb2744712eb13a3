"""The Transformer of 2017 agrees with one made of torch.nn's encoder and decoder layers."""

import pytest

from tests.interop.test_agreement import TOLERANCES
from tests.transformer.encoder_decoder_reference import SIZES, errors


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize(
    "size",
    [
        pytest.param(size, id=f"{size.hidden_size} wide", marks=pytest.mark.long if number else ())
        for number, size in enumerate(SIZES)
    ],
)
def test_agrees_with_torch(size):
    found = errors(size)
    assert all(found[what] < limit for what, limit in TOLERANCES.items()), found
