"""Networks of the chapter as functions in PyTorch, of parameters in Linen's layout.

A network takes its parameters as nested dicts of tensors, and images in NHWC. With a dict of
statistics BatchNorm moves them and normalises by the batch.
"""

import math

from tests.parity import require

[torch] = require("torch")
F = torch.nn.functional
DECAY, EPSILON = 0.9, 1e-5


def tensors(tree):
    """The same nested dicts of leaf tensors."""
    if isinstance(tree, dict):
        return {name: tensors(node) for name, node in tree.items()}
    import numpy as np

    return torch.tensor(np.array(tree), requires_grad=True)


def leaves(tree):
    """The leaves of nested dicts, in the order of their names."""
    if isinstance(tree, dict):
        return [leaf for name in sorted(tree) for leaf in leaves(tree[name])]
    return [tree]


def conv(x, layer, stride=1, pads=None):
    """A convolution whose padding keeps the size, or that of ((top, bottom), (left, right))."""
    kernel = layer["kernel"].permute(3, 2, 0, 1)
    half = (kernel.shape[-1] - 1) // 2
    (top, bottom), (left, right) = pads or ((half, half), (half, half))
    x = F.pad(x.permute(0, 3, 1, 2), (left, right, top, bottom))
    y = F.conv2d(x, kernel, layer.get("bias"), stride).permute(0, 2, 3, 1)
    return y


def dense(x, layer):
    y = x @ layer["kernel"]
    return y + layer["bias"] if "bias" in layer else y


def batch_norm(x, layer, statistics):
    """Normalise by the batch. The statistics move in place, as in PyTorch."""
    axes = tuple(range(x.ndim - 1))
    mean, variance = x.mean(axes), x.var(axes, unbiased=False)
    if statistics is not None:
        count = x.numel() / x.shape[-1]
        unbiased = (variance * count / (count - 1)).detach()
        statistics["mean"] = DECAY * statistics["mean"] + (1 - DECAY) * mean.detach()
        statistics["var"] = DECAY * statistics["var"] + (1 - DECAY) * unbiased
    y = (x - mean) / torch.sqrt(variance + EPSILON)
    return y * layer["scale"] + layer["bias"] if layer else y


def nearest(x):
    return x.repeat_interleave(2, 1).repeat_interleave(2, 2)


def means(x):
    return F.avg_pool2d(x.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)


def class_norm(x, layer, statistics, label):
    if label is None:
        return batch_norm(x, layer["norm"], statistics["norm"])
    y = batch_norm(x, None, statistics["norm"])
    scale, bias = (layer[name][label][:, None, None] for name in ("scale", "bias"))
    return y * scale + bias


def residual_generator(params, statistics, z, label=None):
    """WGAN-GP's, as its code composes it: upsampling before every convolution of the block."""
    first = params["project"]["kernel"].shape[1]
    width = params["image"]["kernel"].shape[2]
    side = math.isqrt(first // width)
    x = dense(z, params["project"]).reshape(len(z), side, side, width)
    for number in range(sum(name.startswith("block_") for name in params)):
        block, moved = params[f"block_{number}"], statistics[f"block_{number}"]
        y = F.relu(class_norm(x, block["norm_0"], moved["norm_0"], label))
        y = conv(nearest(y), block["upsample"])
        y = F.relu(class_norm(y, block["norm_1"], moved["norm_1"], label))
        x = conv(nearest(x), block["shortcut"]) + conv(y, block["conv"])
    x = F.relu(batch_norm(x, params["norm"], statistics["norm"]))
    return torch.tanh(conv(x, params["image"]))


def residual_critic(params, x, classify=False):
    """WGAN-GP's: convolution before the mean everywhere but in the first shortcut."""
    for number in range(4):
        block = params[f"block_{number}"]
        y = F.relu(x) if number else x
        y = conv(F.relu(conv(y, block["conv_0"])), block["conv_1"])
        if number == 0:
            x = conv(means(x), block["shortcut"]) + means(y)
        elif number == 1:
            x = means(conv(x, block["shortcut"])) + means(y)
        else:
            x = x + y
    x = F.relu(x).mean((1, 2))
    return dense(x, params["classes"]) if classify else dense(x, params["score"])[:, 0]


def fir(x, up):
    """The 2-D filter of (1, 3, 3, 1), as R3GAN's code applies it to each channel."""
    line = torch.tensor([1.0, 3.0, 3.0, 1.0])
    kernel = torch.outer(line, line)
    kernel = (kernel / kernel.sum() * (4 if up else 1))[None, None]
    b, h, w, c = x.shape
    planes = x.permute(0, 3, 1, 2).reshape(b * c, 1, h, w)
    apply = F.conv_transpose2d if up else F.conv2d
    y = apply(planes, kernel, stride=2, padding=1)
    return y.reshape(b, c, *y.shape[2:]).permute(0, 2, 3, 1)


def r3_block(x, block, group_size):
    y = F.leaky_relu(conv(x, block["expand"]) + block["activation_0"]["bias"], 0.2)
    kernel = block["groups"]["kernel"].permute(3, 2, 0, 1)
    groups = y.shape[-1] // group_size
    y = F.conv2d(y.permute(0, 3, 1, 2), kernel, padding=1, groups=groups).permute(0, 2, 3, 1)
    y = F.leaky_relu(y + block["activation_1"]["bias"], 0.2)
    return x + conv(y, block["contract"])


def r3_generator(params, z, widths, blocks, group_size, one_hot=None):
    if one_hot is not None:
        z = torch.cat([z, dense(one_hot, params["embedding"])], 1)
    x = params["basis"] * dense(z, params["scale"])[:, None, None]
    for stage, width in enumerate(widths):
        if stage:
            x = conv(x, params[f"width_{stage}"]) if width != widths[stage - 1] else x
            x = fir(x, up=True)
        for number in range(blocks):
            x = r3_block(x, params[f"block_{stage}_{number}"], group_size)
    return conv(x, params["image"])


def r3_discriminator(params, x, widths, blocks, group_size, one_hot=None):
    widths = widths[::-1]
    x = conv(x, params["image"])
    for stage, width in enumerate(widths):
        for number in range(blocks):
            x = r3_block(x, params[f"block_{stage}_{number}"], group_size)
        if stage + 1 < len(widths):
            x = fir(x, up=False)
            same = widths[stage + 1] == width
            x = x if same else conv(x, params[f"width_{stage}"])
    x = dense((x * params["basis"]).sum((1, 2)), params["score"])
    if one_hot is None:
        return x[:, 0]
    return (x * dense(one_hot, params["embedding"])).sum(1)


def perceptron(params, z, shape):
    for number in range(len(params) - 1):
        z = F.relu(dense(z, params[f"Dense_{number}"]))
    z = dense(z, params[f"Dense_{len(params) - 1}"])
    return 2 * torch.sigmoid(z).reshape(len(z), *shape) - 1


def maxout(params, x, pieces):
    x = x.reshape(len(x), -1)
    for number in range(len(params) - 1):
        y = dense(x, params[f"Maxout_{number}"]["pieces"])
        x = y.reshape(len(x), -1, pieces).amax(-1)
    return dense(x, params["score"])[:, 0]
