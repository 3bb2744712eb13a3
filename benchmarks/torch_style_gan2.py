"""StyleGAN2 in PyTorch for the benchmark of GANs: skip generator, residual discriminator.

A modulated convolution scales channels before and after one convolution for all images, as the
official PyTorch code does in training. Filters are convolutions of each channel by itself.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.gan.style_gan2_reference import FILTER, deviation, leaky, unit_moment

HALF = math.sqrt(0.5)


def filter_of(x: Tensor, gain: float) -> Tensor:
    """Return the filter (1, 3, 3, 1) for each channel."""
    return (gain * FILTER).expand(x.shape[1], 1, 4, 4)


def blurred(x: Tensor, padding: int, stride: int = 1, gain: float = 1.0) -> Tensor:
    """Return images after the filter, every so many-th pixel."""
    return F.conv2d(x, filter_of(x, gain), padding=padding, stride=stride, groups=x.shape[1])


def upsampled(x: Tensor) -> Tensor:
    """Return images of twice the resolution."""
    return F.conv_transpose2d(x, filter_of(x, 4.0), stride=2, padding=1, groups=x.shape[1])


class Dense(nn.Module):
    """Dense layer with an equalised learning rate, times a rate."""

    def __init__(self, inputs: int, features: int, bias: float = 0.0, rate: float = 1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(features, inputs) / rate)
        self.bias = nn.Parameter(torch.full((features,), bias))
        self.scale, self.rate = rate / math.sqrt(inputs), rate

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.scale, self.bias * self.rate)


class Conv(nn.Module):
    """Convolution with an equalised learning rate."""

    def __init__(self, channels: int, features: int, size: int = 3, bias: bool = True, stride=1):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(features, channels, size, size))
        self.bias = nn.Parameter(torch.zeros(features)) if bias else None
        self.scale, self.stride = 1 / math.sqrt(channels * size * size), stride
        self.padding = size // 2 if stride == 1 else 0

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.scale, self.bias, self.stride, self.padding)


class Modulated(nn.Module):
    """Modulated convolution."""

    def __init__(
        self,
        channels: int,
        features: int,
        style_size: int,
        size: int = 3,
        upsample: bool = False,
        demodulate: bool = True,
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(features, channels, size, size))
        self.scales = Dense(style_size, channels, bias=1.0)
        self.upsample, self.demodulate = upsample, demodulate

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        scales, weight = self.scales(style), self.weight
        if not self.demodulate:
            scales = scales / math.sqrt(weight[0].numel())
        x = x * scales[:, :, None, None]
        if self.upsample:
            x = blurred(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2), 1, gain=4.0)
        else:
            x = F.conv2d(x, weight, padding=weight.shape[-1] // 2)
        if not self.demodulate:
            return x
        squares = scales.square() @ weight.square().sum((2, 3)).T
        return x * (squares + 1e-8).rsqrt()[:, :, None, None]


class Layer(nn.Module):
    """Modulated convolution, noise, bias and leaky ReLU."""

    def __init__(self, channels: int, features: int, style_size: int, upsample: bool = False):
        super().__init__()
        self.conv = Modulated(channels, features, style_size, upsample=upsample)
        self.noise = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        x = self.conv(x, style)
        noise = torch.randn(len(x), 1, *x.shape[2:])
        return leaky(x + noise * self.noise + self.bias[:, None, None])


class ToImage(nn.Module):
    """Modulated 1x1 convolution to an image."""

    def __init__(self, channels: int, features: int, style_size: int):
        super().__init__()
        self.conv = Modulated(channels, features, style_size, 1, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        return self.conv(x, style) + self.bias[:, None, None]


class Generator(nn.Module):
    """Mapping network and skip synthesis.

    widths: channels of the layers by their resolution, from 4 on.
    """

    def __init__(
        self, widths: dict[int, int], channels: int, latent: int, style_size: int, layers: int
    ):
        super().__init__()
        sizes = [latent, *[style_size] * layers]
        self.mapping = nn.ModuleList(Dense(inputs, style_size, rate=0.01) for inputs in sizes[:-1])
        self.constant = nn.Parameter(torch.randn(1, widths[4], 4, 4))
        before = [widths[4], *widths.values()]
        pairs = list(zip(before, widths.values(), strict=False))
        self.up = nn.ModuleList(Layer(*pair, style_size, upsample=True) for pair in pairs[1:])
        self.layers = nn.ModuleList(Layer(wide, wide, style_size) for _, wide in pairs)
        self.images = nn.ModuleList(ToImage(wide, channels, style_size) for _, wide in pairs)
        self.register_buffer("mean_style", torch.zeros(style_size))

    def mapped(self, z: Tensor) -> Tensor:
        """Return styles of latents."""
        x = unit_moment(z)
        for dense in self.mapping:
            x = leaky(dense(x))
        return x

    def styles(self, z: Tensor, second: Tensor, crossover: Tensor) -> Tensor:
        """Return a style for each layer, of two latents; the mean style moves."""
        style = self.mapped(z)
        with torch.no_grad():
            self.mean_style.copy_(style.mean(0).lerp(self.mean_style, 0.995))
        layers = torch.arange(2 * len(self.layers))
        first = (layers < crossover[:, None])[..., None]
        return torch.where(first, style[:, None], self.mapped(second)[:, None])

    def forward(self, styles: Tensor) -> Tensor:
        """Return images of styles."""
        constant = self.constant.expand(len(styles), -1, -1, -1)
        x = constant.contiguous(memory_format=torch.channels_last)
        x = self.layers[0](x, styles[:, 0])
        image = self.images[0](x, styles[:, 1])
        for number, (up, layer, to_image) in enumerate(
            zip(self.up, self.layers[1:], self.images[1:], strict=True)
        ):
            x = up(x, styles[:, 2 * number + 1])
            x = layer(x, styles[:, 2 * number + 2])
            image = upsampled(image) + to_image(x, styles[:, 2 * number + 3])
        return image


class Block(nn.Module):
    """Residual block that halves the resolution."""

    def __init__(self, channels: int, features: int):
        super().__init__()
        self.conv = Conv(channels, channels)
        self.down = Conv(channels, features, stride=2)
        self.shortcut = Conv(channels, features, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = leaky(self.down(blurred(leaky(self.conv(x)), 2)), HALF)
        return y + self.shortcut(blurred(x, 1, stride=2)) * HALF


class Discriminator(nn.Module):
    """Residual discriminator.

    widths: see `Generator`.
    """

    def __init__(self, widths: dict[int, int], channels: int, group: int):
        super().__init__()
        wide = list(widths.values())[::-1]
        self.image = Conv(channels, wide[0], 1)
        self.blocks = nn.Sequential(*[Block(*pair) for pair in pairwise(wide)])
        self.last = Conv(wide[-1] + 1, wide[-1])
        self.features, self.score = Dense(16 * wide[-1], wide[-1]), Dense(wide[-1], 1)
        self.group = group

    def forward(self, image: Tensor) -> Tensor:
        x = self.blocks(leaky(self.image(image)))
        x = leaky(self.last(deviation(x, self.group)))
        return self.score(leaky(self.features(x.flatten(1))))[:, 0]
