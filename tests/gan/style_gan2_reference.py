"""StyleGAN2 in PyTorch, written for these tests from the formulas of the official code.

Functions of our parameters as tensors: kernels are [h, w, in, out], and images [b, c, h, w].
"""

from __future__ import annotations

import math

from tests.parity import require

[torch] = require("torch")
F = torch.nn.functional
FILTER = torch.outer(*[torch.tensor([1.0, 3.0, 3.0, 1.0])] * 2) / 64


def leaky(x, gain=1.0):
    return F.leaky_relu(x, 0.2) * math.sqrt(2) * gain


def unit_moment(x):
    return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()


def filtered(x, pad, up=1, down=1, gain=1.0):
    """Zeros between pixels, the filter, and every so many-th pixel."""
    b, c, h, w = x.shape
    x = x.reshape(b * c, 1, h, 1, w, 1)
    x = F.pad(x, [0, up - 1, 0, 0, 0, up - 1]).reshape(b * c, 1, h * up, w * up)
    before, after = pad
    x = F.pad(x, [before, after, before, after])
    return F.conv2d(x, gain * FILTER[None, None], stride=down).reshape(b, c, -1, *_width(x, down))


def _width(x, down):
    return ((x.shape[3] - 4) // down + 1,)


def upsampled(x):
    return filtered(x, (2, 1), up=2, gain=4.0)


def downsampled(x):
    return filtered(x, (1, 1), down=2)


def dense(p, x, rate=1.0):
    kernel = p["kernel"] * (rate / math.sqrt(p["kernel"].shape[0]))
    return x @ kernel + p["bias"] * rate


def conv(p, x, **how):
    kernel = p["kernel"].permute(3, 2, 0, 1)
    y = F.conv2d(x, kernel / math.sqrt(kernel[0].numel()), **how)
    return y + p["bias"][:, None, None] if "bias" in p else y


def modulated(p, x, style, up=False, demodulate=True):
    """One kernel for each image, as a convolution in groups."""
    scales = dense(p["scales"], style)
    weight = p["kernel"].permute(3, 2, 0, 1)
    features, channels, size, _ = weight.shape
    if not demodulate:
        scales = scales / math.sqrt(weight[0].numel())
    weight = weight[None] * scales[:, None, :, None, None]
    if demodulate:
        weight = weight * (weight.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    b, height = len(x), x.shape[2]
    x = x.reshape(1, -1, height, height)
    if up:
        weight = weight.transpose(1, 2).reshape(b * channels, features, size, size)
        y = F.conv_transpose2d(x, weight, stride=2, groups=b)
        return filtered(y.reshape(b, features, 2 * height + 1, -1), (1, 1), gain=4.0)
    y = F.conv2d(x, weight.reshape(-1, channels, size, size), padding=size // 2, groups=b)
    return y.reshape(b, features, height, height)


def mapping(p, z, label=None):
    x = None if z is None else unit_moment(z)
    if label is not None:
        y = unit_moment(dense(p["labels"], label))
        x = y if x is None else torch.cat([x, y], 1)
    for number in range(sum(name.startswith("layer") for name in p)):
        x = leaky(dense(p[f"layer_{number}"], x, rate=0.01))
    return x


def synthesis(p, styles, noise, architecture="skip"):
    """noise: of each layer, [b, 1, h, w]."""
    sizes = sorted(int(name.removeprefix("layer_")) for name in p if name.startswith("layer"))
    x = p["constant"].permute(2, 0, 1)[None].repeat(len(styles), 1, 1, 1)
    image, number = None, 0

    def layer(p, x, up=False, gain=1.0):
        nonlocal number
        x = modulated(p["conv"], x, styles[:, number], up) + noise[number] * p["noise"]
        number += 1
        return leaky(x + p["bias"][:, None, None], gain)

    for size in sizes:
        residual = architecture == "residual" and size > 4
        if residual:
            shortcut = upsampled(conv(p[f"shortcut_{size}"], x)) * math.sqrt(0.5)
        if size > 4:
            x = layer(p[f"upsample_{size}"], x, up=True)
        x = layer(p[f"layer_{size}"], x, gain=math.sqrt(0.5) if residual else 1.0)
        x = x + shortcut if residual else x
        if f"image_{size}" in p:
            last = p[f"image_{size}"]
            part = modulated(last["conv"], x, styles[:, number], demodulate=False)
            part = part + last["bias"][:, None, None]
            image = part if image is None else upsampled(image) + part
    return image


def deviation(x, group):
    """Groups by stride, as in the official code."""
    n, c, h, w = x.shape
    y = x.reshape(min(group, n), -1, 1, c, h, w)
    y = (y - y.mean(0)).square().mean(0)
    y = (y + 1e-8).sqrt().mean([2, 3, 4]).reshape(-1, 1, 1, 1)
    return torch.cat([x, y.repeat(min(group, n), 1, h, w)], 1)


def discriminator(p, image, label=None, architecture="residual", group=4):
    sizes = sorted(int(name.removeprefix("layer_")) for name in p if name.startswith("layer"))
    x = None
    for size in reversed(sizes):
        if f"image_{size}" in p:
            y = leaky(conv(p[f"image_{size}"], image))
            x = y if x is None else x + y
        if size == 4:
            break
        image = downsampled(image) if architecture == "skip" else image
        gain = math.sqrt(0.5) if architecture == "residual" else 1.0
        y = leaky(conv(p[f"layer_{size}"], x, padding=1))
        y = leaky(conv(p[f"downsample_{size}"]["conv"], filtered(y, (2, 2)), stride=2), gain)
        if architecture == "residual":
            y = y + conv(p[f"shortcut_{size}"], downsampled(x)) * gain
        x = y
    x = leaky(conv(p["layer_4"], deviation(x, group), padding=1))
    x = leaky(dense(p["features"], x.permute(0, 2, 3, 1).flatten(1)))
    score = dense(p["score"], x)
    if label is None:
        return score[:, 0]
    mapped = mapping(p["mapping"], None, label)
    return (score * mapped).sum(1) / math.sqrt(mapped.shape[1])
