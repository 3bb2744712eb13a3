"""Which tests one worker runs, as they share what takes long to make.

`--dist loadgroup` would read marks, but since pytest 9.2 it spreads all tests without a word.
"""

from pathlib import Path

from xdist.scheduler import LoadScopeScheduling

CONTRACTS = Path(__file__).with_name("contracts")
# Files of commands that share a run, or programs.
WHOLE = ("tests/cli/test_compile.py", "tests/cli/test_fixed.py")


def scope_of(nodeid: str) -> str:
    """Return what the tests that belong together have in common.

    Contracts belong to the row that is their first parameter, a toy's or an experiment's, other
    tests to their file. Most commands are processes of their own and belong to nothing.
    """
    path, _, test = nodeid.partition("::")
    row = test.partition("[")[2].rstrip("]").partition("-")[0]
    if path.startswith("tests/contracts/"):
        toy = row and (CONTRACTS / f"{row}.py").exists()
        return row if toy or row.startswith("experiments/") else path
    alone = path.startswith("tests/cli/") and path not in WHOLE
    return nodeid if alone else path


class ScopeScheduling(LoadScopeScheduling):
    """Scheduling that keeps the tests of a scope on one worker."""

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)
