"""Pix2Pix's, CycleGAN's and SRGAN's networks in PyTorch, as their official codes lay them out."""

from __future__ import annotations

import numpy as np

from tests.parity import require

[torch] = require("torch")
nn = torch.nn


def normed(channels, norm):
    return nn.BatchNorm2d(channels) if norm == "batch" else nn.InstanceNorm2d(channels)


def unet(widths, inputs, outputs):
    """Return the U-Net with dropout left out, built from the innermost block outwards."""

    class Block(nn.Module):
        def __init__(self, outer, inner, inside, image=None):
            super().__init__()
            down = nn.Conv2d(image or outer, inner, 4, 2, 1, bias=False)
            up = nn.ConvTranspose2d(
                inner if inside is None else 2 * inner, outer, 4, 2, 1, bias=image is not None
            )
            if image is not None:
                layers = [down, inside, nn.ReLU(), up, nn.Tanh()]
            elif inside is None:
                layers = [nn.LeakyReLU(0.2), down, nn.ReLU(), up, nn.BatchNorm2d(outer)]
            else:
                before = [nn.LeakyReLU(0.2), down, nn.BatchNorm2d(inner)]
                layers = [*before, inside, nn.ReLU(), up, nn.BatchNorm2d(outer)]
            self.model, self.outermost = nn.Sequential(*layers), image is not None

        def forward(self, x):
            return self.model(x) if self.outermost else torch.cat([x, self.model(x)], 1)

    block = None
    for outer, inner in zip(widths[-2::-1], widths[:0:-1], strict=True):
        block = Block(outer, inner, block)
    return Block(outputs, widths[0], block, inputs)


def patches(inputs, width, layers, norm):
    def conv(before, after, stride, bias):
        return nn.Conv2d(before, after, 4, stride, 1, bias=bias)

    sequence, before = [conv(inputs, width, 2, True), nn.LeakyReLU(0.2)], width
    for level in range(1, layers + 1):
        after = width * min(2**level, 8)
        sequence += [conv(before, after, 2 if level < layers else 1, norm == "instance")]
        sequence += [normed(after, norm), nn.LeakyReLU(0.2)]
        before = after
    return nn.Sequential(*sequence, conv(before, 1, 1, True))


def pixels(inputs, width, norm):
    bias = norm == "instance"
    return nn.Sequential(
        nn.Conv2d(inputs, width, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(width, 2 * width, 1, bias=bias),
        normed(2 * width, norm),
        nn.LeakyReLU(0.2),
        nn.Conv2d(2 * width, 1, 1, bias=bias),
    )


class ResidualBlock(nn.Module):
    def __init__(self, channels):
        super().__init__()
        layers = []
        for last in (False, True):
            layers += [nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3)]
            layers += [nn.InstanceNorm2d(channels), *([] if last else [nn.ReLU()])]
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return x + self.layers(x)


def resnet(inputs, outputs, width, blocks):
    def after(convolution, channels):
        return [convolution, nn.InstanceNorm2d(channels), nn.ReLU()]

    layers = [nn.ReflectionPad2d(3), *after(nn.Conv2d(inputs, width, 7), width)]
    for wide in (width, 2 * width):
        layers += after(nn.Conv2d(wide, 2 * wide, 3, 2, 1), 2 * wide)
    layers += [ResidualBlock(4 * width) for _ in range(blocks)]
    for wide in (4 * width, 2 * width):
        layers += after(nn.ConvTranspose2d(wide, wide // 2, 3, 2, 1, 1), wide // 2)
    return nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(width, outputs, 7), nn.Tanh())


class SuperBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.PReLU(),
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x):
        return x + self.layers(x)


class SuperResolution(nn.Module):
    def __init__(self, channels, width, blocks, doublings):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(channels, width, 9, 1, 4), nn.PReLU())
        self.trunk = nn.Sequential(
            *(SuperBlock(width) for _ in range(blocks)),
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
        )
        up = [nn.Conv2d(width, 4 * width, 3, 1, 1), nn.PixelShuffle(2), nn.PReLU()] * doublings
        self.last = nn.Sequential(*up[:3], nn.Conv2d(width, channels, 9, 1, 4))

    def forward(self, x):
        x = self.first(x)
        return self.last(x + self.trunk(x))


def randomised(network, seed=0):
    """Return the network with norms and biases that would show a mistake."""
    torch.manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.3)
            nn.init.normal_(module.bias, 0.0, 0.3)
        elif isinstance(module, nn.PReLU):
            nn.init.uniform_(module.weight, 0.1, 0.5)
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.1)
            if module.bias is not None:
                nn.init.normal_(module.bias, 0.0, 0.1)
    return network


def leaves(network, names, value=lambda parameter: parameter):
    """Return parameters (or gradients) by Linen's paths.

    names: of the layers that have parameters, in the order of PyTorch's modules.
    """
    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.PReLU)
    modules = [module for module in network.modules() if isinstance(module, kinds)]
    found = {}
    for name, module in zip(names, modules, strict=True):
        weight = value(module.weight).detach().numpy()
        if isinstance(module, nn.Conv2d):
            found[f"{name}/kernel"] = weight.transpose(2, 3, 1, 0)
        elif isinstance(module, nn.ConvTranspose2d):
            found[f"{name}/kernel"] = weight.transpose(2, 3, 0, 1)
        elif isinstance(module, nn.PReLU):
            found[f"{name}/negative_slope"] = weight[0]
        else:
            found[f"{name}/scale"] = weight
        if getattr(module, "bias", None) is not None:
            found[f"{name}/bias"] = value(module.bias).detach().numpy()
    return {path: np.array(leaf) for path, leaf in found.items()}


def unet_names(depth):
    """Return the names of our layers in the order of PyTorch's modules: down, inside, up, norm."""

    def block(level):
        innermost = level == depth - 1
        names = [f"down_{level}"]
        names += [f"down_norm_{level}"] if level and not innermost else []
        names += [] if innermost else block(level + 1)
        return [*names, f"up_{level}", *([f"up_norm_{level}"] if level else [])]

    return block(0)


def patch_names(layers, norm):
    names = ["conv_0"]
    for level in range(1, layers + 1):
        names += [f"conv_{level}", *([f"norm_{level}"] if norm == "batch" else [])]
    return [*names, "score"]


def resnet_names(blocks):
    inner = [f"block_{number}_{which}" for number in range(blocks) for which in (0, 1)]
    return ["first", "down_1", "down_2", *inner, "up_1", "up_0", "last"]


def super_names(blocks, doublings):
    names = ["first", "first_relu"]
    for number in range(blocks):
        parts = ("conv_0", "norm_0", "relu", "conv_1", "norm_1")
        names += [f"block_{number}_{part}" for part in parts]
    names += ["trunk_conv", "trunk_norm"]
    for number in range(doublings):
        names += [f"up_{number}", f"up_{number}_relu"]
    return [*names, "last"]
