"""Archives of TorchScript, honest and not."""

import pickle
import zipfile

import numpy as np
import pytest

from genax.core import GenaxError
from genax.evaluation.torch_script import read_tensors

KERNEL = np.arange(6, dtype=np.float32)


def pickled(lines: bytes) -> bytes:
    """A module with one attribute, "weight"."""
    return b"c__torch__.net\nNet\n)\x81}X\x06\x00\x00\x00weight" + lines + b"sb."


def tensor(size=(2, 3), stride=(3, 1), offset=0, storage="torch\nFloatStorage", count=6) -> bytes:
    def of(value) -> bytes:
        return pickle.dumps(value, 0)[:-1]

    name = b"(X\x07\x00\x00\x00storagec" + storage.encode()
    key = name + b"\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
    sizes = b"".join((b"(", *map(of, size), b"t(", *map(of, stride), b"t"))
    hooks = b"\x89ccollections\nOrderedDict\n)R"
    start = b"ctorch._utils\n_rebuild_tensor_v2\n("
    return start + key + of(count) + b"tQ" + of(offset) + sizes + hooks + b"tR"


def archive(tmp_path, content: bytes, numbers=KERNEL):
    path = tmp_path / "module.pt"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("net/data.pkl", b"\x80\x02" + content)
        file.writestr("net/data/0", numbers.tobytes())
        file.writestr("net/code/__torch__/net.py", "raise SystemExit")
    return path


def test_tensors_by_their_path(tmp_path):
    found = read_tensors(archive(tmp_path, pickled(tensor())))
    assert list(found) == ["weight"]
    np.testing.assert_array_equal(found["weight"], KERNEL.reshape(2, 3))


def test_torch_writes_what_is_read(tmp_path):
    torch = pytest.importorskip("torch")

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 5), torch.nn.Linear(4, 3))

        def forward(self, x):
            return self.layers(x)

    net = Net()
    torch.jit.script(net).save(str(tmp_path / "net.pt"))
    found = read_tensors(tmp_path / "net.pt")
    expected = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    assert set(found) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize(
    ("content", "asked"),
    [
        (b"cos\nsystem\n(X\x04\x00\x00\x00exittR.", "os.system"),
        (b"cbuiltins\neval\n(X\x01\x00\x00\x001tR.", "builtins.eval"),
        (b"ctorch._utils\n_rebuild_parameter\n.", "torch._utils._rebuild_parameter"),
        (b"ctorch\nload\n.", "torch.load"),
        (b"c__torch__evil\nNet\n.", "__torch__evil.Net"),
        (pickled(tensor(storage="torch\nLongStorage")), "torch.LongStorage"),
    ],
)
def test_a_pickle_that_asks_for_anything_else(content, asked, tmp_path, monkeypatch):
    monkeypatch.setattr("os.system", lambda *_: pytest.fail("it ran"))
    with pytest.raises(GenaxError, match=f"asks for {asked}, which tensors do not need"):
        read_tensors(archive(tmp_path, content))


@pytest.mark.parametrize(
    "content",
    [
        pickled(tensor(size=(3, 3))),
        pickled(tensor(offset=1)),
        pickled(tensor(offset=-1)),
        pickled(tensor(stride=(0, 0))),
        pickled(tensor(count=7)),
        b"garbage",
    ],
)
def test_a_damaged_archive(content, tmp_path):
    with pytest.raises(GenaxError, match="is no TorchScript archive that can be read"):
        read_tensors(archive(tmp_path, content))


def test_a_file_that_is_no_archive(tmp_path):
    (tmp_path / "module.pt").write_bytes(b"none")
    with pytest.raises(GenaxError, match="is no TorchScript archive"):
        read_tensors(tmp_path / "module.pt")
