"""Whether a run survives being killed: small runs, killed at random and started again to their end.

    python -m benchmarks.kills --kills 100 [--seed 0] [--only TEXT]

Each run is `genax train` in a process of its own. A signal comes at a random time of its life, of
its training, while it prepares its data, or while a checkpoint is being written; the same command
goes on. Nothing may be lost: the newest finished checkpoint stays and is intact, the next start
resumes from it or a later one, and the digest of the end is that of the run that was left alone.
Exits with 1 where a check failed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from etils import epath

from genax.running.checksums import damage

# Settings that make a run last seconds, with several checkpoints.
TINY = {
    "tests/cli/toy.py": {"steps": 2000, "checkpoint_every": 250, "first_stage": 900},
    "experiments/vae/vae.py:digits": {
        "steps": 1200,
        "checkpoint_every": 200,
        "batch_size": 32,
        "hidden": "(16,)",
        "importance_samples": 2,
    },
    "experiments/transformer/gpt.py:stdlib": {
        "steps": 240,
        "checkpoint_every": 40,
        "batch_size": 8,
        "hidden_size": 16,
        "num_layers": 1,
        "context": 16,
        "evaluation_windows": 8,
        "eval_batch_size": 8,
    },
    "experiments/diffusion/ddpm.py:digits": {
        "steps": 60,
        "checkpoint_every": 12,
        "batch_size": 8,
        "unet.channels": 8,
        "unet.multipliers": "(1,)",
        "unet.num_groups": 4,
        "unet.attention_resolutions": "(8,)",
        "test_split": "",
        "num_timesteps": 20,
        "ddim_steps": 2,
    },
    "experiments/gan/dcgan.py:digits": {
        "steps": 160,
        "checkpoint_every": 32,
        "batch_size": 8,
        "width": 4,
        "coverage_samples": 0,
    },
    "experiments/transformer/t5.py:smoke": {"steps": 120, "checkpoint_every": 20, "evaluated": 4},
}
# What a run makes of its data before it compiles.
PREPARED = {"experiments/transformer/t5.py:smoke": "tokenizer.json"}
QUIET = {"log_every": 10, "sample_every": 0, "eval_every": 0, "num_samples": 4}
MOST = 6  # kills in one run
PATIENCE = 300  # seconds


@dataclass
class Tally:
    """What has happened so far."""

    kills: Counter = field(default_factory=Counter)
    unsealed: int = 0
    failures: list[str] = field(default_factory=list)


def start(experiment: str, workdir: Path, cached: bool) -> subprocess.Popen:
    settings = QUIET | TINY[experiment] | {"compile_cache": str(cached).lower()}
    texts = [f"--config.{name}={value}" for name, value in settings.items()]
    command = [sys.executable, "-m", "genax", "train", experiment, "--workdir", str(workdir)]
    # A file, as a pipe that nobody reads would stop it.
    with (workdir.parent / f"{workdir.name}.log").open("w") as log:
        return subprocess.Popen([*command, *texts], stdout=log, stderr=subprocess.STDOUT)


def said(workdir: Path) -> str:
    return (workdir.parent / f"{workdir.name}.log").read_text(errors="replace")


def names(workdir: Path) -> list[str]:
    folder = workdir / "checkpoints"
    return os.listdir(folder) if folder.exists() else []


def newest(workdir: Path) -> int:
    """Step of the newest finished checkpoint; -1 where there is none."""
    return max((int(name) for name in names(workdir) if name.isdigit()), default=-1)


def saving(workdir: Path) -> bool:
    return any("orbax-checkpoint-tmp" in name for name in names(workdir))


def moment(experiment: str, workdir: Path) -> str:
    """What a run is at."""
    text = said(workdir)
    if saving(workdir):
        return "saving"
    if "compiled in" in text:
        return "training"
    if not (workdir / "run.json").exists():
        return "starting"
    prepared = workdir / PREPARED.get(experiment, "run.json")
    return "compiling" if prepared.exists() else "preparing"


def digest(workdir: Path) -> str:
    command = [sys.executable, "-m", "genax", "inspect", str(workdir), "--json"]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(found.stdout.splitlines()[-1])["digest"]


def whole(experiment: str, workdir: Path) -> tuple[str, float]:
    """Digest and seconds of the run that is left alone."""
    began = time.monotonic()
    if start(experiment, workdir, cached=True).wait(PATIENCE):
        raise SystemExit(f"{experiment} does not train: {said(workdir)[-2000:]}")
    seconds = time.monotonic() - began
    return digest(workdir), seconds


def kill(process: subprocess.Popen, experiment, workdir: Path, rng: random.Random, seconds: float):
    """A signal at a random moment: (its name, the moment, the newest checkpoint before it).

    None where the run had ended by then.
    """
    moments = ["any", "any", "training", "training", "saving"]
    if experiment in PREPARED and not (workdir / PREPARED[experiment]).exists():
        moments = ["any", "preparing", "preparing"]
    at, before = rng.choice(moments), newest(workdir)
    deadline = time.monotonic() + rng.uniform(0, seconds)
    if at == "training":
        while process.poll() is None and "compiled in" not in said(workdir):
            time.sleep(0.001)
        deadline = time.monotonic() + rng.uniform(0, seconds / 3)
    elif at == "preparing":
        while process.poll() is None and moment(experiment, workdir) == "starting":
            time.sleep(0.001)
        deadline = time.monotonic() + rng.uniform(0, 2)
    elif at == "saving":
        saves = rng.randint(1, 4)
        while process.poll() is None and saves:
            if saving(workdir) and newest(workdir) >= before:
                saves, before = saves - 1, newest(workdir) + 1
            time.sleep(0.001)
        deadline = time.monotonic() + rng.uniform(0, 0.1)
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    number = rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
    at, finished = moment(experiment, workdir), newest(workdir)
    if process.poll() is not None:
        return None
    process.send_signal(number)
    return number, at, finished


def check(process, experiment: str, workdir: Path, number: int, at: str, finished: int) -> list:
    """What is wrong after a kill, a line each."""
    code, wrong = process.wait(PATIENCE), []
    expected = (-number,) if number == signal.SIGKILL else (-number, 128 + number, 0)
    if code not in expected:
        wrong.append(f"ended with {code}: {said(workdir)[-500:]}")
    now = newest(workdir)
    over = now == TINY[experiment]["steps"]  # saved already, and on its way out
    if number == signal.SIGTERM and code == -number and at == "training" and not over:
        wrong.append("a signal to terminate did not save")
    if now < finished:
        wrong.append(f"checkpoint {finished} was there before and is gone; {now} is the newest")
    if now >= 0:
        wrong += damage(epath.Path(workdir / "checkpoints" / str(now)))
    return wrong


def play(experiment: str, workdir: Path, rng: random.Random, left: int, seconds: float, tally):
    """One run, killed some times and then left to its end."""
    cached, kept, turns = rng.random() < 0.7, -1, min(left, rng.randint(2, MOST))
    while True:
        process = start(experiment, workdir, cached)
        killed = kill(process, experiment, workdir, rng, seconds) if turns else None
        turns -= 1
        if killed is None:
            if process.wait(PATIENCE):
                tally.failures.append(f"{experiment}: {said(workdir)[-1000:]}")
            resumed(experiment, workdir, kept, tally)
            return
        number, at, finished = killed
        tally.kills[signal.Signals(number).name, at] += 1
        for line in check(process, experiment, workdir, number, at, finished):
            tally.failures.append(f"{experiment}, {signal.Signals(number).name} while {at}: {line}")
        if "compiled in" in said(workdir):
            resumed(experiment, workdir, kept, tally)
        kept = newest(workdir)
        seals = list((workdir / "checkpoints" / str(kept)).glob("checksums.*"))
        tally.unsealed += kept >= 0 and not seals


def resumed(experiment: str, workdir: Path, kept: int, tally: Tally) -> None:
    """The start that is over went on from the newest checkpoint there was."""
    if kept >= 0 and f"resuming at step {kept}\n" not in said(workdir).replace("\r", "\n"):
        tally.failures.append(f"{experiment}: did not resume at {kept}: {said(workdir)[-500:]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="experiments whose name holds this text")
    args = parser.parse_args()
    rng, tally, runs, began = random.Random(args.seed), Tally(), 0, time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        expected = {}
        chosen = [name for name in TINY if args.only in name]
        for number, experiment in enumerate(chosen):
            expected[experiment] = whole(experiment, Path(folder) / f"whole{number}")
            print(f"{experiment}: {expected[experiment][1]:.0f} s", flush=True)
        while (done := sum(tally.kills.values())) < args.kills:
            experiment, workdir = chosen[runs % len(chosen)], Path(folder) / f"run{runs}"
            wanted, seconds = expected[experiment]
            play(experiment, workdir, rng, args.kills - done, seconds, tally)
            runs += 1
            if digest(workdir) != wanted:
                tally.failures.append(f"{experiment}: another digest than the run left alone")
            print(f"{sum(tally.kills.values())} kills, {len(tally.failures)} failures", flush=True)
    moments = ("starting", "preparing", "compiling", "training", "saving")
    print(f"\n{'':<10}" + "".join(f"{at:>11}" for at in moments))
    for name in ("SIGKILL", "SIGTERM"):
        print(f"{name:<10}" + "".join(f"{tally.kills[name, at]:>11}" for at in moments))
    print(
        f"{sum(tally.kills.values())} kills in {runs} runs, {time.monotonic() - began:.0f} s; "
        f"newest checkpoint not yet sealed after {tally.unsealed}; {len(tally.failures)} failures"
    )
    print("\n".join(tally.failures))
    sys.exit(bool(tally.failures))


if __name__ == "__main__":
    main()
