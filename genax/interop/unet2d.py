"""diffusers' U-Net of DDPM, ADM and NCSN++."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num

from genax.core.errors import GenaxError
from genax.diffusion.ncsnpp import NCSNpp
from genax.diffusion.unet import UNet
from genax.interop.architecture import Architecture, Config, Exporter, Family, Leaves
from genax.interop.configuration import Configuration
from genax.interop.conversion import (
    Conversion,
    convolution,
    dense,
    embedding,
    flat,
    norm,
    pixel_attention,
    residual_block,
)
from genax.interop.outputs import SampleOutput

NAME = "UNet2DModel"
# Kinds of a resolution, with the block of the way down and the one of the way up. The second kind
# of each attends.
_KINDS = {
    "conv": (("DownBlock2D", "UpBlock2D"), ("AttnDownBlock2D", "AttnUpBlock2D")),
    "resnet": (
        ("ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D"),
        ("AttnDownBlock2D", "AttnUpBlock2D"),
    ),
    "skip": (("SkipDownBlock2D", "SkipUpBlock2D"), ("AttnSkipDownBlock2D", "AttnSkipUpBlock2D")),
}
_DOWN = {down for pairs in _KINDS.values() for down, _ in pairs}
_UP = {up for pairs in _KINDS.values() for _, up in pairs}
# The names of attention in files of 2022.
RENAMES = tuple(
    (rf"(.*attentions\.\d+)\.{old}\.(weight|bias)", rf"\1.{new}.\2")
    for old, new in (
        ("query", "to_q"),
        ("key", "to_k"),
        ("value", "to_v"),
        ("proj_attn", "to_out.0"),
    )
)
_SQRT2 = math.sqrt(2)


class UNet2DModel(nn.Module):
    """A U-Net of DDPM or ADM, or an NCSN++ with pyramids of its input and output.

    image_size: height of the images that it is for. None means any, if only the middle attends.
    center: whether the input is in [0, 1] and is first brought to [-1, 1].
    """

    denoiser: UNet | NCSNpp
    image_size: int | None
    in_channels: int = 3
    center: bool = False

    def __call__(
        self,
        sample: Float[Array, "b h w c"],
        timestep: Num[Array, " b"],
        class_labels: Int[Array, " b"] | None = None,
        train: bool = False,
    ) -> SampleOutput:
        """Return the denoiser's output; that of random frequencies is divided by the noise level.

        sample: noisy images, with their channels last.
        timestep: noise levels sigma if the denoiser has random frequencies.
        Raises GenaxError for images of another height, since heights decide where it attends.
        """
        if self.image_size not in (None, sample.shape[1]):
            raise GenaxError(
                f"{NAME} got images of height {sample.shape[1]}, but it is for {self.image_size}: "
                "resize them."
            )
        x = 2 * sample - 1 if self.center else sample
        network = self.denoiser
        if isinstance(network, UNet) or network.fourier_scale is None:
            return SampleOutput(network(x, timestep, train, class_labels))
        output = network(x, jnp.log(timestep), train, class_labels)
        return SampleOutput(output / timestep[:, None, None, None])


def inputs(model: UNet2DModel) -> dict[str, jax.Array]:
    """Return example inputs."""
    network = model.denoiser
    size = model.image_size or 2 ** (len(network.multipliers) - 1)
    found = {
        "sample": jnp.zeros((1, size, size, model.in_channels)),
        "timestep": jnp.ones(1),
    }
    return found if network.num_classes is None else found | {"class_labels": jnp.zeros(1, int)}


def build(architecture: str, config: Configuration, names: set[str]) -> nn.Module:
    """Build the denoiser."""
    config.require(
        mid_block_type="UNetMidBlock2D",
        act_fn="silu",
        add_attention=True,
        class_embed_type=None,
    )
    # It says how long the schedule was.
    config.optional("num_train_timesteps")
    channels, multipliers = widths(config, (224, 448, 672, 896))
    config.size("time_embedding_dim", 4 * channels, 4 * channels, 4 * channels)
    kind, attends = _levels(config, len(multipliers))
    size = config.side("sample_size") if any(attends) else None
    config.get("sample_size")
    head_dim = config.optional("attention_head_dim") if config.has("attention_head_dim") else 8
    common = {
        "channels": channels,
        "multipliers": multipliers,
        "num_res_blocks": config.size("layers_per_block", 2),
        "attention_resolutions": tuple(
            (size or 0) >> level for level, attend in enumerate(attends) if attend
        ),
        "dropout": config.real("dropout", 0.0),
        "epsilon": config.real("norm_eps", 1e-5),
        "head_dim": head_dim,
        "num_classes": config.optional("num_class_embeds"),
    }
    in_channels = config.size("in_channels", 3)
    common["out_channels"] = config.size("out_channels", 3)
    if kind == "skip":
        network: UNet | NCSNpp = _ncsnpp(config, common, attends)
    else:
        network = _unet(config, common, kind)
    return UNet2DModel(network, size, in_channels, config.get("center_input_sample", False))


def widths(config: Configuration, default: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    """Return the channels at full resolution, and the multipliers of all resolutions.

    Raises GenaxError for channels that are no multiple of the first.
    """
    found = config.sizes("block_out_channels", default)
    if any(width % found[0] for width in found):
        raise GenaxError(
            f"{config.source} has block_out_channels={list(found)!r}; only multiples of the first "
            "are supported."
        )
    return found[0], tuple(width // found[0] for width in found)


def _levels(config: Configuration, count: int) -> tuple[str, list[bool]]:
    """Return the kind of all blocks, and which resolutions attend.

    Raises GenaxError for blocks of several kinds, and if the way up is not that down.
    """
    down = config.words(
        "down_block_types", ("DownBlock2D", *(3 * ["AttnDownBlock2D"])), sorted(_DOWN)
    )
    up = config.words("up_block_types", (*(3 * ["AttnUpBlock2D"]), "UpBlock2D"), sorted(_UP))
    kinds = [config.get(f"{way}sample_type", "conv") for way in ("down", "up")]
    for kind, (plain, attending) in _KINDS.items():
        attends = [block == attending[0] for block in down]
        pairs = [attending if attend else plain for attend in attends]
        if (list(down), list(reversed(up))) != ([a for a, _ in pairs], [b for _, b in pairs]):
            continue
        # Blocks that attend do not say by their names how they change the resolution.
        unsaid = (any(attends[:-1]), any(attends[1:]))
        right = [kind == "skip" or found == kind for found in kinds]
        if len(down) == count and not any(
            told and not fits for told, fits in zip(unsaid, right, strict=True)
        ):
            return kind, attends
    raise GenaxError(
        f"{config.source} has down_block_types={list(down)!r}, up_block_types={list(up)!r}, "
        f"downsample_type={kinds[0]!r} and upsample_type={kinds[1]!r} for {count} resolutions; "
        "only networks that change all resolutions in one way, and whose way up mirrors that down, "
        "are supported."
    )


def _unet(config: Configuration, common: dict[str, Any], kind: str) -> UNet:
    config.require(time_embedding_type="positional")
    config.real("mid_block_scale_factor", 1.0, 1.0, 1.0)
    scale_shift = _one_of(config, "resnet_time_scale_shift", ("default", "scale_shift"))
    groups = config.size("norm_num_groups", 32)
    # Without this setting the attention in the middle has a norm in one of the two cases.
    if scale_shift == "default" and not config.optional("attn_norm_num_groups"):
        config.require(attn_norm_num_groups=None)
    elif config.optional("attn_norm_num_groups") != groups:
        raise GenaxError(
            f"{config.source} has attn_norm_num_groups={config.get('attn_norm_num_groups')!r}, but "
            f"norm_num_groups, {groups}, alone is supported."
        )
    return UNet(
        **common,
        num_groups=groups,
        frequency_shift=config.size("freq_shift", 0, least=0),
        cosine_first=config.get("flip_sin_to_cos", True),
        scale_shift=scale_shift == "scale_shift",
        residual_resampling=kind == "resnet",
        downsample_padding=config.size("downsample_padding", 1, least=0, most=1),
    )


def _ncsnpp(config: Configuration, common: dict[str, Any], attends: list[bool]) -> NCSNpp:
    # Skips are of three channels, and their blocks have groups and paddings of their own.
    config.require(
        in_channels=3, out_channels=3, resnet_time_scale_shift="default", norm_num_groups=None
    )
    config.require(attn_norm_num_groups=None)
    config.optional("downsample_padding", least=0)
    fourier = _one_of(config, "time_embedding_type", ("positional", "fourier")) == "fourier"
    if fourier:
        config.optional("freq_shift", least=0)
        config.get("flip_sin_to_cos")
    elif config.get("flip_sin_to_cos", True) or config.size("freq_shift", 0, least=0) != 1:
        raise GenaxError(
            f"{config.source} has skip blocks and sinusoids; they are supported with "
            "flip_sin_to_cos=False and freq_shift=1 only."
        )
    factor = config.real("mid_block_scale_factor", 1.0, most=2.0)
    if abs(factor - _SQRT2) > 1e-6:
        raise GenaxError(
            f"{config.source} has mid_block_scale_factor={factor!r}; with skip blocks only the "
            "square root of 2 is supported."
        )
    network = NCSNpp(
        **common,
        input_pyramid="skip",
        output_pyramid=True,
        fourier_scale=16.0 if fourier else None,
    )
    narrow = [
        width
        for width, attend in zip(_widths(network), attends, strict=True)
        if attend and width < 128
    ]
    if narrow:
        raise GenaxError(
            f"{config.source} has attention over {narrow[0]} channels; in skip blocks it is "
            "supported over at least 128, since diffusers has 32 groups there."
        )
    return network


def _one_of(config: Configuration, name: str, known: tuple[str, ...]) -> str:
    """Return a word, by default the first of those known."""
    found = config.get(name, known[0])
    if found not in known:
        raise GenaxError(
            f"{config.source} has {name}={found!r}; the known ones are {', '.join(known)}."
        )
    return found


def _widths(network: Any) -> list[int]:
    return [network.channels * multiplier for multiplier in network.multipliers]


def _attends(network: UNet | NCSNpp, level: int, size: int | None) -> bool:
    return size is not None and size >> level in network.attention_resolutions


def conversions(model: UNet2DModel) -> list[Conversion]:
    """Return the tensors of each variable."""
    network, size = model.denoiser, model.image_size
    found = [
        *residual_blocks(network),
        *dense("denoiser/time_embedding/dense_0", "time_embedding.linear_1"),
        *dense("denoiser/time_embedding/dense_1", "time_embedding.linear_2"),
        *pixel_attention("denoiser/middle_attention", "mid_block.attentions.0"),
    ]
    if network.num_classes is not None:
        found.append(embedding("denoiser/labels", "class_embedding"))
    if isinstance(network, NCSNpp) and network.fourier_scale is not None:
        frequencies = "fourier/denoiser/time_embedding/fourier/frequencies"
        found.append(flat(frequencies, "time_proj.weight"))
    last = len(network.multipliers) - 1
    once = isinstance(network, NCSNpp)
    for level in range(last + 1):
        down, up = f"down_blocks.{level}", f"up_blocks.{last - level}"
        if not _attends(network, level, size):
            continue
        for number in range(network.num_res_blocks):
            ours = f"denoiser/down_{level}_attention_{number}"
            found += pixel_attention(ours, f"{down}.attentions.{number}")
        for number in range(1 if once else network.num_res_blocks + 1):
            ours = f"denoiser/up_{level}_attention" + ("" if once else f"_{number}")
            found += pixel_attention(ours, f"{up}.attentions.{number}")
    return found


def residual_blocks(network: Any) -> list[Conversion]:
    """Convert the residual blocks and the changes of resolution, and the first and last layers."""
    found = [
        *convolution("denoiser/conv_in", "conv_in"),
        *residual_block("denoiser/middle_residual_0", "mid_block.resnets.0", False),
        *residual_block("denoiser/middle_residual_1", "mid_block.resnets.1", False),
        *norm("denoiser/norm_out", "conv_norm_out"),
        *convolution("denoiser/conv_out", "conv_out"),
    ]
    all_widths, last = _widths(network), len(network.multipliers) - 1
    width, skips = network.channels, [network.channels]
    for level, features in enumerate(all_widths):
        name = f"down_blocks.{level}"
        for number in range(network.num_res_blocks):
            ours = f"denoiser/down_{level}_residual_{number}"
            found += residual_block(ours, f"{name}.resnets.{number}", width != features)
            width = features
            skips.append(width)
        if level < last:
            found += _resampling(network, f"denoiser/down_{level}", name, "down")
            skips.append(width)
    for level, features in reversed(list(enumerate(all_widths))):
        name = f"up_blocks.{last - level}"
        for number in range(network.num_res_blocks + 1):
            ours = f"denoiser/up_{level}_residual_{number}"
            shortcut = width + skips.pop() != features
            found += residual_block(ours, f"{name}.resnets.{number}", shortcut)
            width = features
        if level:
            found += _resampling(network, f"denoiser/up_{level}", name, "up")
    return found


def _resampling(network: Any, path: str, name: str, way: str) -> list[Conversion]:
    """Convert a change of resolution, and the part of a pyramid beside it."""
    ours = f"{path}_{way}sample"
    if isinstance(network, NCSNpp):
        found = residual_block(ours, f"{name}.resnet_{way}", True)
        if way == "down":
            return [*found, *convolution(f"{path}_pyramid", f"{name}.skip_conv")]
        inside, level = path.rsplit("/", 1)
        found += norm(f"{inside}/norm_{level}", f"{name}.skip_norm")
        return [*found, *convolution(f"{inside}/conv_{level}", f"{name}.skip_conv")]
    theirs = f"{name}.{way}samplers.0"
    if network.residual_resampling:
        return residual_block(ours, theirs, False)
    # Convolutions that halve are inside a layer of their own.
    return convolution(f"{ours}/conv" if way == "down" else ours, f"{theirs}.conv")


def _config(networks: Any, leaves: Leaves) -> Config:
    network: UNet = networks.denoiser
    expressible: dict[str, list[Any]] = {
        "two_times": [False],
        "augmentation_labels": [0],
        "time_channels": [None, network.channels],
        # Of heads, only their width can be said.
        "num_heads": [1] if network.head_dim is None else [network.num_heads],
    }
    _check_expressible(network, expressible)
    kind = "resnet" if network.residual_resampling else "conv"
    return {
        **_shared(network, leaves, kind),
        "downsample_type": kind,
        "upsample_type": kind,
        "downsample_padding": network.downsample_padding,
        "norm_num_groups": network.num_groups,
        "attn_norm_num_groups": network.num_groups,
        "freq_shift": network.frequency_shift,
        "flip_sin_to_cos": network.cosine_first,
        "resnet_time_scale_shift": "scale_shift" if network.scale_shift else "default",
    }


def _config_of_ncsnpp(networks: Any, leaves: Leaves) -> Config:
    network: NCSNpp = networks.denoiser
    expressible: dict[str, list[Any]] = {
        "input_pyramid": ["skip"],
        "output_pyramid": [True],
        "fir": [True],
        "residual_resampling": [True],
        "rescale": [True],
        "num_groups": [None],
        "fourier_scale": [16.0, None],
        "augmentation_labels": [0],
    }
    _check_expressible(network, expressible)
    return {
        **_shared(network, leaves, "skip"),
        "norm_num_groups": None,
        "mid_block_scale_factor": _SQRT2,
        "time_embedding_type": "positional" if network.fourier_scale is None else "fourier",
        "freq_shift": 1,
        "flip_sin_to_cos": False,
    }


def _check_expressible(network: Any, expressible: dict[str, list[Any]]) -> None:
    """Raise GenaxError for a network with a value that diffusers' class cannot express."""
    for name, values in expressible.items():
        if getattr(network, name) not in values:
            raise GenaxError(
                f"a {type(network).__name__} with {name}={getattr(network, name)!r} cannot be "
                f"exported: diffusers' has {name}={values[0]!r} only."
            )


