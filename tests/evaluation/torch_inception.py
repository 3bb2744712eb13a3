"""Inception-v3 of the FID in PyTorch, as the papers draw it: what ours is compared with."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def features(tensors, x):
    """The pooled features. tensors: of the TorchScript module, by name."""

    def layer(name, x, stride=1, padding=0):
        weight, beta, mean, var = (
            tensors[f"net.layers.{name}.{part}"] for part in ("weight", "beta", "mean", "var")
        )
        x = F.conv2d(x, weight, stride=stride, padding=padding)
        return F.relu(F.batch_norm(x, mean, var, None, beta, False, 0.1, 1e-3))

    def average(x):
        return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)

    def a(name, x):
        five = layer(f"{name}.tower.conv_1", layer(f"{name}.tower.conv", x), padding=2)
        three = layer(f"{name}.tower_1.conv_1", layer(f"{name}.tower_1.conv", x), padding=1)
        three = layer(f"{name}.tower_1.conv_2", three, padding=1)
        pool = layer(f"{name}.tower_2.conv", average(x))
        return torch.cat([layer(f"{name}.conv", x), five, three, pool], 1)

    def b(name, x):
        three = layer(f"{name}.tower.conv_1", layer(f"{name}.tower.conv", x), padding=1)
        three = layer(f"{name}.tower.conv_2", three, stride=2)
        return torch.cat([layer(f"{name}.conv", x, stride=2), three, F.max_pool2d(x, 3, 2)], 1)

    def c(name, x):
        wide, tall = (0, 3), (3, 0)
        one = layer(f"{name}.tower.conv_1", layer(f"{name}.tower.conv", x), padding=wide)
        one = layer(f"{name}.tower.conv_2", one, padding=tall)
        two = layer(f"{name}.tower_1.conv", x)
        for number, padding in enumerate((tall, wide, tall, wide), 1):
            two = layer(f"{name}.tower_1.conv_{number}", two, padding=padding)
        pool = layer(f"{name}.tower_2.conv", average(x))
        return torch.cat([layer(f"{name}.conv", x), one, two, pool], 1)

    def d(name, x):
        three = layer(f"{name}.tower.conv_1", layer(f"{name}.tower.conv", x), stride=2)
        seven = layer(f"{name}.tower_1.conv_1", layer(f"{name}.tower_1.conv", x), padding=(0, 3))
        seven = layer(f"{name}.tower_1.conv_2", seven, padding=(3, 0))
        seven = layer(f"{name}.tower_1.conv_3", seven, stride=2)
        return torch.cat([three, seven, F.max_pool2d(x, 3, 2)], 1)

    def e(name, x, pool):
        one = layer(f"{name}.tower_conv", x)
        two = layer(f"{name}.tower_1_conv_1", layer(f"{name}.tower_1_conv", x), padding=1)
        return torch.cat(
            [
                layer(f"{name}.conv", x),
                layer(f"{name}.tower_mixed_conv", one, padding=(0, 1)),
                layer(f"{name}.tower_mixed_conv_1", one, padding=(1, 0)),
                layer(f"{name}.tower_1_mixed_conv", two, padding=(0, 1)),
                layer(f"{name}.tower_1_mixed_conv_1", two, padding=(1, 0)),
                layer(f"{name}.tower_2_conv", pool(x)),
            ],
            1,
        )

    x = layer("conv_1", layer("conv", x, stride=2))
    x = F.max_pool2d(layer("conv_2", x, padding=1), 3, 2)
    x = F.max_pool2d(layer("conv_4", layer("conv_3", x)), 3, 2)
    for name in ("mixed", "mixed_1", "mixed_2"):
        x = a(name, x)
    x = b("mixed_3", x)
    for name in ("mixed_4", "mixed_5", "mixed_6", "mixed_7"):
        x = c(name, x)
    x = d("mixed_8", x)
    x = e("mixed_9", x, average)
    x = e("mixed_10", x, lambda x: F.max_pool2d(x, 3, 1, 1))
    return x.mean((2, 3))
