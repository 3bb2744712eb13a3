"""Charts of lines and points, drawn without a plotting library."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float, Int
from PIL import Image, ImageDraw, ImageFont

# Colours that differ in hue and in lightness, for lines and classes by turns.
COLOURS = (
    *("#1f77b4", "#d62728", "#2ca02c", "#ff7f0e", "#9467bd"),
    *("#17becf", "#e377c2", "#7f7f7f", "#bcbd22", "#8c564b"),
)
SIDE, MARGIN = 420, 56
_DOT = 2.5


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    name: for the legend.
    """

    name: str
    x: Float[np.ndarray, " n"]
    y: Float[np.ndarray, " n"]


@dataclass(frozen=True)
class Panel:
    """One chart: its axes, and what is drawn between them.

    x_name, y_name: below and beside the axes.
    x_ends, y_ends: the least and the largest number of an axis.
    """

    x_name: str
    y_name: str
    x_ends: tuple[float, float]
    y_ends: tuple[float, float]
    title: str = ""
    lines: Sequence[Line] = ()
    points: Float[np.ndarray, "n 2"] = field(default_factory=lambda: np.zeros((0, 2)))
    classes: Int[np.ndarray, " n"] = field(default_factory=lambda: np.zeros(0, np.int32))
    names: Sequence[str] = ()


@dataclass(frozen=True)
class Chart:
    """Panels side by side."""

    panels: tuple[Panel, ...]

    def beside(self, other: Chart) -> Chart:
        """Return both charts in one picture."""
        return Chart(self.panels + other.panels)

    def drawn(self) -> Image.Image:
        """Return the picture."""
        wide = SIDE + 2 * MARGIN
        picture = Image.new("RGB", (wide * len(self.panels), wide), "white")
        for number, panel in enumerate(self.panels):
            _draw(ImageDraw.Draw(picture), panel, wide * number + MARGIN, MARGIN)
        return picture


def line_chart(lines: Iterable[Line], x_name: str, y_name: str, title: str = "") -> Chart:
    """Return a chart of lines whose numbers are shares, from 0 to 1."""
    ends = (0.0, 1.0)
    return Chart((Panel(x_name, y_name, ends, ends, title, lines=tuple(lines)),))


def series_chart(lines: Sequence[Line], title: str = "") -> Chart:
    """Return a chart of lines over time, whose numbers may be any."""
    x, y = ([getattr(line, axis) for line in lines] for axis in "xy")
    x_ends, y_ends = (_rounded_ends(np.concatenate(values)) for values in (x, y))
    return Chart((Panel("time", "", x_ends, y_ends, title, lines=tuple(lines)),))


def point_chart(
    points: Float[np.ndarray, "n 2"],
    classes: Int[np.ndarray, " n"],
    x_name: str,
    y_name: str,
    names: Sequence[str] = (),
    title: str = "",
) -> Chart:
    """Return a chart of points, coloured by their classes.

    classes: whole numbers from 0. A negative one is black.
    names: of the classes, for the legend.
    """
    x_ends, y_ends = (_rounded_ends(points[:, axis]) for axis in range(2))
    panel = Panel(x_name, y_name, x_ends, y_ends, title, names=tuple(names))
    return Chart((replace(panel, points=np.asarray(points), classes=np.asarray(classes)),))


def _rounded_ends(values: np.ndarray) -> tuple[float, float]:
    """Return ends beyond the values, whole numbers of a step of their range."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    step = 10 ** math.floor(math.log10(max(high - low, 1e-6))) / 2
    low, high = math.floor(low / step) * step, math.ceil(high / step) * step
    return low, max(high, low + step)


def _draw(draw: ImageDraw.ImageDraw, panel: Panel, left: int, top: int) -> None:
    font = ImageFont.load_default(12)

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - panel.x_ends[0]) / (panel.x_ends[1] - panel.x_ends[0])
        up = (y - panel.y_ends[0]) / (panel.y_ends[1] - panel.y_ends[0])
        return left + across * SIDE, top + (1 - up) * SIDE

    draw.rectangle((left, top, left + SIDE, top + SIDE), outline="black")
    for share in np.linspace(0, 1, 5):
        x, y = (low + share * (high - low) for low, high in (panel.x_ends, panel.y_ends))
        across, up = place(x, y)
        draw.line((across, top + SIDE, across, top + SIDE + 4), fill="black")
        draw.line((left - 4, up, left, up), fill="black")
        draw.text((across, top + SIDE + 6), f"{x:.3g}", "black", font, anchor="mt")
        draw.text((left - 6, up), f"{y:.3g}", "black", font, anchor="rm")
    draw.text((left + SIDE / 2, top + SIDE + 30), panel.x_name, "black", font, anchor="mm")
    draw.text((left, top - 14), panel.y_name, "black", font, anchor="lm")
    draw.text((left + SIDE, top - 14), panel.title, "black", font, anchor="rm")
    for number, line in enumerate(panel.lines):
        places = [place(x, y) for x, y in zip(line.x, line.y, strict=True)]
        draw.line(places, fill=COLOURS[number % len(COLOURS)], width=2)
    for (x, y), one in zip(panel.points, panel.classes, strict=True):
        if not (np.isfinite(x) and np.isfinite(y)):
            continue
        across, up = place(x, y)
        colour = COLOURS[one % len(COLOURS)] if one >= 0 else "black"
        draw.ellipse((across - _DOT, up - _DOT, across + _DOT, up + _DOT), fill=colour)
    names = [line.name for line in panel.lines] or list(panel.names)
    # Curves of a good detector leave the lower right corner free.
    for number, name in enumerate(reversed(names)):
        colour = COLOURS[(len(names) - 1 - number) % len(COLOURS)]
        at = (left + SIDE - 8, top + SIDE - 14 - 16 * number)
        box = draw.textbbox(at, name, font, anchor="rm")
        draw.rectangle((box[0] - 16, box[1] - 1, box[2] + 2, box[3] + 1), fill="white")
        draw.rectangle((box[0] - 14, at[1] - 4, box[0] - 6, at[1] + 4), fill=colour)
        draw.text(at, name, "black", font, anchor="rm")
