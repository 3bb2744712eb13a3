"""Images as rows of square patches, and back."""

from __future__ import annotations

from jaxtyping import Array, Float

from genax.core.errors import GenaxError


def patchify(images: Float[Array, "b h w c"], size: int) -> Float[Array, "b n p"]:
    """Cut images into square patches in reading order, each a row of size * size * c numbers.

    Raises GenaxError if the size does not divide the image.
    """
    b, h, w, c = images.shape
    if h % size or w % size:
        raise GenaxError(f"patches of {size} do not divide images of {h}x{w}; resize or crop them.")
    x = images.reshape(b, h // size, size, w // size, size, c).swapaxes(2, 3)
    return x.reshape(b, -1, size * size * c)


def unpatchify(
    rows: Float[Array, "b n p"], size: int, height: int, width: int
) -> Float[Array, "b h w c"]:
    """Put patches together again: the inverse of `patchify`.

    size: height (and width) of a patch.
    height, width: of the images, multiples of the size.
    """
    x = rows.reshape(len(rows), height // size, width // size, size, size, -1).swapaxes(2, 3)
    return x.reshape(len(rows), height, width, -1)
