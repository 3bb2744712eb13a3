"""The Diffusion Transformer."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num

from genax.core.errors import GenaxError
from genax.diffusion.dit import DiT, square_positions
from genax.interop.architecture import Architecture, Config, Exporter, Family, Leaves
from genax.interop.configuration import LARGEST, MOST_LAYERS, MOST_PIXELS, Configuration
from genax.interop.conversion import (
    Conversion,
    attention,
    dense,
    embedding,
    flat,
    patches,
    repeated,
)
from genax.interop.outputs import SampleOutput

NAME = "DiTTransformer2DModel"
# Older files, such as those of the paper's networks, name a class of many networks.
OLDER = "Transformer2DModel"
# Settings of which genax has one value. Of the older class it is not the default.
_ONLY: dict[str, Any] = {
    "norm_type": "ada_norm_zero",
    "activation_fn": "gelu-approximate",
    "attention_bias": True,
    "norm_elementwise_affine": False,
}
# Channels of images; others are latents.
PICTURES = (1, 3)
# The defaults of diffusers, and the largest that are read.
_SIZES = {
    "num_attention_heads": (16, LARGEST),
    "attention_head_dim": (72, LARGEST),
    "num_layers": (28, MOST_LAYERS),
    "sample_size": (32, MOST_PIXELS),
    "patch_size": (2, MOST_PIXELS),
    "num_embeds_ada_norm": (1000, LARGEST),
}


class DiTTransformer2DModel(nn.Module):
    """A Diffusion Transformer with labels.

    Blocks of diffusers hold an embedding of times and labels each. All of them are equal, and here
    is one.
    """

    denoiser: DiT
    in_channels: int = 4

    def __call__(
        self,
        hidden_states: Float[Array, "b h w c"],
        timestep: Num[Array, " b"],
        class_labels: Int[Array, " b"],
        train: bool = False,
    ) -> SampleOutput:
        """Return the denoiser's output.

        hidden_states: noisy images or latents, with their channels last.
        """
        return SampleOutput(self.denoiser(hidden_states, timestep, train, class_labels))


def inputs(model: DiTTransformer2DModel) -> dict[str, jax.Array]:
    """Return example inputs."""
    size = model.denoiser.image_size
    one = jnp.zeros(1, jnp.int32)
    images = jnp.zeros((1, size, size, model.in_channels))
    return {"hidden_states": images, "timestep": one, "class_labels": one}


def build(architecture: str, config: Configuration, names: set[str]) -> nn.Module:
    """Build the denoiser."""
    if architecture == OLDER:
        lacks = [name for name in (*_ONLY, *_SIZES) if config.get(name) is None]
        if lacks:
            raise GenaxError(
                f"{config.source} is a {OLDER} without {', '.join(lacks)}; of that class only "
                "Diffusion Transformers are supported, which have these settings."
            )
    config.require(**_ONLY)
    # Without effect on what is computed in float32.
    for name in ("norm_num_groups", "upcast_attention"):
        config.get(name)
    sizes = {name: config.size(name, size, most=most) for name, (size, most) in _SIZES.items()}
    channels = config.size("in_channels", 4)
    dit = DiT(
        image_size=sizes["sample_size"],
        patch_size=sizes["patch_size"],
        hidden_size=sizes["num_attention_heads"] * sizes["attention_head_dim"],
        num_layers=sizes["num_layers"],
        num_heads=sizes["num_attention_heads"],
        out_channels=config.size("out_channels", channels),
        num_classes=sizes["num_embeds_ada_norm"],
        null_class=True,
        frequency_shift=1,
        feed_forward_epsilon=config.real("norm_eps", 1e-5),
    )
    return DiTTransformer2DModel(dit, channels)


def conversions(model: DiTTransformer2DModel) -> list[Conversion]:
    """Return the tensors of each variable."""
    dit = model.denoiser
    blocks = [f"transformer_blocks.{number}" for number in range(dit.num_layers)]
    found = [
        patches("params/denoiser/patch_embedding/kernel", "pos_embed.proj.weight", dit.patch_size),
        flat("params/denoiser/patch_embedding/bias", "pos_embed.proj.bias"),
        *repeated(*(_embeddings(f"{block}.norm1.emb") for block in blocks)),
        *dense("denoiser/final_layer/modulation", "proj_out_1"),
        *dense("denoiser/final_layer/output", "proj_out_2"),
    ]
    for number, block in enumerate(blocks):
        ours = f"denoiser/blocks_{number}"
        names = [f"{block}.attn1.{part}" for part in ("to_q", "to_k", "to_v", "to_out.0")]
        found += [
            *dense(f"{ours}/modulation", f"{block}.norm1.linear"),
            *attention(f"{ours}/attention", names),
            *dense(f"{ours}/feed_forward/expand", f"{block}.ff.net.0.proj"),
            *dense(f"{ours}/feed_forward/output", f"{block}.ff.net.2"),
        ]
    return found


def _embeddings(name: str) -> list[Conversion]:
    """Convert the embeddings of times and labels that one block holds."""
    times = "denoiser/time_embedding"
    return [
        *dense(f"{times}/dense_0", f"{name}.timestep_embedder.linear_1"),
        *dense(f"{times}/dense_1", f"{name}.timestep_embedder.linear_2"),
        embedding("denoiser/labels", f"{name}.class_embedder.embedding_table"),
    ]


def fixed(model: DiTTransformer2DModel) -> dict[str, Any]:
    """Return the table of positions, which older files hold."""
    dit = model.denoiser
    return {
        "pos_embed.pos_embed": square_positions(dit.image_size // dit.patch_size, dit.hidden_size)[
            None
        ]
    }


def experiment(model: DiTTransformer2DModel) -> tuple[str, dict[str, Any]] | None:
    """Return the experiment that trains such denoisers, with or without learned variances."""
    channels, dit = model.in_channels, model.denoiser
    if dit.out_channels not in (channels, 2 * channels):
        return None
    own: dict[str, Any] = {"learn_variance": dit.out_channels == 2 * channels}
    if channels in PICTURES:
        own["dataset"] = "digits" if channels == 1 else "cifar10"
    else:
        own |= {"latent_channels": channels, "dataset": "npz:latents", "test_split": ""}
    return "experiments/diffusion/dit.py:digits", own


def _config(networks: Any, leaves: Leaves) -> Config:
    dit: DiT = networks.denoiser
    wanted = {
        "conditioning": "adaln_zero",
        "mlp_size": 4 * dit.hidden_size,
        "null_class": True,
        "two_times": False,
        "frequency_shift": 1,
    }
    found = {name: getattr(dit, name) for name in wanted}
    found["mlp_size"] = found["mlp_size"] or wanted["mlp_size"]
    wrong = [name for name in wanted if found[name] != wanted[name]]
    if dit.num_classes is None or wrong:
        named = ", ".join(f"{name}={found[name]!r}" for name in wrong) or "num_classes=None"
        raise GenaxError(
            f"a DiT with {named} cannot be exported: diffusers' has labels and "
            f"{', '.join(f'{name}={value!r}' for name, value in wanted.items())}."
        )
    patch = len(leaves["params/denoiser/patch_embedding/kernel"])
    output = len(leaves["params/denoiser/final_layer/output/bias"])
    return {
        "_class_name": NAME,
        **_ONLY,
        "num_attention_heads": dit.num_heads,
        "attention_head_dim": dit.hidden_size // dit.num_heads,
        "in_channels": patch // dit.patch_size**2,
        "out_channels": output // dit.patch_size**2,
        "num_layers": dit.num_layers,
        "sample_size": dit.image_size,
        "patch_size": dit.patch_size,
        "num_embeds_ada_norm": dit.num_classes,
        "norm_eps": dit.feed_forward_epsilon,
    }


_ARCHITECTURE = Architecture(build, conversions, inputs, fixed=fixed, experiment=experiment)
FAMILY = Family(
    {NAME: _ARCHITECTURE, OLDER: _ARCHITECTURE},
    Exporter("denoiser", DiT, _config),
)
