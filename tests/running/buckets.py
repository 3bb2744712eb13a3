"""A bucket in a local folder, for what genax writes to gs:// by itself (Orbax has its own ways)."""

import fsspec
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem


class Bucket(DirFileSystem):
    """Like an object store, it does not append."""

    def __init__(self, folder):
        super().__init__(str(folder), LocalFileSystem(auto_mkdir=True))

    def open(self, path, mode="rb", **options):
        assert "a" not in mode, "object stores do not append"
        return super().open(path, mode, **options)


def buckets_in(folder, monkeypatch):
    """From now on gs:// leads to `folder`."""
    monkeypatch.setattr(fsspec, "filesystem", lambda name, **_: Bucket(folder))
