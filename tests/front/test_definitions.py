"""Experiments before they are built: what they say of themselves, and what they take."""

from __future__ import annotations

import signal

import pytest

import genax
from genax.core import GenaxError
from genax.front import training
from genax.running.loop import Outcome
from tests.cli.command import TOY
from tests.experiments import load

toy = load("tests/cli/toy.py")


def build(config):
    """Toy of a test."""
    return toy.build(config)


def test_what_an_experiment_says_of_itself():
    loaded = genax.load(TOY)
    assert (loaded.variant, repr(loaded)) == ("cpu", f"<experiment {TOY}:cpu>")
    assert loaded.DEFAULTS["width"] == 16
    assert loaded.VARIANTS["wide"].settings == {"width": 64}
    assert loaded.RANGES == {}
    assert loaded.doc.startswith("Toy regression: a small experiment")
    assert genax.load(f"{TOY}:wide").config().width == 64
    own = genax.define(build, toy.DEFAULTS, toy.VARIANTS, variant="wide")
    assert (own.config().width, own.doc, repr(own)) == (
        64,
        "Toy of a test.",
        "<experiment experiment.py:wide>",
    )
    assert genax.define(build).variant == "cpu"
    with pytest.raises(GenaxError, match="has no variant 'huge'; it has cpu, wide"):
        genax.define(build, toy.DEFAULTS, toy.VARIANTS, variant="huge")


def test_data_is_passed_on_if_it_is_given():
    def takes(config, data="own"):
        return build(config).replace(data=data)

    config = genax.define(build, toy.DEFAULTS).config()
    assert genax.define(takes, toy.DEFAULTS).build(config).data == "own"
    assert genax.define(takes, toy.DEFAULTS).build(config, "mine").data == "mine"
    with pytest.raises(GenaxError, match=r"takes no data; write build\(config, data=None\)"):
        genax.define(build, toy.DEFAULTS).build(config, "mine")


@pytest.mark.parametrize(
    ("outcome", "raised", "said"),
    [
        (Outcome(3, signal=signal.SIGINT), KeyboardInterrupt, "saved at step 3; the same call"),
        (Outcome(0, signal=signal.SIGTERM), SystemExit, "before the first step; the same call"),
    ],
)
def test_a_signal_ends_the_caller_too(outcome, raised, said, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(training, "play", lambda *_: outcome)
    with pytest.raises(raised):
        genax.train(TOY, tmp_path)
    assert said in capsys.readouterr().out


def test_what_a_new_run_starts_with(tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(training, "play", lambda run, *rest: given.append(rest) or Outcome(1))
    names = {"params/regressor": "params/regressor"}
    genax.train(TOY, tmp_path, init_from=tmp_path / "other", from_step=4)
    genax.train(TOY, tmp_path, init_from={"other": names})
    assert [rest[:2] for rest in given] == [
        (4, {str(tmp_path / "other"): {"params": "params"}}),
        (None, {"other": names}),
    ]
