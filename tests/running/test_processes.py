"""How the processes of a run meet: what is checked before they do."""

import socket

import numpy as np
import pytest

from genax.core import GenaxError
from genax.running import processes


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (("localhost", 2, 0, 10), "--coordinator localhost is not HOST:PORT"),
        (("localhost:", 2, 0, 10), "is not HOST:PORT"),
        ((":1234", 2, 0, 10), "is not HOST:PORT"),
        (("a:b", 2, 0, 10), "is not HOST:PORT"),
        (("a:0", 2, 0, 10), "with a port from 1 to 65535"),
        (("a:65536", 2, 0, 10), "with a port from 1 to 65535"),
        (("a:1:2", 2, 0, 10), "is not HOST:PORT"),
        (("http://a:1", 2, 0, 10), "is not HOST:PORT"),
        (("a:1", 2, 0, 0), "--heartbeat-seconds 0 must be at least 1"),
        (("a:1", 2, 0, -5), "--heartbeat-seconds -5 must be at least 1"),
        ((None, None, None, 2**31), "--heartbeat-seconds 2147483648 must be"),
        ((None, 2**31, None, 10), "--num-processes 2147483648 must be"),
        (("a:1", 0, 0, 10), "--num-processes 0 must be at least 1"),
        (("a:1", 2, 2, 10), "--process-id 2 is none of 0 to 1"),
        (("a:1", 2, -1, 10), "--process-id -1 is none of 0 to 1"),
    ],
)
def test_places_that_are_none(place, said, monkeypatch):
    monkeypatch.setattr("jax.distributed.initialize", lambda *_, **__: pytest.fail("connects"))
    with pytest.raises(GenaxError) as error:
        processes.connect(*place, "folder")
    assert said in str(error.value)


@pytest.mark.parametrize("coordinator", ["node-0.train:1234", "10.0.0.1:80", "[::1]:65535", None])
def test_places_that_are_some(coordinator, monkeypatch):
    asked = []
    monkeypatch.setattr("jax.distributed.initialize", lambda *place, **_: asked.append(place))
    monkeypatch.setattr(processes, "_when_aborted", lambda say: None)
    processes.connect(coordinator, 2, 1, 10, "folder")
    assert asked == [(coordinator, 2, 1)]


@pytest.mark.parametrize("host", ["", "127.0.0.1"])
def test_a_port_in_use(host, monkeypatch):
    """JAX's service would listen there beside the other, and take its processes."""
    monkeypatch.setattr("jax.distributed.initialize", lambda *_, **__: pytest.fail("connects"))
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind((host, 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(GenaxError, match=f"port {port} is in use"):
            processes.connect(f"localhost:{port}", 2, 0, 10, "folder")


@pytest.mark.parametrize("sees", [[1, 1], [1, 0]])
@pytest.mark.parametrize("there", [True, False])
def test_the_first_process_leaves_a_folder_as_it_was(there, sees, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    if there:
        folder.mkdir()
        (folder / "run.json").write_text("{}")
    before = sorted(path.name for path in folder.iterdir()) if there else []
    monkeypatch.setattr("jax.process_count", lambda: 2)
    monkeypatch.setattr(processes.multihost_utils, "broadcast_one_to_all", lambda number: number)
    monkeypatch.setattr(processes, "meet", lambda where: None)
    monkeypatch.setattr(processes.multihost_utils, "process_allgather", lambda _: np.array(sees))
    if all(sees):
        processes.check_one_folder(folder)
    else:
        with pytest.raises(GenaxError, match="process 1 does not see what process 0 writes"):
            processes.check_one_folder(folder)
        assert folder.exists() == there
    assert sorted(path.name for path in folder.glob("*")) == before
