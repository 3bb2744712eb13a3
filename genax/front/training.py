"""Training in a folder, and resuming it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from etils import epath

from genax.front.experiments import Definition, configure, definition_of
from genax.front.runs import OpenedRun
from genax.front.written import UnwrittenError, written
from genax.running.compilation import keep_programs
from genax.running.loop import Outcome
from genax.running.loop import train as play
from genax.running.record import read_run
from genax.running.run import Pretrained, Run
from genax.running.source import COPY
from genax.settings.flat import flat


def train(
    experiment: str | Path | Definition,
    workdir: epath.PathLike,
    config: Mapping[str, Any] | None = None,
    *,
    from_step: int | None = None,
    init_from: epath.PathLike | Pretrained | None = None,
) -> OpenedRun:
    """Train an experiment in a folder and return the run. The same call resumes it.

    experiment: the name of a file, "path/to/file.py:variant", or what `load` or `define` returned.
    config: changes of its settings, by dotted name or nested; or all of them.
    from_step: resume at this checkpoint and set later ones aside.
    init_from: a folder whose parameters a new run starts with, or what goes where by folder, such
      as {"runs/a": {"params/encoder": "params/text_encoder"}}.
    Raises GenaxError for what a user can put right. A signal (an interrupt of the kernel, SIGTERM)
    saves, and ends the call as it would end any other.
    """
    if isinstance(init_from, str | os.PathLike):
        init_from = {os.fspath(init_from): {"params": "params"}}
    run, outcome = begin(definition_of(experiment), workdir, config, from_step, init_from)
    if outcome.signal is not None:
        print(interrupted(outcome, "call"))
        if outcome.signal == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + outcome.signal)
    return OpenedRun(run, run.text is None)


def begin(
    definition: Definition,
    workdir: epath.PathLike,
    config: Mapping[str, Any] | None = None,
    from_step: int | None = None,
    init_from: Pretrained | None = None,
    began: float | None = None,
) -> tuple[Run, Outcome]:
    """Train to the end or to a signal; return the run and how it ended.

    began: when a user asked for it, by time.monotonic.
    """
    began = time.monotonic() if began is None else began
    settings = configure(definition, flat(config or {}), workdir)
    keep_programs(settings.compile_cache)
    run = _named_as_before(definition, workdir).run(settings, workdir)
    if run.text is None and run.primary:
        _say_unwritten(definition, workdir)
    return run, play(run, from_step, init_from, began)


def interrupted(outcome: Outcome, what: str) -> str:
    """Return the sentence that says where a signal ended a run. what: starts it again."""
    if not outcome.step:
        return f"interrupted before the first step; the same {what} starts it again."
    return f"interrupted: saved at step {outcome.step}; the same {what} resumes it."


def _named_as_before(definition: Definition, workdir: epath.PathLike) -> Definition:
    """Return the definition under the name of the file that it is the run's copy of."""
    copy = (epath.Path(workdir) / COPY).resolve()
    record = read_run(workdir) if str(definition.path) == str(copy) else None
    return definition if record is None else replace(definition, path=Path(record["experiment"]))


def _say_unwritten(definition: Definition, workdir: epath.PathLike) -> None:
    try:
        written(definition.module)
    except UnwrittenError as error:
        print(
            f"{workdir} keeps no copy of the experiment, as {error}; it is opened again with "
            "genax.open(WORKDIR, experiment)."
        )
