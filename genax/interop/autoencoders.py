"""diffusers' autoencoders of latent diffusion: normal latents, and words of a codebook."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from genax.core.errors import GenaxError
from genax.interop.architecture import Architecture, Config, Exporter, Family, Leaves
from genax.interop.configuration import Configuration
from genax.interop.conversion import (
    Conversion,
    convolution,
    flat,
    norm,
    pixel_attention,
    residual_block,
)
from genax.interop.outputs import SampleOutput
from genax.interop.unet2d import RENAMES, widths
from genax.vae.distributions import Gaussian
from genax.vae.kl_autoencoder import KLAutoencoder
from genax.vae.vq_autoencoder import VQAutoencoder

KL, VQ_MODEL = "AutoencoderKL", "VQModel"
# Blocks of a resolution without attention and with it.
_DOWN = ("DownEncoderBlock2D", "AttnDownEncoderBlock2D")
_UP = ("UpDecoderBlock2D", "AttnUpDecoderBlock2D")
_EPSILON = 1e-6
# The weight of one half of VQModel's loss. It stands at the distance that moves words, although the
# paper has it at the other one: diffusers keeps this of the first code.
_WEIGHT = 0.25
_FARTHEST = 1e6

Network = KLAutoencoder | VQAutoencoder


@struct.dataclass
class EncoderOutput:
    """Normal distributions of latents, or latents that are not quantised yet; channels last."""

    latent_dist: Gaussian | None = None
    latents: Float[Array, "b h w z"] | None = None


class AutoencoderKL(nn.Module):
    """An autoencoder with normal latents.

    `apply(variables, images, method="encode")` and `method="decode"` are its two halves.
    """

    autoencoder: KLAutoencoder
    in_channels: int = 3

    def __call__(self, sample: Float[Array, "b h w c"], train: bool = False) -> SampleOutput:
        """Return images of the means of their posteriors.

        sample: images in [-1, 1], with their channels last.
        """
        return SampleOutput(self.autoencoder(sample, train))

    def encode(self, x: Float[Array, "b h w c"], train: bool = False) -> EncoderOutput:
        """Return the posterior of images."""
        return EncoderOutput(latent_dist=self.autoencoder.encode(x, train))

    def decode(self, z: Float[Array, "b h w z"], train: bool = False) -> SampleOutput:
        """Return the images of latents that are not scaled."""
        return SampleOutput(self.autoencoder.decode(z, train))


class VQModel(nn.Module):
    """An autoencoder whose latents are words of a codebook.

    `apply(variables, images, method="encode")` and `method="decode"` are its two halves.
    """

    autoencoder: VQAutoencoder
    in_channels: int = 3

    def __call__(self, sample: Float[Array, "b h w c"], train: bool = False) -> SampleOutput:
        """Return images of the words nearest to their latents, and the loss of these.

        sample: images in [-1, 1], with their channels last.
        """
        return self.decode(self.autoencoder.encode(sample, train), train)

    def encode(self, x: Float[Array, "b h w c"], train: bool = False) -> EncoderOutput:
        """Return the latents of images, which are not quantised yet."""
        return EncoderOutput(latents=self.autoencoder.encode(x, train))

    def decode(self, h: Float[Array, "b h w z"], train: bool = False) -> SampleOutput:
        """Return the images of the words nearest to latents."""
        found = self.autoencoder.quantise(h)
        loss = (found.commitment_error + _WEIGHT * found.codebook_error).mean()
        return SampleOutput(self.autoencoder.decode(found.latents, train), loss)


def inputs(model: AutoencoderKL | VQModel) -> dict[str, jax.Array]:
    """Return example inputs."""
    side = 2 ** (len(model.autoencoder.multipliers) - 1)
    return {"sample": jnp.zeros((1, side, side, model.in_channels))}


def build(architecture: str, config: Configuration, names: set[str]) -> nn.Module:
    """Build the autoencoder."""
    config.require(act_fn="silu")
    # Without effect on what is computed in float32, or for images in tiles only.
    for name in ("force_upcast", "sample_size"):
        config.get(name)
    channels, multipliers = widths(config, (64,))
    shared: dict[str, Any] = {
        "channels": channels,
        "multipliers": multipliers,
        "num_res_blocks": config.size("layers_per_block", 1),
        "attention_levels": _levels(config, len(multipliers)),
        "middle_attention": config.get("mid_block_add_attention", True),
        "num_groups": config.size("norm_num_groups", 32),
        "epsilon": _EPSILON,
        "image_channels": config.size("out_channels", 3),
        "scaling_factor": config.real("scaling_factor", 0.18215, most=_FARTHEST, above=True),
    }
    in_channels = config.size("in_channels", 3)
    if architecture == VQ_MODEL:
        config.require(norm_type="group", lookup_from_codebook=False)
        latent_channels = config.size("latent_channels", 3)
        code_size = config.optional("vq_embed_dim")
        network = VQAutoencoder(
            **shared,
            latent_channels=latent_channels,
            num_codes=config.size("num_vq_embeddings", 256),
            code_size=None if code_size == latent_channels else code_size,
        )
        return VQModel(network, in_channels)
    config.require(latents_mean=None, latents_std=None)
    convs = [config.get(f"use_{name}", True) for name in ("quant_conv", "post_quant_conv")]
    if convs[0] != convs[1]:
        raise GenaxError(
            f"{config.source} has use_quant_conv={convs[0]!r} and use_post_quant_conv={convs[1]!r};"
            " only both or neither are supported."
        )
    return AutoencoderKL(
        KLAutoencoder(
            **shared,
            latent_channels=config.size("latent_channels", 4),
            quant_convs=convs[0],
            shift_factor=config.real("shift_factor", 0.0, -_FARTHEST, _FARTHEST),
        ),
        in_channels,
    )


def _levels(config: Configuration, count: int) -> tuple[int, ...]:
    """Return the numbers of the resolutions that attend.

    Raises GenaxError if the decoder's are not those of the encoder.
    """
    down = config.words("down_block_types", _DOWN[:1], _DOWN)
    up = config.words("up_block_types", _UP[:1], _UP)
    attends = [_DOWN.index(block) for block in down]
    if len(down) != count or attends != [_UP.index(block) for block in reversed(up)]:
        raise GenaxError(
            f"{config.source} has down_block_types={list(down)!r} and up_block_types={list(up)!r} "
            f"for {count} resolutions; only decoders that mirror their encoders are supported."
        )
    return tuple(level for level, attend in enumerate(attends) if attend)


def conversions(model: AutoencoderKL | VQModel) -> list[Conversion]:
    """Return the tensors of each variable."""
    network = model.autoencoder
    found = [*_encoder(network), *_decoder(network)]
    if isinstance(network, VQAutoencoder) or network.quant_convs:
        for name in ("quant_conv", "post_quant_conv"):
            found += convolution(f"autoencoder/{name}", name)
    if isinstance(network, VQAutoencoder):
        found.append(flat("params/autoencoder/codebook", "quantize.embedding.weight"))
    return found


def _encoder(network: Network) -> list[Conversion]:
    found, width = _ends(network, "encoder"), network.channels
    for level, multiplier in enumerate(network.multipliers):
        features = network.channels * multiplier
        ours, theirs = f"autoencoder/encoder/down_{level}", f"encoder.down_blocks.{level}"
        found += _blocks(network, ours, theirs, level, network.num_res_blocks, width != features)
        width = features
        if level < len(network.multipliers) - 1:
            found += convolution(f"{ours}_downsample/conv", f"{theirs}.downsamplers.0.conv")
    return found


def _decoder(network: Network) -> list[Conversion]:
    last = len(network.multipliers) - 1
    found, width = _ends(network, "decoder"), network.channels * network.multipliers[-1]
    for level in reversed(range(last + 1)):
        features = network.channels * network.multipliers[level]
        ours, theirs = f"autoencoder/decoder/up_{level}", f"decoder.up_blocks.{last - level}"
        count = network.num_res_blocks + 1
        found += _blocks(network, ours, theirs, level, count, width != features)
        width = features
        if level:
            found += convolution(f"{ours}_upsample", f"{theirs}.upsamplers.0.conv")
    return found


def _blocks(
    network: Network, ours: str, theirs: str, level: int, count: int, shortcut: bool
) -> list[Conversion]:
    """Convert the blocks of a resolution, of which the first may have a shortcut."""
    found = []
    for number in range(count):
        first = shortcut and not number
        names = f"{ours}_residual_{number}", f"{theirs}.resnets.{number}"
        found += residual_block(*names, first, condition=False)
        if level in network.attention_levels:
            found += pixel_attention(f"{ours}_attention_{number}", f"{theirs}.attentions.{number}")
    return found


def _ends(network: Network, way: str) -> list[Conversion]:
    """Convert the first and last layers of the encoder or decoder, and those in the middle."""
    ours = f"autoencoder/{way}"
    found = [
        *convolution(f"{ours}/conv_in", f"{way}.conv_in"),
        *norm(f"{ours}/norm_out", f"{way}.conv_norm_out"),
        *convolution(f"{ours}/conv_out", f"{way}.conv_out"),
    ]
    for number in range(2):
        names = f"{ours}/middle_residual_{number}", f"{way}.mid_block.resnets.{number}"
        found += residual_block(*names, False, condition=False)
    if network.middle_attention:
        found += pixel_attention(f"{ours}/middle_attention", f"{way}.mid_block.attentions.0")
    return found


def experiment(model: AutoencoderKL) -> tuple[str, dict[str, Any]] | None:
    """Return the experiment that trains such autoencoders, without features and an opponent.

    Those are no part of the weights. There is none for images other than grey or RGB.
    """
    channels = model.in_channels
    if channels not in (1, 3) or model.autoencoder.image_channels != channels:
        return None
    data = {"dataset": "digits", "size": 8} if channels == 1 else {"dataset": "cifar10", "size": 32}
    alone = {"perceptual": "none", "adversarial_weight": 0.0}
    return "experiments/vae/kl_autoencoder.py:digits", data | alone


def _leaves(network: Network, leaves: Leaves) -> Leaves:
    """Return the variables of the autoencoder alone, of all of a task."""
    return {path: leaf for path, leaf in leaves.items() if path.startswith("params/autoencoder/")}


def _shared(network: Network, leaves: Leaves) -> Config:
    """Return the settings that both classes have.

    Raises GenaxError for a network that they cannot express.
    """
    if network.epsilon != _EPSILON:
        raise GenaxError(
            f"a {type(network).__name__} with epsilon={network.epsilon!r} cannot be exported: "
            f"diffusers' has epsilon={_EPSILON!r} only."
        )
    attends = [level in network.attention_levels for level in range(len(network.multipliers))]
    kernel = leaves["params/autoencoder/encoder/conv_in/kernel"]
    return {
        "act_fn": "silu",
        "in_channels": kernel.shape[2],
        "out_channels": network.image_channels,
        "block_out_channels": [network.channels * one for one in network.multipliers],
        "layers_per_block": network.num_res_blocks,
        "down_block_types": [_DOWN[attend] for attend in attends],
        "up_block_types": [_UP[attend] for attend in reversed(attends)],
        "mid_block_add_attention": network.middle_attention,
        "norm_num_groups": network.num_groups,
        "latent_channels": network.latent_channels,
        "scaling_factor": network.scaling_factor,
    }


def _kl_config(networks: Any, leaves: Leaves) -> Config:
    network: KLAutoencoder = networks.autoencoder
    return {
        "_class_name": KL,
        **_shared(network, leaves),
        "shift_factor": network.shift_factor or None,
        "use_quant_conv": network.quant_convs,
        "use_post_quant_conv": network.quant_convs,
    }


def _vq_config(networks: Any, leaves: Leaves) -> Config:
    network: VQAutoencoder = networks.autoencoder
    return {
        "_class_name": VQ_MODEL,
        **_shared(network, leaves),
        "num_vq_embeddings": network.num_codes,
        "vq_embed_dim": network.code_size,
        "norm_type": "group",
    }


FAMILY = Family(
    {KL: Architecture(build, conversions, inputs, renames=RENAMES, experiment=experiment)},
    Exporter("autoencoder", KLAutoencoder, _kl_config, _leaves),
)
VQ = Family(
    {VQ_MODEL: Architecture(build, conversions, inputs, renames=RENAMES)},
    Exporter("autoencoder", VQAutoencoder, _vq_config, _leaves),
)
