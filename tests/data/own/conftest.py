from __future__ import annotations

import numpy as np
import pytest
from PIL import Image


def colours(width: int, height: int, blue: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    planes = [x * 255 // width, y * 255 // height, np.full_like(x, blue)]
    return np.stack(planes, -1).astype(np.uint8)


@pytest.fixture
def pictures(tmp_path):
    """A folder of 60 pictures of two classes, in sizes from 8x8 to 16x16."""
    folder = tmp_path / "pictures"
    rng = np.random.default_rng(0)
    for number in range(60):
        label = ("cats", "dogs")[number % 2]
        (folder / label).mkdir(parents=True, exist_ok=True)
        width, height = rng.integers(8, 17, 2).tolist()
        Image.fromarray(colours(width, height, 4 * number)).save(
            folder / label / f"{number:02d}.png"
        )
    return folder


@pytest.fixture(autouse=True)
def _cache(cache):
    """No test writes into the user's own cache."""
