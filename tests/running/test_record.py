"""Records in JSON: what is none is refused with a sentence."""

import ast
import json
import math

import pytest

from genax.core import GenaxError
from genax.running.record import check_same_run, read_run, starts_of, what_runs
from genax.settings.files import to_json
from tests.cli.command import ROOT

RECORD = {"experiment": "a.py", "variant": "cpu", "config": {"rate": 1.0}, "data": ["b"]}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[]", "holds no JSON object"),
        ("3", "holds no JSON object"),
        ("{", "is not readable as JSON"),
        ("{}", "'experiment' is missing"),
        (json.dumps(RECORD | {"config": []}), "'config' is missing"),
        (json.dumps({k: v for k, v in RECORD.items() if k != "data"}), "'data' is missing"),
    ],
)
def test_a_damaged_record(content, said, tmp_path):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(GenaxError, match=said) as error:
        read_run(tmp_path)
    assert str(tmp_path / "run.json") in str(error.value)


def test_a_whole_record(tmp_path):
    assert read_run(tmp_path) is None
    (tmp_path / "run.json").write_text(json.dumps(RECORD))
    assert read_run(tmp_path) == RECORD


def test_the_starts_of_a_record_without_any():
    """Records of earlier versions have none."""
    old = RECORD | dict.fromkeys(("versions", "commit", "device"), "v") | {"started": "then"}
    [start] = starts_of(old)
    assert (start["started"], start["step"], start["changed_settings"]) == ("then", 0, [])
    assert starts_of(RECORD | {"starts": [start]}) == [start]


def test_what_was_imported_is_no_run():
    with pytest.raises(GenaxError, match=r"what `genax import` wrote.*--config.pretrained=folder"):
        check_same_run({"imported": "GPT"}, RECORD, "folder")


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_does_not_have(number):
    with pytest.raises(GenaxError, match=f"config.betas=.*{number}.* is no finite number"):
        to_json({"step": 1, "config": {"betas": (0.5, number)}})
    record = RECORD | {"config": {"rate": number}, "parameters": {}, "versions": {}}
    with pytest.raises(GenaxError, match=f"config.rate={number} is no finite number"):
        what_runs(record, None, {})


def test_what_a_new_run_starts_with_is_the_same_in_all_processes():
    record = RECORD | {"parameters": {}, "versions": {}}
    starts = [{}, {"a": {"params": "params"}}, {"b": {"params": "params"}}, {"a": {"x": "params"}}]
    assert len({what_runs(record, None, start) for start in starts}) == len(starts)


def test_processes_with_another_text_of_the_experiment_differ():
    records = [
        RECORD | {"parameters": {}, "versions": {}, "experiment_sha256": text} for text in "ab"
    ]
    assert len({what_runs(record, None, {}) for record in records}) == 2


def test_a_file_under_another_name_is_the_same_run_if_its_text_is():
    old = RECORD | {"experiment": "old.py", "experiment_sha256": "a"}
    new = RECORD | {"experiment": "new.py", "experiment_sha256": "a"}
    assert check_same_run(old, new, "folder") == []
    for other in (new | {"experiment_sha256": "b"}, new | {"experiment_sha256": None}):
        with pytest.raises(GenaxError, match=r"holds a run of old\.py"):
            check_same_run(old, other, "folder")


def test_no_json_is_written_that_others_cannot_read():
    """Python's own writes NaN and Infinity, which are no JSON, unless told not to."""
    for path in [*(ROOT / "genax").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("json.dumps", "json.dump"):
                given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert given.get("allow_nan") == "False", f"{path}:{node.lineno}"
