"""Pickles of arrays, honest and not."""

import pickle

import numpy as np
import pytest

from genax.core import GenaxError
from genax.evaluation.array_pickle import read_arrays

ARRAY = np.arange(6, dtype=np.float32).reshape(2, 3)


def written(tmp_path, content):
    path = tmp_path / "weights.ckpt"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("protocol", [3, 4])
def test_arrays_by_their_path(tmp_path, protocol):
    tree = {"layer": {"kernel": ARRAY, "bias": ARRAY[0]}, "scale": ARRAY[:, 0].copy()}
    found = read_arrays(written(tmp_path, pickle.dumps(tree, protocol)))
    assert list(found) == ["layer/kernel", "layer/bias", "scale"]
    np.testing.assert_array_equal(found["layer/kernel"], ARRAY)
    np.testing.assert_array_equal(found["scale"], [0, 3])


class Runs:
    def __reduce__(self):
        return print, ("it ran",)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"a": Runs()}, "asks for builtins.print, which arrays do not need; it was not run"),
        ({"a": np.array([object()])}, "an array of 'O8'"),
        ({"a": ARRAY.astype(np.float64)}, "an array of 'f8'"),
        ({"a": ARRAY.astype(">f4")}, "byte order '>'"),
        ({"a": np.asfortranarray(ARRAY)}, "not of float32 by rows"),
        ({"a": [ARRAY]}, "it holds list at a"),
        (ARRAY[0, 0], "asks for numpy.*scalar"),
    ],
)
def test_anything_else_is_refused(tmp_path, capsys, value, said):
    with pytest.raises(GenaxError, match=said):
        read_arrays(written(tmp_path, pickle.dumps(value, 3)))
    assert "it ran" not in capsys.readouterr().out


def test_a_damaged_file(tmp_path):
    with pytest.raises(GenaxError, match="is no pickle of arrays"):
        read_arrays(written(tmp_path, pickle.dumps({"a": ARRAY}, 3)[:-30]))
