"""Tests that share what takes long to make run on one worker."""

import pytest

from tests.scheduling import scope_of


@pytest.mark.parametrize(
    ("nodeid", "scope"),
    [
        ("tests/gan/test_dcgan.py::test_a[x]", "tests/gan/test_dcgan.py"),
        ("tests/cli/test_fixed.py::test_a", "tests/cli/test_fixed.py"),
        ("tests/cli/test_resume.py::test_a", "tests/cli/test_resume.py::test_a"),
        ("tests/contracts/test_ema.py::test_a[latent-jit]", "latent"),
        ("tests/contracts/test_steps.py::test_a[experiments/a/b.py:c]", "experiments/a/b.py:c"),
        ("tests/contracts/test_steps.py::test_a[sharded-4]", "tests/contracts/test_steps.py"),
        ("tests/contracts/test_steps.py::test_a", "tests/contracts/test_steps.py"),
    ],
)
def test_what_belongs_together(nodeid, scope):
    assert scope_of(nodeid) == scope


@pytest.mark.parametrize("time", range(4))
def test_the_tests_of_this_file_run_on_one_worker(time, worker_id, testrun_uid, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp()
    shared = folder if worker_id == "master" else folder.parent
    with (shared / testrun_uid).open("a") as file:
        file.write(f"{worker_id}\n")
    assert set((shared / testrun_uid).read_text().split()) == {worker_id}
