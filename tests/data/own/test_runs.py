"""A run on files of one's own: what it says, what it refuses, and files that move."""

from __future__ import annotations

import json

import pytest

from genax.cli import data as verb
from genax.cli.main import main

SHORT = ["--config.num_samples=4", "--config.importance_samples=2", "--config.batch_size=8"]
SHORT += ["--config.steps_per_call=1", "--config.eval_batch_size=8"]


@pytest.mark.long
def test_pictures_that_move_during_a_run(pictures, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    broken = pictures / "dogs/05.png"
    broken.write_bytes(broken.read_bytes()[:60])
    command = ["train", "experiments/vae/vae.py:digits", "--workdir", "run", *SHORT]

    def train(steps, *settings):
        assert main([*command, f"--config.steps={steps}", *settings]) in (0, 1)
        told = capsys.readouterr()
        return told.out + told.err

    where, smaller = "--config.dataset=folder:pictures", "--config.size=8"
    skip = "--config.damaged=skip"
    assert "dogs/05.png cannot be read" in train(2, where, smaller)
    assert "differ in size: choose one with size=, in an experiment config.size" in train(
        2, where, skip
    )
    told = train(2, where, smaller, skip)
    assert "done: step 2" in told
    for line in ("train, ", "label: 2 classes", "left out as damaged: 1 (", "sizes from 8x8"):
        assert told.count(f"{line}") == 1, line
    pictures.rename(tmp_path / "moved")
    assert "there is no" in train(4, where, smaller, skip)
    moved = "--config.dataset=folder:moved"
    assert "resuming at step 2" in train(4, moved, smaller, skip)
    assert json.loads((tmp_path / "run/run.json").read_text())["config"]["dataset"] == moved[17:]
    (tmp_path / "moved").rename(tmp_path / "again")
    again = "--config.dataset=folder:again"
    assert main(["sample", "run", "--num", "2", "--out", "a.png", again]) == 0
    assert main(["eval", "run", again]) == 0
    (tmp_path / "again/dogs/07.png").unlink()
    capsys.readouterr()
    assert "the data of the run in run has changed" in train(6, again, smaller, skip)


@pytest.mark.long
def test_texts_and_reviews(tmp_path, monkeypatch, capsys):
    """The next try of what was refused works in the same folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.txt").write_text("".join(map(chr, range(200, 320))) * 100)
    gpt = ["train", "experiments/transformer/gpt.py", "--workdir", "texts"]
    gpt += [
        "--config.steps=10",
        "--config.hidden_size=32",
        "--config.batch_size=4",
        "--config.dataset=text:my.txt",
    ]
    assert main(gpt) == 1
    assert "set config.vocab_size to 120 or above" in capsys.readouterr().err
    assert main([*gpt, "--config.vocab_size=120"]) == 0
    rows = [f"this film is {('bad', 'fine', 'good')[n % 3]},{'abc'[n % 3]}" for n in range(90)]
    (tmp_path / "a.csv").write_text("\n".join(["text,label", *rows]))
    bert = [
        "train",
        "experiments/transformer/bert_fine_tuning.py:smoke-classes",
        "--workdir",
        "bert",
    ]
    bert += ["--config.dataset=csv:a.csv", "--config.test_split=test", "--config.steps=2"]
    bert += ["--config.text=text", "--config.label=label"]
    assert main(bert) == 1
    refused = capsys.readouterr().err
    assert "has 3 classes of label (a, b, c), more than 2; set config.num_labels=3" in refused
    assert main([*bert, "--config.num_labels=3"]) == 0
    capsys.readouterr()
    assert main(["sample", "bert", "--num", "2"]) == 0
    assert "\ntrue: " in capsys.readouterr().out


def test_describe_shows_what_training_would_read(pictures, capsys):
    (pictures / "dogs/05.png").write_bytes(b"none")
    assert main(["data", "describe", f"folder:{pictures}", "digits"]) == 0
    told = capsys.readouterr().out
    assert "each has image (Image), label (Label)\n" in told
    for line in ("  label: 2 classes, 0 cats, 1 dogs\n", "  left out as damaged: 1 ("):
        assert line in told
    assert "digits: each has image (Image), label (Label)\n  splits train, test\n" in told
    assert main(["data", "describe", "folder:nowhere"]) == 1
    assert main(["data", "prepare", f"folder:{pictures}"]) == 0
    assert "needs no preparation" in capsys.readouterr().out
    assert verb.FORMS.keys() == {"folder", "npz", "text", "jsonl", "csv", "hf"}
    assert main(["data", "list"]) == 0
    assert "  folder:PATH  pictures" in capsys.readouterr().out
