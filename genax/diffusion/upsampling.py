"""Upsampling: a denoiser that gets a smaller copy of the image as a condition."""

from __future__ import annotations

import flax.linen as nn

from genax.core.errors import GenaxError
from genax.nn.conditions import Condition


def with_smaller_image(condition: Condition, factor: int) -> Condition:
    """Return the condition with the batch's images, made smaller, as "low_resolution".

    `UpsamplingUNet` takes it. A pixel is the mean of factor x factor pixels, as in the code of
    Dhariwal & Nichol 2021. Samplers get the images that are to be made smaller in their batch.
    """

    def given(nets: nn.Module, batch):
        image = batch["image"]
        b, h, w, c = image.shape
        if h % factor or w % factor:
            raise GenaxError(
                f"images of {h}x{w} cannot be made {factor} times smaller; choose a factor that "
                "divides both sides."
            )
        blocks = image.reshape(b, h // factor, factor, w // factor, factor, c)
        return {**condition(nets, batch), "low_resolution": blocks.mean((2, 4))}

    return given
