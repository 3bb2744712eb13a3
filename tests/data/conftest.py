from __future__ import annotations

import pytest

from genax.data.sets.prepare import prepare_set
from tests.data import fakes


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("GENAX_DATA", str(folder))
    return folder


@pytest.fixture
def archive(tmp_path):
    return fakes.mnist_archive(tmp_path)


@pytest.fixture
def prepared(cache, archive):
    """The folder of a small set that is called mnist."""
    known = fakes.mnist_like(archive)
    return prepare_set(known, [archive])
