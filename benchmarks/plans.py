"""What the TPU's compiler plans for a step, before it writes the instructions.

Memory and collectives are planned when a program is optimised. Most of the compiler's time goes to
the instructions, which the estimate is made of.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from genax.ahead.chips import chip_of
from genax.ahead.costs import costs
from genax.ahead.programs import topology
from genax.cli.compile import model_flops
from genax.front.experiments import Definition
from genax.running.flops import step_flops

# Files that the compiler writes of a program that it has planned, one after the other. The last one
# is also written of the program before it is optimised.
BUFFERS = "after_optimizations-buffer-assignment.txt"
REPORT = "after_optimizations-memory-usage-report.txt"
PROGRAM = "after_optimizations_after_buffer_assignment.txt"
LAST = "debug_options"


def planned(name: str, loaded: Definition, config: ConfigDict, stage: int) -> dict[str, Any]:
    """Facts as `genax compile --json` prints them, without what it knows from instructions."""
    here = loaded.run(config, "")
    there = loaded.run(config, "", topology(config.parallel.topology))
    [kind] = {device.device_kind for device in there.strategy.mesh.devices.flat}
    chip = chip_of(kind)
    shapes = here.shapes(stage), here.abstract_batch(stage)
    return {
        "mesh": dict(there.strategy.mesh.shape),
        "batch_size": there.batch_size(stage),
        "accumulate": config.accumulate,
        "memory_there": chip and chip.memory,
        "flops": step_flops(here.task, stage, *shapes),
        "model_flops": model_flops(loaded, config, stage),
        **_dumped(name, stage),
    }


def _dumped(name: str, stage: int) -> dict[str, Any]:
    """Bytes of a device's memory and of its collectives.

    Raises RuntimeError if `genax compile` ended before it had a plan.
    """
    with tempfile.TemporaryDirectory() as folder:
        flags = f"--xla_dump_to={folder} --xla_dump_hlo_as_text --xla_dump_disable_metadata=true"
        command = [sys.executable, "-m", "genax", "compile", name, "--stage", str(stage)]
        env = os.environ | {"XLA_FLAGS": f"{flags} --xla_dump_hlo_module_re=split_step"}
        with subprocess.Popen(command, env=env) as child:
            while not (files := _files(Path(folder))):
                if child.poll() is not None:
                    raise RuntimeError(f"{' '.join(command[2:])} ended without a plan.")
                time.sleep(1)
            child.kill()
        buffers, report, program = (path.read_text() for path in files)
    parameters = re.findall(r"^allocation \d+: size (\d+), parameter \d+", buffers, re.M)
    [total] = re.findall(r"^Memory Space: default.*\nTotal bytes: (\d+)", report, re.M)
    arguments = sum(map(int, parameters))
    return {
        "memory": {"arguments": arguments, "temporaries": int(total) - arguments},
        "collectives": {
            kind: {"count": count, "bytes": size}
            for kind, (count, size) in costs(program).collectives.items()
        },
    }


def _files(folder: Path) -> list[Path]:
    """The files of the planned program, once they are whole."""
    for program in folder.glob(f"*.{PROGRAM}"):
        stem = program.name.removesuffix(PROGRAM)
        if (folder / f"{stem}{LAST}").exists():
            return [folder / f"{stem}{name}" for name in (BUFFERS, REPORT, PROGRAM)]
    return []
