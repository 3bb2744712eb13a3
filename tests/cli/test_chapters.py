"""A task of a chapter is the same run on one process and on several; VAE: test_processes."""

import pytest

from tests.cli.command import succeed, train
from tests.cli.processes import close, ended_well, finish_all, same_metrics, start_many

pytestmark = pytest.mark.long

SHORT = {
    "steps": 4,
    "steps_per_call": 1,
    "log_every": 1,
    "batch_size": 8,
    "sample_every": 0,
    "num_samples": 0,
    "eval_batch_size": 8,
}
# Processes, and what makes an experiment small.
CHAPTERS = {
    "transformer/gpt.py:stdlib": (
        4,
        {"hidden_size": 16, "num_layers": 1, "evaluation_windows": 16},
    ),
    "diffusion/ddpm.py:digits": (
        2,
        {
            "unet__channels": 8,
            "unet__multipliers": "(1,)",
            "unet__num_groups": 4,
            "num_timesteps": 20,
            "test_split": "",
        },
    ),
    "gan/dcgan.py:digits": (2, {"width": 8, "coverage_samples": 0}),
}


@pytest.mark.parametrize("name", CHAPTERS)
def test_processes_match_one(name, tmp_path):
    count, settings = CHAPTERS[name]

    def arguments(folder):
        return train(f"experiments/{name}", tmp_path / folder, **SHORT | settings)

    succeed(*arguments("one"))
    ended_well(finish_all(start_many(count, *arguments("many"))))
    close(tmp_path / "many", tmp_path / "one")
    same_metrics(tmp_path / "many", tmp_path / "one")
