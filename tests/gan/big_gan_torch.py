"""BigGAN and its discriminators in PyTorch, for the tests, and what copies their weights."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from genax.nn.spectral_norm import COLLECTION
from tests.parity import require

[torch] = require("torch")
EPSILON = 1e-6
F = torch.nn.functional


def normed(module):
    return torch.nn.utils.spectral_norm(module, eps=EPSILON)


def conv(inputs, outputs, size=3, bias=True):
    return normed(torch.nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=bias))


class ClassNorm(torch.nn.Module):
    def __init__(self, channels, condition):
        super().__init__()
        self.scale = normed(torch.nn.Linear(condition, channels, bias=False))
        self.bias = normed(torch.nn.Linear(condition, channels, bias=False))
        self.norm = torch.nn.BatchNorm2d(channels, affine=False)

    def forward(self, x, c):
        return self.norm(x) * (1 + self.scale(c))[..., None, None] + self.bias(c)[..., None, None]


class Attention(torch.nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.query, self.key = (conv(channels, channels // 8, 1, False) for _ in range(2))
        self.value = conv(channels, channels // 2, 1, False)
        self.output = conv(channels // 2, channels, 1, False)
        self.weight = torch.nn.Parameter(torch.tensor(0.5))

    def forward(self, x):
        query = self.query(x).flatten(2)
        key, value = (F.max_pool2d(f(x), 2).flatten(2) for f in (self.key, self.value))
        shares = torch.softmax(query.transpose(1, 2) @ key, -1)
        y = (value @ shares.transpose(1, 2)).view(len(x), -1, *x.shape[2:])
        return x + self.weight * self.output(y)


class UpBlock(torch.nn.Module):
    def __init__(self, inputs, outputs, condition):
        super().__init__()
        self.norm_0, self.norm_1 = ClassNorm(inputs, condition), ClassNorm(outputs, condition)
        self.conv_0, self.conv_1 = conv(inputs, outputs), conv(outputs, outputs)
        self.shortcut = conv(inputs, outputs, 1)

    def forward(self, x, c):
        up = partial(F.interpolate, scale_factor=2)
        y = self.conv_0(up(F.relu(self.norm_0(x, c))))
        y = self.conv_1(F.relu(self.norm_1(y, c)))
        return y + self.shortcut(up(x))


class DownBlock(torch.nn.Module):
    def __init__(self, inputs, outputs, down, first):
        super().__init__()
        self.down, self.first = down, first
        self.conv_0, self.conv_1 = conv(inputs, outputs), conv(outputs, outputs)
        if down or inputs != outputs:
            self.shortcut = conv(inputs, outputs, 1)

    def forward(self, x):
        y = self.conv_1(F.relu(self.conv_0(x if self.first else F.relu(x))))
        x = self.shortcut(x) if hasattr(self, "shortcut") else x
        return F.avg_pool2d(y + x, 2) if self.down else y + x


class DeepDownBlock(torch.nn.Module):
    def __init__(self, inputs, outputs, down):
        super().__init__()
        inner, self.down = outputs // 4, down
        self.conv_0, self.conv_3 = conv(inputs, inner, 1), conv(inner, outputs, 1)
        self.conv_1, self.conv_2 = conv(inner, inner), conv(inner, inner)
        if outputs > inputs:
            self.shortcut = conv(inputs, outputs - inputs, 1)

    def forward(self, x):
        pool = partial(F.avg_pool2d, kernel_size=2) if self.down else lambda x: x
        y = self.conv_1(F.relu(self.conv_0(F.relu(x))))
        y, x = self.conv_3(pool(F.relu(self.conv_2(F.relu(y))))), pool(x)
        return y + (torch.cat([x, self.shortcut(x)], 1) if hasattr(self, "shortcut") else x)


class Generator(torch.nn.Module):
    """A BigGAN of sizes that begin with 4, whose attention stands after a numbered block."""

    def __init__(self, widths, part, label_size, classes, attention, channels):
        super().__init__()
        self.part, self.width, self.place = part, widths[0], attention
        self.labels = torch.nn.Embedding(classes, label_size)
        self.project = normed(torch.nn.Linear(part, 16 * widths[0]))
        for number, (inputs, outputs) in enumerate(pairwise(widths)):
            self.add_module(f"block_{number}", UpBlock(inputs, outputs, part + label_size))
        self.attention = Attention(widths[attention + 1])
        self.norm = torch.nn.BatchNorm2d(widths[-1])
        self.image = conv(widths[-1], channels)
        self.blocks = len(widths) - 1

    def forward(self, z, label):
        first, *parts = z.split(self.part, 1)
        x = self.project(first).view(-1, 4, 4, self.width).permute(0, 3, 1, 2)
        for number, z in enumerate(parts):
            block = getattr(self, f"block_{number}")
            x = block(x, torch.cat([z, self.labels(label)], 1))
            if number == self.place:
                x = self.attention(x)
        return torch.tanh(self.image(F.relu(self.norm(x))))


class Discriminator(torch.nn.Module):
    """Either kind, whose attention stands after the first block or, if deep, the first two."""

    def __init__(self, widths, classes, channels, deep):
        super().__init__()
        self.deep, self.names = deep, []
        if deep:
            self.image = conv(channels, widths[0])
            for number, pair in enumerate(pairwise(widths)):
                self.add(f"block_{number}_0", DeepDownBlock(*pair, True))
                self.add(f"block_{number}_1", DeepDownBlock(pair[1], pair[1], False))
        else:
            for number, pair in enumerate(zip([channels, *widths], widths, strict=False)):
                down = number < len(widths) - 1
                self.add(f"block_{number}", DownBlock(*pair, down, number == 0))
        self.attention = Attention(widths[1] if deep else widths[0])
        self.score = normed(torch.nn.Linear(widths[-1], 1))
        self.labels = normed(torch.nn.Embedding(classes, widths[-1]))

    def add(self, name, block):
        self.add_module(name, block)
        self.names.append(name)

    def forward(self, x, label):
        x = self.image(x) if self.deep else x
        for name in self.names:
            x = getattr(self, name)(x)
            if name == ("block_0_1" if self.deep else "block_0"):
                x = self.attention(x)
        x = F.relu(x).sum((2, 3))
        return (self.score(x) + (self.labels(label) * x).sum(1, keepdim=True))[:, 0]


def array(tensor) -> np.ndarray:
    return tensor.detach().numpy().copy()


def rearranged(weight: np.ndarray) -> np.ndarray:
    """A weight of PyTorch as a kernel of ours."""
    return weight.transpose(2, 3, 1, 0) if weight.ndim == 4 else weight.T


def copied(module, path: str = "") -> dict[str, Any]:
    """Our variables by path, of layers whose names are ours."""
    found: dict[str, Any] = {}
    for name, child in module.named_children():
        at = f"{path}{name}"
        if isinstance(child, torch.nn.Conv2d | torch.nn.Linear | torch.nn.Embedding):
            found |= layer(at, child)
        elif isinstance(child, torch.nn.BatchNorm2d):
            if child.affine:
                found[f"params/{at}/scale"] = array(child.weight)
                found[f"params/{at}/bias"] = array(child.bias)
            found[f"batch_stats/{at}/mean"] = array(child.running_mean)
            found[f"batch_stats/{at}/var"] = array(child.running_var)
        else:
            found |= copied(child, f"{at}/")
    if isinstance(module, Attention):
        found[f"params/{path}weight"] = array(module.weight)
    return found


def layer(path: str, module) -> dict[str, Any]:
    """Kernel, bias and singular vectors of a layer."""
    has_norm = hasattr(module, "weight_orig")
    weight = array(module.weight_orig if has_norm else module.weight)
    embeds = isinstance(module, torch.nn.Embedding)
    leaf = "embedding" if embeds else "kernel"
    found = {f"params/{path}/{leaf}": weight if embeds else rearranged(weight)}
    if getattr(module, "bias", None) is not None:
        found[f"params/{path}/bias"] = array(module.bias)
    if has_norm:
        found[f"{COLLECTION}/{path}/u"] = array(module.weight_u)
        v = array(module.weight_v)
        if weight.ndim == 4:
            v = v.reshape(weight.shape[1:]).transpose(1, 2, 0).reshape(-1)
        found[f"{COLLECTION}/{path}/v"] = v
    return found


def gradients(module, path: str = "") -> dict[str, np.ndarray]:
    """The gradient of each of our parameters, by path."""
    found = {}
    for name, parameter in module.named_parameters():
        *at, leaf = name.split(".")
        gradient, owner = array(parameter.grad), "/".join(at)
        embeds = isinstance(module.get_submodule(".".join(at)), torch.nn.Embedding)
        if embeds:
            leaf = "embedding"
        elif leaf == "weight_orig" or (leaf == "weight" and gradient.ndim > 1):
            gradient, leaf = rearranged(gradient), "kernel"
        elif leaf == "weight" and gradient.ndim == 1:
            leaf = "scale"
        found[f"{path}{owner}/{leaf}"] = gradient
    return found
