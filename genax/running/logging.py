"""What a run writes to: progress bar, JSON Lines, TensorBoard, and Weights & Biases if asked."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath
from PIL import Image
from tqdm import tqdm

from genax.core.errors import GenaxError
from genax.core.task import Rendered
from genax.running.weights_and_biases import start_wandb, wandb_sample
from genax.settings.files import to_json, write_text

# In an object store the log is so much behind at most; a checkpoint brings it up to date.
COPY_SECONDS = 60


class Logger:
    """Writers of one run; a resumed run continues its files after `step`."""

    def __init__(self, workdir: epath.Path, step: int, total: int, wandb: str = "", config=None):
        """wandb: name of a Weights & Biases project, or "" for none."""
        # Takes seconds if PyTorch is installed, so only a run that logs waits for it.
        from tensorboardX import SummaryWriter

        # Nothing is appended in an object store: the files grow here and are copied there.
        self._store = workdir if "://" in str(workdir) else None
        self._here = epath.Path(tempfile.mkdtemp(prefix="genax-")) if self._store else workdir
        self._copied = time.monotonic()
        self._unseen: set[str] = set()
        self._wandb = start_wandb(wandb, workdir, self._here, config or {}) if wandb else None
        path = workdir / "metrics.jsonl"
        text = path.read_bytes().decode(errors="replace") if path.exists() else ""
        lines = text.splitlines(keepends=True)
        known = [(line, values) for line in lines if (values := _values(line)) is not None]
        # What was logged after the restored step is going to be computed again.
        kept = [(line, values) for line, values in known if _stays(values, step, total)]
        # Whether the log has the scores of the restored step.
        self.scored = any(_is_score(values, step) for _, values in kept)
        if lines:
            write_text(
                self._here / path.name, "".join(line.rstrip("\n") + "\n" for line, _ in kept)
            )
        self._file = (self._here / path.name).open("a")
        self._folder = self._here / "tensorboard"
        self._board = SummaryWriter(str(self._folder), purge_step=step + 1, max_queue=1000)
        self._board_thread = self._board.file_writer.event_writer._worker
        self._bar = tqdm(
            total=total, initial=step, unit="step", dynamic_ncols=True, mininterval=1.0
        )
        # A killed process leaves half a line at the end, without its line feed.
        for number, line in enumerate(lines, start=1):
            if _values(line) is None and line.endswith("\n"):
                self.say(f"left out of {path}: line {number} is no JSON object with a step")

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """One line for a step."""
        self._file.write(to_json({"step": step} | {k: _json(v) for k, v in values.items()}))
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
        """What a sampler renders; says so, once a sampler, if TensorBoard does not show it.

        Weights & Biases gets pictures and texts.
        """
        self._check_board()
        if self._wandb and not isinstance(rendered, Rendered):
            self._wandb.log({name: wandb_sample(rendered)}, step=step)
        if isinstance(rendered, Rendered):
            summary = _summary(name, rendered)
            if summary is not None:
                self._board.file_writer.add_summary(summary, step)
            elif name not in self._unseen:
                self._unseen.add(name)
                self.say(
                    f"{name} is not in TensorBoard, which shows no {rendered.suffix}; the files in "
                    "the run's folder show it."
                )
        elif isinstance(rendered, str):
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
        """Flush everything, the rest also if one fails."""
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
    """A Logger without effect, for the processes that leave writing to the first."""

    scored = False

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Nothing."""

    def sample(self, step: int, name: str, rendered: Any) -> None:
        """Nothing."""

    def progress(self, step: int, shown: Mapping[str, float]) -> None:
        """Nothing."""

    def say(self, line: str) -> None:
        """Nothing."""

    def flush(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def _summary(name: str, rendered: Rendered) -> Any:
    """A file as TensorBoard shows it; None if it does not."""
    from tensorboardX.proto.summary_pb2 import Summary

    suffix, content = rendered.suffix.lower(), rendered.content
    value: dict[str, Any]
    if suffix == ".wav":
        value = {"audio": Summary.Audio(encoded_audio_string=content, content_type="audio/wav")}
    elif suffix in (".gif", ".png", ".jpg", ".jpeg"):
        width, height = Image.open(io.BytesIO(content)).size
        size = {"width": width, "height": height, "colorspace": 3}
        value = {"image": Summary.Image(**size, encoded_image_string=content)}
    else:
        return None
    return Summary(value=[Summary.Value(tag=name, **value)])


def _values(line: str) -> dict[str, Any] | None:
    """What a line of the log holds; None if it is no JSON object with a step."""
    try:
        values = json.loads(line)
    except ValueError:
        return None
    known = isinstance(values, dict) and isinstance(values.get("step"), int)
    return values if known else None


def _stays(values: Mapping[str, Any], step: int, total: int) -> bool:
    # The end of a run is scored again, however often it is reached.
    return values["step"] <= step and not _is_score(values, total)


def _is_score(values: Mapping[str, Any], step: int) -> bool:
    return values["step"] == step and any(name.startswith("eval/") for name in values)


def _json(value: Any) -> Any:
    value = float(value)
    return value if np.isfinite(value) else str(value)
