"""The copy of an experiment's text in a run's folder, here and in a bucket."""

from __future__ import annotations

import pytest
from etils import epath

from genax.front.files import import_file
from genax.running.source import COPY, difference, digest, find, keep, older
from tests.running.buckets import buckets_in


@pytest.fixture(params=["here", "gs"])
def workdir(request, tmp_path, monkeypatch):
    if request.param == "here":
        return epath.Path(tmp_path)
    buckets_in(tmp_path, monkeypatch)
    return epath.Path("gs://bucket/run")


def test_a_copy_and_what_came_before_it(workdir):
    first, second, third = (f"a = 1\nb = {number}\n" for number in "123")
    assert keep(first, workdir, 0) == []
    assert keep(first, workdir, 20) == []
    assert older(workdir) == []
    says = keep(second, workdir, 20)
    kept = workdir / "experiment.00000020.py"
    assert says == [
        f"changed experiment; the text before step 20 is kept in {kept}:",
        "@@ -1,2 +1,2 @@",
        " a = 1",
        "-b = 1",
        "+b = 2",
    ]
    # Killed before its next checkpoint, it changes again at the same step.
    keep(third, workdir, 20)
    assert [path.name for path in older(workdir)] == [
        "experiment.00000020.1.py",
        "experiment.00000020.py",
    ]
    texts = {first: kept, second: workdir / "experiment.00000020.1.py", third: workdir / COPY}
    for text, path in texts.items():
        assert path.read_text() == text
        assert find(workdir, digest(text)) == path
    assert find(workdir, digest("other")) is None
    assert find(workdir, None) is None
    assert import_file(workdir / COPY).b == 3


def test_a_long_difference_is_cut():
    old, new = ("\n".join(f"{word} {n}" for n in range(90)) for word in ("old", "new"))
    lines = difference(old, new)
    assert len(lines) == 41
    assert lines[-1] == "... and 141 more lines"
