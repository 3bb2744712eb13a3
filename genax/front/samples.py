"""Samples of a run: arrays, what shows them, and the file that they are saved in."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from etils import epath
from PIL import Image

from genax.core.errors import GenaxError
from genax.core.task import Rendered, Sampler
from genax.running.sampling import write_sample
from genax.settings.config import RANGES
from genax.settings.ranges import COUNT

TEXTS = (".txt", ".md")


@dataclass(frozen=True)
class Samples:
    """Samples that a run drew.

    arrays: one row per sample, as the sampler's function returns them.
    rendered: what shows them, as the sampler's `render` returns it: a PIL image, a text, or a
      `Rendered`. A notebook shows it by itself.
    batch: what they were drawn from: "index", and their conditions.
    step: of the checkpoint.
    place: of their file in the run's folder, without its ending.
    """

    arrays: Any
    rendered: Any
    batch: Mapping[str, Any] = field(repr=False)
    step: int
    place: epath.Path

    def save(self, path: epath.PathLike | None = None) -> epath.Path:
        """Write what shows the samples to a file, and return its path.

        path: None is one in the run's folder. Without an ending it gets that of what is drawn.
        Raises GenaxError for an ending of another kind of file, or a file that can't be written.
        """
        if path is None:
            return write_sample(self.rendered, self.place)
        if "://" in str(path):
            return write_sample(self.rendered, epath.Path(path))
        out = Path(path)
        check_place(out)
        if not out.suffix:
            return write_sample(self.rendered, epath.Path(out))
        if not _fits(self.rendered, out.suffix.lower()):
            kept = write_sample(self.rendered, self.place)
            raise GenaxError(
                f"{out}: the sampler draws no {out.suffix} but {kept.suffix}; the samples are in "
                f"{kept}."
            )
        if isinstance(self.rendered, str):
            out.write_text(self.rendered)
        elif isinstance(self.rendered, Rendered):
            out.write_bytes(self.rendered.content)
        else:
            self.rendered.save(out)
        return epath.Path(out)

    def __repr__(self) -> str:
        if isinstance(self.rendered, str):
            return self.rendered
        if isinstance(self.rendered, Rendered):
            shown = f"{self.rendered.suffix} of {len(self.rendered.content):,} bytes"
        else:
            shown = "picture of {} x {} pixels".format(*self.rendered.size)
        return f"<{len(self.batch['index'])} samples of step {self.step}: {shown}; save(path)>"

    def _repr_png_(self) -> bytes | None:
        """Return the picture, for notebooks."""
        if isinstance(self.rendered, Rendered):
            return self.rendered.content if self.rendered.suffix.lower() == ".png" else None
        if isinstance(self.rendered, str):
            return None
        content = io.BytesIO()
        self.rendered.save(content, format="PNG")
        return content.getvalue()


def check_asked(
    name: str,
    sampler: Sampler,
    num: int | None,
    seed: int,
    prompt: str | None,
    option: str = "",
) -> None:
    """Raise GenaxError for samples that cannot be drawn.

    name: of the sampler.
    num: None is a number that is known to be right.
    option: what stands before the names of arguments where a user gives them.
    """
    for what, value, allowed in (("num", num, COUNT), ("seed", seed, RANGES["seed"])):
        if value is not None and value not in allowed:
            raise GenaxError(f"{option}{what} {value} must be {allowed}.")
    if prompt is not None and sampler.prompt is None:
        raise GenaxError(f"the sampler {name!r} takes no {option}prompt.")
    if prompt is not None and any("\ud800" <= character <= "\udfff" for character in prompt):
        raise GenaxError(f"{option}prompt is no UTF-8 text.")


def check_ending(out: Path, sampler: Sampler) -> None:
    """Raise GenaxError if a file's name is not one for what a sampler is known to draw."""
    ending, text = out.suffix.lower(), sampler.text
    names_text = ending in TEXTS
    if not ending or text is None:
        return
    if not (names_text or _is_picture(ending)):
        raise GenaxError(f"{out}: {ending} is no ending of a picture, such as .png, or text, .txt.")
    if text != names_text:
        drawn, wanted = ("text", ".txt") if text else ("a picture", ".png")
        raise GenaxError(f"{out}: the sampler draws {drawn}; name a file that ends in {wanted}.")


def check_place(out: Path) -> None:
    """Raise GenaxError if a file cannot be written where it is to be; makes its folder."""
    if out.is_dir():
        raise GenaxError(f"{out} is a folder; name a file, such as {out / 'samples'}.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise GenaxError(f"{out} can't be written: {error.strerror}.") from None


def _fits(rendered: Any, ending: str) -> bool:
    """Whether a file with this ending may hold what a sampler renders."""
    if isinstance(rendered, Rendered):
        return ending == rendered.suffix.lower()
    return ending in TEXTS if isinstance(rendered, str) else _is_picture(ending)


def _is_picture(ending: str) -> bool:
    """Whether Pillow can write files with this ending."""
    kind = Image.registered_extensions().get(ending)
    if kind not in Image.SAVE:
        return False
    try:
        Image.new("RGB", (1, 1)).save(io.BytesIO(), kind)
    except (OSError, ValueError):  # a format whose library is missing, or that holds no such image
        return False
    return True
