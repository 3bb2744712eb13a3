"""Where a run writes: progress bar, JSON Lines, TensorBoard, and Weights & Biases if asked."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath
from tqdm import tqdm

from genax.core.errors import GenaxError
from genax.core.record import write_text

# In an object store the log is so much behind at most; a checkpoint brings it up to date.
COPY_SECONDS = 60


class Logger:
    """Writers of one run; a resumed run continues its files after `step`."""

    def __init__(self, workdir: epath.Path, step: int, total: int, wandb: str = "", config=None):
        """wandb: name of a Weights & Biases project, or "" for none."""
        # Takes seconds where PyTorch is installed, so only a run that logs waits for it.
        from tensorboardX import SummaryWriter

        # Nothing is appended in an object store: the files grow here and are copied there.
        self._store = workdir if "://" in str(workdir) else None
        self._here = epath.Path(tempfile.mkdtemp(prefix="genax-")) if self._store else workdir
        self._copied = time.monotonic()
        path = workdir / "metrics.jsonl"
        # Whether the log has the scores of the restored step.
        self.scored = False
        if path.exists():
            # What was logged after the restored step is going to be computed again.
            lines = path.read_text().splitlines(keepends=True)
            kept = [line for line in lines if _stays(line, step, total)]
            write_text(self._here / path.name, "".join(kept))
            self.scored = any(_is_score(json.loads(line), step) for line in kept)
        self._file = (self._here / path.name).open("a")
        self._folder = self._here / "tensorboard"
        self._board = SummaryWriter(str(self._folder), purge_step=step + 1, max_queue=1000)
        self._board_thread = self._board.file_writer.event_writer._worker
        self._wandb = _wandb(wandb, self._here, config) if wandb else None
        self._bar = tqdm(
            total=total, initial=step, unit="step", dynamic_ncols=True, mininterval=1.0
        )

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """One line for a step."""
        self._file.write(json.dumps({"step": step} | {k: _json(v) for k, v in values.items()}))
        self._file.write("\n")
        self._file.flush()
        self._check_board()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)
        if self._store and time.monotonic() - self._copied > COPY_SECONDS:
            self.flush()
        if self._wandb:
            self._wandb.log(dict(values), step=step)

    def sample(self, step: int, name: str, rendered: Any) -> None:
        """A picture or a text."""
        self._check_board()
        if isinstance(rendered, str):
            self._board.add_text(name, rendered, step)
        else:
            pixels = np.asarray(rendered.convert("RGB"))
            self._board.add_image(name, pixels, step, dataformats="HWC")

    def _check_board(self) -> None:
        # Its thread ends at an error; what is given to it then fills its queue, and waits for ever.
        if not self._board_thread.is_alive():
            raise GenaxError(
                f"nothing more can be written to {self._folder} (the error is above); make room or "
                "fix the folder, then run the same command."
            )

    def progress(self, step: int, shown: Mapping[str, float]) -> None:
        """Move the bar."""
        self._bar.set_postfix({k: f"{v:.4g}" for k, v in shown.items()}, refresh=False)
        self._bar.update(step - self._bar.n)

    def say(self, line: str) -> None:
        """A line above the bar."""
        self._bar.write(line)

    def flush(self) -> None:
        """Leave nothing that a killed process would lose."""
        self._board.flush()
        self._copy()

    def _copy(self) -> None:
        if self._store is None:
            return
        self._copied = time.monotonic()
        for path in (self._here / "metrics.jsonl", *self._folder.iterdir()):
            target = self._store / path.relative_to(self._here)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())

    def close(self) -> None:
        """Flush everything, the rest also where one fails."""
        with contextlib.ExitStack() as last_first:
            if self._store:
                last_first.callback(self._here.rmtree)
            if self._wandb:
                last_first.callback(self._wandb.finish)
            last_first.callback(self._copy)
            last_first.callback(self._board.close)
            last_first.callback(self._file.close)
            last_first.callback(self._bar.close)


class NoLogger:
    """For the processes that leave writing to the first."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None


def _stays(line: str, step: int, total: int) -> bool:
    try:
        values = json.loads(line)
    except ValueError:
        return False  # half a line, left by a killed process
    # The end of a run is scored again, however often it is reached.
    return values["step"] <= step and not _is_score(values, total)


def _is_score(values: Mapping[str, Any], step: int) -> bool:
    return values["step"] == step and any(name.startswith("eval/") for name in values)


def _json(value: Any) -> Any:
    value = float(value)
    return value if np.isfinite(value) else str(value)


def _wandb(project: str, workdir: epath.Path, config: Any) -> Any:
    try:
        import wandb
    except ImportError as error:
        raise GenaxError(
            'config.wandb needs the package wandb: pip install "genax[wandb]".'
        ) from error
    return wandb.init(project=project, dir=str(workdir), config=config, resume="allow")
