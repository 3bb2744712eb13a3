"""A task of every chapter is the same run on one process and on four."""

import pytest

from tests.cli.command import succeed, train
from tests.cli.processes import close, ended_well, finish_all, same_metrics, start_many

SHORT = {
    "steps": 4,
    "steps_per_call": 1,
    "log_every": 1,
    "batch_size": 8,
    "sample_every": 0,
    "num_samples": 2,
    "eval_batch_size": 8,
}
CHAPTERS = {
    "transformer/gpt.py:stdlib": {"hidden_size": 16, "num_layers": 1, "evaluation_windows": 16},
    "diffusion/ddpm.py:digits": {
        "unet__channels": 8,
        "unet__multipliers": "(1,)",
        "unet__num_groups": 4,
        "num_timesteps": 20,
        "ddim_steps": 2,
        "test_split": "",
    },
    "gan/dcgan.py:digits": {"width": 8, "coverage_samples": 0},
    "vae/vae.py:digits": {"hidden": "(16,)", "importance_samples": 2},
}


@pytest.mark.parametrize("name", CHAPTERS)
def test_four_processes_match_one(name, tmp_path):
    def arguments(folder):
        return train(f"experiments/{name}", tmp_path / folder, **SHORT | CHAPTERS[name])

    succeed(*arguments("one"))
    ended_well(finish_all(start_many(4, *arguments("many"))))
    close(tmp_path / "many", tmp_path / "one")
    same_metrics(tmp_path / "many", tmp_path / "one")
