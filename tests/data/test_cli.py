from __future__ import annotations

import argparse
import json

import pytest

from genax.cli import data
from genax.core.errors import GenaxError


def run(*argv):
    parser = argparse.ArgumentParser()
    data.add_parser(parser.add_subparsers())
    args = parser.parse_args(["data", *argv])
    return args.run(args)


def test_list_says_what_is_ready(prepared, capsys):
    assert run("list") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["mnist", "ready"] in lines
    assert ["digits", "ready"] in lines
    assert ["shakespeare", "run:", "genax", "data", "prepare", "shakespeare"] in lines


def test_list_as_json(prepared, capsys):
    assert run("list", "--json") == 0
    listed = json.loads(capsys.readouterr().out.splitlines()[-1])
    sets = {entry["name"]: entry for entry in listed["sets"]}
    assert sets["mnist"]["prepared"]
    assert not sets["cifar10"]["prepared"]
    assert [p["version"] for p in sets["cifar10"]["packages"]] == ["1.1.1"]
    assert sets["digits"]["counts"] == {"train": 1500, "test": 297}
    assert sets["digits"]["packages"] == []
    assert sets["verses"]["fields"] == {"en": "str", "es": "str"}


def test_prepare_says_where(prepared, capsys):
    assert run("prepare", "digits", "mnist") == 0
    printed = capsys.readouterr().out
    assert "digits: needs no preparation" in printed
    assert f"mnist: ready in {prepared}" in printed


def test_refusals(cache, tmp_path):
    with pytest.raises(GenaxError, match="no data set 'mnits'"):
        run("prepare", "digits", "mnits")
    with pytest.raises(GenaxError, match="goes with one NAME"):
        run("prepare", "mnist", "cifar10", "--archive", "x.tgz")
    with pytest.raises(GenaxError, match=r"no archive .*absent\.tgz"):
        run("prepare", "mnist", "--archive", str(tmp_path / "absent.tgz"))
    with pytest.raises(SystemExit):
        run("prepare")
