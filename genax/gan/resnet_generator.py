"""The residual generator of CycleGAN (Zhu et al. 2017, arXiv:1703.10593).

It is that of Johnson et al. 2016 (arXiv:1603.08155) with instance norm.
"""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from genax.core.errors import GenaxError
from genax.gan.dcgan import scaled_normal
from genax.nn.convolution import Conv
from genax.nn.instance_norm import instance_norm
from genax.nn.transposed_convolution import TransposedConv

Image = Float[Array, "b h w c"]


def reflected(x: Image, pixels: int) -> Float[Array, "b H W c"]:
    """Return x with so many pixels mirrored at each side; the outermost ones are not repeated."""
    return jnp.pad(x, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)), mode="reflect")


class ResNetGenerator(nn.Module):
    """Generator of residual blocks at a quarter of the resolution.

    In the paper's words: c7s1-64, d128, d256, R256 for each block, u128, u64, c7s1-3. Instance norm
    has no parameters, and convolutions keep the biases that it takes away, as in the official code.

    channels: of the images that are made.
    width: channels of the first layer.
    num_blocks: nine for images of 256x256, six for those of 128x128.
    """

    channels: int = 3
    width: int = 64
    num_blocks: int = 9
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: Image, train: bool = False) -> Float[Array, "b h w d"]:
        """Return images in [-1, 1], float32.

        Raises GenaxError for sides that cannot be halved twice, and for those below 8 pixels.
        """
        height, width = image.shape[1:3]
        if height % 4 or width % 4 or min(height, width) < 8:
            raise GenaxError(
                f"images of {height}x{width} cannot be halved twice and mirrored at their sides; "
                "choose sides that are multiples of 4, and at least 8."
            )
        conv = partial(Conv, padding="VALID", kernel_init=scaled_normal(0.0), dtype=self.dtype)

        def activated(x):
            return nn.relu(instance_norm(x))

        x = reflected(image.astype(self.dtype), 3)
        x = activated(conv(self.width, (7, 7), name="first")(x))
        for level in (1, 2):
            down = partial(conv, padding=((1, 1), (1, 1)), strides=(2, 2), name=f"down_{level}")
            x = activated(down(self.width * 2**level)(x))
        for number in range(self.num_blocks):
            block = partial(conv, x.shape[-1])
            y = activated(block(name=f"block_{number}_0")(reflected(x, 1)))
            y = instance_norm(block(name=f"block_{number}_1")(reflected(y, 1)))
            x = x + y
        for level in (1, 0):
            up = TransposedConv(
                self.width * 2**level, scaled_normal(0.0), self.dtype, 3, True, name=f"up_{level}"
            )
            x = activated(up(x))
        x = conv(self.channels, (7, 7), name="last")(reflected(x, 3))
        return jnp.tanh(x.astype(jnp.float32))