def _shared(network: UNet | NCSNpp, leaves: Leaves, kind: str) -> Config:
    """Return the settings that both networks have."""
    levels = range(len(network.multipliers))
    attends = [f"params/denoiser/down_{level}_attention_0/norm/scale" in leaves for level in levels]
    sizes = [
        height << level
        for height in network.attention_resolutions
        for level in levels
        if attends[level]
    ]
    fitting = [
        size
        for size in sizes
        if attends == [size >> level in network.attention_resolutions for level in levels]
    ]
    plain, attending = _KINDS[kind]
    pairs = [attending if attend else plain for attend in attends]
    rows = (network.num_classes or 0) + network.null_class
    return {
        "_class_name": NAME,
        "sample_size": fitting[0] if fitting else None,
        "in_channels": leaves["params/denoiser/conv_in/kernel"].shape[2],
        "out_channels": leaves["params/denoiser/conv_out/kernel"].shape[3],
        "block_out_channels": _widths(network),
        "layers_per_block": network.num_res_blocks,
        "down_block_types": [down for down, _ in pairs],
        "up_block_types": [up for _, up in reversed(pairs)],
        "attention_head_dim": network.head_dim,
        "dropout": network.dropout,
        "norm_eps": network.epsilon,
        "num_class_embeds": rows if network.num_classes is not None else None,
    }


FAMILY = Family(
    {NAME: Architecture(build, conversions, inputs, renames=RENAMES)},
    Exporter("denoiser", UNet, _config),
)
# Of the same class.
NCSNPP = Family({}, Exporter("denoiser", NCSNpp, _config_of_ncsnpp))
