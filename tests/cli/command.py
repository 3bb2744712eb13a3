"""The command `genax` as a test calls it: in this process, or in processes of its own."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from genax.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
TOY = str(Path(__file__).with_name("toy.py"))
# Simulated devices of this process (see tests/conftest.py), and so of what it is compared with.
DEVICES = 4
PATIENCE = 240  # seconds


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict:
        """The object on the last line of standard output."""
        return json.loads(self.out.splitlines()[-1])

    def refusal(self) -> str:
        """The one line of a refusal."""
        lines = [line for line in self.err.splitlines() if line.startswith("genax: ")]
        assert self.code not in (0, None), self.out + self.err
        assert "Traceback" not in self.err, self.err
        assert len(lines) == 1, self.err
        return lines[0]


def call(*arguments: object) -> Result:
    """Run `genax` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as leaving:  # argparse, after --help or a wrong argument
            code = leaving.code
    return Result(code, out.getvalue(), err.getvalue())


def succeed(*arguments: object) -> Result:
    """Run `genax` in this process; it must end well."""
    result = call(*arguments)
    assert result.code == 0, result.out + result.err
    return result


def train(experiment: str, workdir: Path, *arguments: str, **settings: object) -> tuple:
    """Arguments of `genax train`; settings as keywords, with "__" for a dot."""
    texts = [f"--config.{key.replace('__', '.')}={value}" for key, value in settings.items()]
    return ("train", experiment, "--workdir", workdir, *arguments, *texts)


def inspect(workdir: Path, *arguments: object) -> dict:
    """What `genax inspect --json` prints."""
    return succeed("inspect", workdir, "--json", *arguments).json


def start(*arguments: object, devices: int = DEVICES, **options) -> subprocess.Popen:
    """Start `genax` in a process of its own, on simulated devices; its output goes to pipes."""
    command = [sys.executable, "-m", "genax", *map(str, arguments)]
    return start_python(command, devices, **options)


def start_python(command: list[str], devices: int = DEVICES, **options) -> subprocess.Popen:
    """Start a Python process that finds genax and these devices."""
    others = re.sub(
        r"--xla_force_host_platform_device_count=\d+", "", os.environ.get("XLA_FLAGS", "")
    )
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": f"{others} --xla_force_host_platform_device_count={devices}".strip(),
    }
    return subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def finish(process: subprocess.Popen) -> Result:
    """Wait for a process to end."""
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"the process did not end by itself:\n{out}\n{err}") from None
    return Result(process.returncode, out, err)


def steps_logged(workdir: Path) -> list[int]:
    """Steps of the training lines in metrics.jsonl, in the order of the file."""
    return [line["step"] for line in metrics(workdir) if any(k.endswith("/loss") for k in line)]


def timeless(line: dict) -> dict:
    """A line of metrics.jsonl without what is measured by the clock."""
    clock = ("steps_per_second", "utilisation", "time/")
    return {name: value for name, value in line.items() if not name.startswith(clock)}


def metrics(workdir: Path) -> list[dict]:
    """The whole lines of metrics.jsonl."""
    path = workdir / "metrics.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def wait_for(condition, process: subprocess.Popen, what: str) -> None:
    """Poll until condition() is true of a running process."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if process.poll() is not None:
            result = finish(process)
            raise AssertionError(f"ended ({result.code}) before {what}:\n{result.out}{result.err}")
        if time.monotonic() > deadline:
            process.kill()
            raise AssertionError(f"never came to {what}: {finish(process)}")
        time.sleep(0.002)


def reached(workdir: Path, step: int):
    """A condition: the run has a checkpoint and has logged `step` or a later one."""

    def condition() -> bool:
        checkpoints = workdir / "checkpoints"
        saved = checkpoints.exists() and any(path.name.isdigit() for path in checkpoints.iterdir())
        return saved and max(steps_logged(workdir), default=-1) >= step

    return condition


def files(folder: Path) -> dict[str, bytes]:
    """Content by relative path of everything below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]
