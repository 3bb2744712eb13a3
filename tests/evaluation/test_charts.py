"""Charts: where lines and points are."""

from __future__ import annotations

import numpy as np
from PIL import ImageColor

from genax.evaluation.charts import COLOURS, MARGIN, SIDE, Line, line_chart, point_chart
from genax.evaluation.written import write_content


def colour_at(picture, x, y):
    """The colour at a place between the axes, as shares of them."""
    return picture.getpixel((round(MARGIN + x * SIDE), round(MARGIN + (1 - y) * SIDE)))


def test_lines_lie_where_their_numbers_say():
    corner = np.array([0.0, 0.0, 1.0])
    lines = [Line("one", corner, np.array([0.0, 0.75, 0.75])), Line("other", corner, corner / 2)]
    picture = line_chart(lines, "x", "y").drawn()
    first, second = map(ImageColor.getrgb, COLOURS[:2])
    assert colour_at(picture, 0.5, 0.75) == first
    assert colour_at(picture, 0.5, 0.25) == second
    assert colour_at(picture, 0.25, 0.5) == (255, 255, 255)
    wide = line_chart(lines, "x", "y").beside(line_chart(lines[1:], "x", "y")).drawn()
    assert wide.size == (2 * picture.size[0], picture.size[1])
    assert wide.crop((0, 0, *picture.size)).tobytes() == picture.tobytes()


def test_points_have_the_colours_of_their_classes():
    points = np.array([[0.0, -10.0], [4.0, 10.0], [2.0, 0.0], [np.nan, 0.0]])
    classes = np.array([0, 11, -1, 3])
    picture = point_chart(points, classes, "x", "y", names=("zero",)).drawn()
    assert colour_at(picture, 0, 0) == ImageColor.getrgb(COLOURS[0])
    assert colour_at(picture, 1, 1) == ImageColor.getrgb(COLOURS[1])
    assert colour_at(picture, 0.5, 0.5) == (0, 0, 0)
    # A single point, and points on a line, have ends too.
    point_chart(points[:1], classes[:1], "x", "y").drawn()


def test_a_file_takes_the_place_of_an_older_one(tmp_path):
    for content in (b"older", b"newer"):
        path = write_content(content, tmp_path / "run", "curve.bin")
    assert (tmp_path / "run" / "evaluation" / "curve.bin").read_bytes() == b"newer"
    assert path is not None
    assert write_content(b"", None, "curve.bin") is None
