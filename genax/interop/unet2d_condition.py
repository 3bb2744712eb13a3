"""diffusers' U-Net of latent diffusion: Stable Diffusion 1, 2 and XL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num

from genax.core.errors import GenaxError
from genax.diffusion.conditional_unet import ConditionalUNet
from genax.interop.architecture import Architecture, Config, Exporter, Family, Leaves
from genax.interop.configuration import Configuration
from genax.interop.conversion import Conversion, convolution, dense, embedding, fused, norm
from genax.interop.outputs import SampleOutput
from genax.interop.unet2d import RENAMES, residual_blocks, widths

NAME = "UNet2DConditionModel"
_DOWN = ("DownBlock2D", "CrossAttnDownBlock2D")
_UP = ("UpBlock2D", "CrossAttnUpBlock2D")
# Settings of which genax has one value, which is diffusers' default.
_ONLY: dict[str, Any] = {
    "act_fn": "silu",
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "only_cross_attention": False,
    "mid_block_only_cross_attention": False,
    "dual_cross_attention": False,
    "class_embed_type": None,
    "class_embeddings_concat": False,
    "encoder_hid_dim": None,
    "encoder_hid_dim_type": None,
    "time_embedding_type": "positional",
    "time_embedding_act_fn": None,
    "time_cond_proj_dim": None,
    "timestep_post_act": None,
    "resnet_skip_time_act": False,
    "resnet_time_scale_shift": "default",
    "attention_type": "default",
    "cross_attention_norm": None,
    "num_attention_heads": None,
    "reverse_transformer_layers_per_block": None,
}


class UNet2DConditionModel(nn.Module):
    """A U-Net whose pixels attend to a text.

    context_features: width of the text's states.
    added_features: width of the whole text and of the sinusoids of all further numbers. None means
      that there are none.
    linear_projection: whether files hold the projections around Transformers as linear layers, and
      not as convolutions.
    center: whether the input is in [0, 1] and is first brought to [-1, 1].
    """

    denoiser: ConditionalUNet
    in_channels: int
    context_features: int
    added_features: int | None = None
    linear_projection: bool = False
    center: bool = False

    def __call__(
        self,
        sample: Float[Array, "b h w c"],
        timestep: Num[Array, " b"],
        encoder_hidden_states: Float[Array, "b m e"],
        class_labels: Int[Array, " b"] | None = None,
        encoder_attention_mask: Num[Array, "b m"] | None = None,
        added_cond_kwargs: Mapping[str, Array] | None = None,
        train: bool = False,
    ) -> SampleOutput:
        """Return the denoiser's output.

        sample: noisy latents, with their channels last.
        encoder_attention_mask: 1 at real tokens of the text, 0 at padding.
        added_cond_kwargs: "text_embeds" and "time_ids", if the denoiser takes them.
        """
        added = added_cond_kwargs or {}
        output = self.denoiser(
            2 * sample - 1 if self.center else sample,
            timestep,
            train,
            encoder_hidden_states,
            None if encoder_attention_mask is None else encoder_attention_mask > 0,
            class_labels,
            added.get("text_embeds"),
            added.get("time_ids"),
        )
        return SampleOutput(output)


def inputs(model: UNet2DConditionModel) -> dict[str, Any]:
    """Return example inputs."""
    network = model.denoiser
    size = 2 ** (len(network.multipliers) - 1)
    found: dict[str, Any] = {
        "sample": jnp.zeros((1, size, size, model.in_channels)),
        "timestep": jnp.zeros(1),
        "encoder_hidden_states": jnp.zeros((1, 2, model.context_features)),
    }
    if network.num_classes is not None:
        found["class_labels"] = jnp.zeros(1, jnp.int32)
    if model.added_features is not None and network.added_time_features is not None:
        # One number, and a text that fills the rest.
        rest = model.added_features - network.added_time_features
        added = {"text_embeds": jnp.zeros((1, rest)), "time_ids": jnp.zeros((1, 1))}
        found["added_cond_kwargs"] = added
    return found


def build(architecture: str, config: Configuration, names: set[str]) -> nn.Module:
    """Build the denoiser."""
    config.require(**_ONLY)
    for name in ("mid_block_scale_factor", "resnet_out_scale_factor"):
        config.real(name, 1.0, 1.0, 1.0)
    for name in ("conv_in_kernel", "conv_out_kernel"):
        config.size(name, 3, 3, 3)
    # Without effect on what is computed in float32, or at one size of images only.
    for name in ("upcast_attention", "sample_size", "addition_embed_type_num_heads"):
        config.get(name)
    channels, multipliers = widths(config, (320, 640, 1280, 1280))
    config.size("time_embedding_dim", 4 * channels, 4 * channels, 4 * channels)
    count = len(multipliers)
    layers = _per_resolution(config, "transformer_layers_per_block", 1, count)
    attends = _attends(config, count)
    time_features, added_features = _added(config)
    network = ConditionalUNet(
        channels,
        multipliers,
        config.size("layers_per_block", 2),
        transformer_layers=tuple(
            number if attend else 0 for number, attend in zip(layers, attends, strict=True)
        ),
        middle_layers=layers[-1],
        num_heads=_per_resolution(config, "attention_head_dim", 8, count),
        out_channels=config.size("out_channels", 4),
        num_classes=config.optional("num_class_embeds"),
        added_time_features=time_features,
        dropout=config.real("dropout", 0.0),
        num_groups=config.size("norm_num_groups", 32),
        epsilon=config.real("norm_eps", 1e-5),
        frequency_shift=config.size("freq_shift", 0, least=0),
        cosine_first=config.get("flip_sin_to_cos", True),
        downsample_padding=config.size("downsample_padding", 1, least=0, most=1),
    )
    contexts = set(_per_resolution(config, "cross_attention_dim", 1280, count))
    if len(contexts) > 1:
        raise GenaxError(
            f"{config.source} has cross_attention_dim={config.get('cross_attention_dim')!r}; one "
            "width for all resolutions is supported."
        )
    return UNet2DConditionModel(
        network,
        config.size("in_channels", 4),
        contexts.pop(),
        added_features,
        config.get("use_linear_projection", False),
        config.get("center_input_sample", False),
    )


def _per_resolution(config: Configuration, name: str, default: int, count: int) -> tuple[int, ...]:
    """Return a number for each resolution, given as one for all or as a list.

    Raises GenaxError for a list of another length.
    """
    if not isinstance(config.get(name), list):
        return (config.size(name, default),) * count
    found = config.sizes(name, ())
    if len(found) != count:
        raise GenaxError(
            f"{config.source} has {name}={list(found)!r} for {count} resolutions: one number for "
            "each is supported."
        )
    return found


def _attends(config: Configuration, count: int) -> list[bool]:
    """Return which resolutions attend.

    Raises GenaxError if the way up is not that down.
    """
    down = config.words("down_block_types", (*(3 * [_DOWN[1]]), _DOWN[0]), _DOWN)
    up = config.words("up_block_types", (_UP[0], *(3 * [_UP[1]])), _UP)
    attends = [block == _DOWN[1] for block in down]
    if len(down) != count or attends != [block == _UP[1] for block in reversed(up)]:
        raise GenaxError(
            f"{config.source} has down_block_types={list(down)!r} and up_block_types={list(up)!r} "
            f"for {count} resolutions; only networks whose way up mirrors that down are supported."
        )
    return attends


def _added(config: Configuration) -> tuple[int | None, int | None]:
    """Return the width of the sinusoids of further numbers, and that of all that is added.

    Raises GenaxError for another addition, and for a width that leaves none for a text.
    """
    kind = config.get("addition_embed_type")
    if kind is None:
        config.require(addition_time_embed_dim=None, projection_class_embeddings_input_dim=None)
        return None, None
    if kind != "text_time":
        raise GenaxError(
            f"{config.source} has addition_embed_type={kind!r}; 'text_time' alone is supported."
        )
    time_features = config.need("addition_time_embed_dim")
    features = config.need("projection_class_embeddings_input_dim")
    if features <= time_features:
        raise GenaxError(
            f"{config.source} has projection_class_embeddings_input_dim={features}, which leaves "
            f"no text beside addition_time_embed_dim={time_features}."
        )
    return time_features, features


def conversions(model: UNet2DConditionModel) -> list[Conversion]:
    """Return the tensors of each variable."""
    network, last = model.denoiser, len(model.denoiser.multipliers) - 1
    found = residual_blocks(network)
    for ours, theirs in (("dense_0", "linear_1"), ("dense_1", "linear_2")):
        found += dense(f"denoiser/time_embedding/{ours}", f"time_embedding.{theirs}")
        if network.added_time_features is not None:
            found += dense(f"denoiser/added_embedding/{ours}", f"add_embedding.{theirs}")
    if network.num_classes is not None:
        found.append(embedding("denoiser/labels", "class_embedding"))
    places = {"middle_attention": ("mid_block.attentions.0", network.middle_layers)}
    for level, layers in enumerate(network.transformer_layers):
        for number in range(network.num_res_blocks + 1 if layers else 0):
            if number < network.num_res_blocks:
                name = f"down_blocks.{level}.attentions.{number}"
                places[f"down_{level}_attention_{number}"] = name, layers
            name = f"up_blocks.{last - level}.attentions.{number}"
            places[f"up_{level}_attention_{number}"] = name, layers
    for path, (name, layers) in places.items():
        found += _transformer(f"denoiser/{path}", name, layers, model.linear_projection)
    return found


def _transformer(path: str, name: str, layers: int, linear: bool) -> list[Conversion]:
    found = norm(f"{path}/norm", f"{name}.norm")
    for part in ("proj_in", "proj_out"):
        convert = dense if linear else _pointwise
        found += convert(f"{path}/{part}", f"{name}.{part}")
    for number in range(layers):
        ours, theirs = f"{path}/blocks_{number}", f"{name}.transformer_blocks.{number}"
        own, other = f"{theirs}.attn1", f"{theirs}.attn2"
        found += [
            *norm(f"{ours}/attention_norm", f"{theirs}.norm1"),
            *fused(f"{ours}/attention/qkv", [f"{own}.to_{part}" for part in "qkv"], False),
            *dense(f"{ours}/attention/output", f"{own}.to_out.0", num_in=2),
            *norm(f"{ours}/cross_attention_norm", f"{theirs}.norm2"),
            *dense(f"{ours}/cross_attention/query", f"{other}.to_q", False),
            *fused(
                f"{ours}/cross_attention/key_value", [f"{other}.to_{part}" for part in "kv"], False
            ),
            *dense(f"{ours}/cross_attention/output", f"{other}.to_out.0", num_in=2),
            *norm(f"{ours}/feed_forward_norm", f"{theirs}.norm3"),
            *dense(f"{ours}/feed_forward/expand_and_gate", f"{theirs}.ff.net.0.proj"),
            *dense(f"{ours}/feed_forward/output", f"{theirs}.ff.net.2"),
        ]
    return found


def _pointwise(path: str, name: str) -> list[Conversion]:
    """Convert a 1x1 convolution to a dense layer."""
    kernel, bias = convolution(path, name)

    def read(found, shape):
        return kernel.read(found, shape)[0, 0]

    whole = Conversion(kernel.path, kernel.names, read, lambda ours: kernel.write(ours[None, None]))
    return [whole, bias]


def _config(networks: Any, leaves: Leaves) -> Config:
    network: ConditionalUNet = networks.denoiser
    layers = list(network.transformer_layers)
    # In the middle there are as many blocks as at the lowest resolution.
    layers[-1] = layers[-1] or network.middle_layers
    wrong = layers[-1] != network.middle_layers or not network.middle_layers
    expressible = {
        "scale_shift": network.scale_shift is False,
        "residual_resampling": network.residual_resampling is False,
        "time_channels": network.time_channels in (None, network.channels),
        "middle_layers": not wrong,
    }
    for name, right in expressible.items():
        if not right:
            raise GenaxError(
                f"a ConditionalUNet with {name}={getattr(network, name)!r} cannot be exported: "
                "diffusers' has none."
            )
    attends = [bool(number) for number in network.transformer_layers]
    middle = "params/denoiser/middle_attention/blocks_0/cross_attention/key_value/kernel"
    added = network.added_time_features is not None
    rows = (network.num_classes or 0) + network.null_class
    return {
        "_class_name": NAME,
        **_ONLY,
        "in_channels": leaves["params/denoiser/conv_in/kernel"].shape[2],
        "out_channels": leaves["params/denoiser/conv_out/kernel"].shape[3],
        "block_out_channels": network.widths,
        "layers_per_block": network.num_res_blocks,
        "down_block_types": [_DOWN[attend] for attend in attends],
        "up_block_types": [_UP[attend] for attend in reversed(attends)],
        "transformer_layers_per_block": [number or 1 for number in layers],
        "attention_head_dim": list(network.num_heads),
        "cross_attention_dim": leaves[middle].shape[0],
        "use_linear_projection": True,
        "num_class_embeds": rows if network.num_classes is not None else None,
        "addition_embed_type": "text_time" if added else None,
        "addition_time_embed_dim": network.added_time_features,
        "projection_class_embeddings_input_dim": leaves[
            "params/denoiser/added_embedding/dense_0/kernel"
        ].shape[0]
        if added
        else None,
        "dropout": network.dropout,
        "norm_num_groups": network.num_groups,
        "norm_eps": network.epsilon,
        "freq_shift": network.frequency_shift,
        "flip_sin_to_cos": network.cosine_first,
        "downsample_padding": network.downsample_padding,
    }


FAMILY = Family(
    {NAME: Architecture(build, conversions, inputs, renames=RENAMES)},
    Exporter("denoiser", ConditionalUNet, _config),
)
