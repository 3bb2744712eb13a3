"""diffusers' U-Net beside genax's: the same architecture, the same weights."""

from __future__ import annotations

import numpy as np

from genax.diffusion.unet import UNet


def reference_unet(torch, diffusers, unet: UNet, size: int, in_channels: int):
    """An UNet2DModel of the architecture of `unet`, every parameter random (none zero)."""
    count = len(unet.multipliers)
    attends = [size // 2**level in unet.attention_resolutions for level in range(count)]
    resampling = "resnet" if unet.residual_resampling else "conv"
    down, up = ("DownBlock2D", "UpBlock2D")
    if unet.residual_resampling:
        down, up = ("ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D")
    model = diffusers.UNet2DModel(
        sample_size=size,
        in_channels=in_channels,
        out_channels=unet.out_channels or in_channels,
        block_out_channels=tuple(unet.channels * m for m in unet.multipliers),
        down_block_types=tuple("AttnDownBlock2D" if a else down for a in attends),
        up_block_types=tuple("AttnUpBlock2D" if a else up for a in attends[::-1]),
        layers_per_block=unet.num_res_blocks,
        downsample_padding=unet.downsample_padding,
        downsample_type=resampling,
        upsample_type=resampling,
        resnet_time_scale_shift="scale_shift" if unet.scale_shift else "default",
        attn_norm_num_groups=unet.num_groups,
        freq_shift=unet.frequency_shift,
        flip_sin_to_cos=unet.cosine_first,
        attention_head_dim=unet.head_dim,
        norm_num_groups=unet.num_groups,
        norm_eps=unet.epsilon,
        dropout=unet.dropout,
        num_class_embeds=unet.num_classes,
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                parameter.copy_(noise / parameter[0].numel() ** 0.5)
            else:
                parameter.copy_(0.3 * noise + ("norm" in name and name.endswith("weight")))
    return model


def convert(named: dict[str, np.ndarray], unet: UNet) -> dict:
    """Arrays named like UNet2DModel's parameters, as parameters of UNet."""
    params: dict = {}
    for name, array in named.items():
        *path, leaf = _path(name.split("."), len(unet.multipliers))
        if leaf == "weight":
            norm = path[-1].startswith("norm")
            leaf = "embedding" if path[-1] == "labels" else "scale" if norm else "kernel"
            if leaf == "kernel":
                array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
        node = params
        for part in path:
            node = node.setdefault(part, {})
        node[leaf] = array
    return params


INNER = {
    "norm1": "norm_0",
    "norm2": "norm_1",
    "conv1": "conv_0",
    "conv2": "conv_1",
    "time_emb_proj": "condition",
    "conv_shortcut": "shortcut",
    "group_norm": "norm",
    "to_q": "query",
    "to_k": "key",
    "to_v": "value",
    "linear_1": "dense_0",
    "linear_2": "dense_1",
    "class_embedding": "labels",
    "conv_norm_out": "norm_out",
}
KINDS = {"resnets": "residual", "attentions": "attention"}


def _path(parts: list[str], levels: int) -> list[str]:
    match parts:
        case ["mid_block", "attentions", "0", *rest]:
            head = ["middle_attention"]
        case ["mid_block", "resnets", number, *rest]:
            head = [f"middle_residual_{number}"]
        case ["down_blocks", level, "downsamplers", "0", *rest]:
            head = [f"down_{level}_downsample"]
        case ["up_blocks", level, "upsamplers", "0", "conv", *rest] | [
            "up_blocks",
            level,
            "upsamplers",
            "0",
            *rest,
        ]:
            head = [f"up_{levels - 1 - int(level)}_upsample"]
        case ["down_blocks", level, kind, number, *rest]:
            head = [f"down_{level}_{KINDS[kind]}_{number}"]
        case ["up_blocks", level, kind, number, *rest]:
            head = [f"up_{levels - 1 - int(level)}_{KINDS[kind]}_{number}"]
        case rest:
            head = []
    rest = ["out", rest[-1]] if rest[:2] == ["to_out", "0"] else rest
    return head + [INNER.get(part, part) for part in rest]
