"""The Vision Transformer."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from genax.core.errors import GenaxError
from genax.interop.architecture import Architecture, Config, Exporter, Family, Leaves
from genax.interop.configuration import Configuration, label_names
from genax.interop.conversion import Conversion, attention, dense, flat, norm, patches
from genax.interop.outputs import LMOutput, classification_loss
from genax.transformer.vit import ViT


class ViTForImageClassification(nn.Module):
    """A Vision Transformer with a head for classes of images."""

    classifier: ViT
    num_channels: int = 3
    problem_type: str | None = None

    def __call__(
        self,
        pixel_values: Float[Array, "b h w c"],
        labels: Num[Array, "b ..."] | None = None,
        train: bool = False,
    ) -> LMOutput:
        """Return the logits of the classes.

        pixel_values: images with their channels last.
        """
        logits = self.classifier(pixel_values, train)
        return LMOutput(logits, classification_loss(logits, labels, self.problem_type))


def inputs(model: ViTForImageClassification) -> dict[str, jax.Array]:
    """Return example inputs."""
    size = model.classifier.image_size
    return {"pixel_values": jnp.zeros((1, size, size, model.num_channels))}


def build(architecture: str, config: Configuration, names: set[str]) -> nn.Module:
    """Build the classifier."""
    return ViTForImageClassification(
        build_network(config, config.labels()), config.size("num_channels", 3), config.problem()
    )


def build_network(config: Configuration, num_classes: int) -> ViT:
    """Build the network that a configuration or a section of it describes."""
    config.require(model_type="vit", qkv_bias=True, hidden_act="gelu")
    return ViT(
        image_size=config.side("image_size"),
        patch_size=config.side("patch_size"),
        hidden_size=config.need("hidden_size"),
        num_layers=config.layers("num_hidden_layers"),
        num_heads=config.need("num_attention_heads"),
        num_classes=num_classes,
        mlp_size=config.need("intermediate_size"),
        dropout=config.real("hidden_dropout_prob", 0.0),
        epsilon=config.real("layer_norm_eps", 1e-12),
    )


def conversions(model: ViTForImageClassification) -> list[Conversion]:
    """Return the tensors of each variable."""
    network = network_conversions("classifier", "vit.", model.classifier)
    return [*network, *dense("classifier/head", "classifier")]


def network_conversions(path: str, prefix: str, vit: ViT) -> list[Conversion]:
    """Return the tensors of each variable of a network without its head.

    path: the network's path.
    prefix: the beginning of the tensors' names, with its dot.
    """
    inside = f"{prefix}embeddings"
    projection = f"{inside}.patch_embeddings.projection"
    found = [
        flat(f"params/{path}/class_token", f"{inside}.cls_token"),
        flat(f"params/{path}/position_embedding", f"{inside}.position_embeddings"),
        patches(f"params/{path}/patch_embedding/kernel", f"{projection}.weight", vit.patch_size),
        flat(f"params/{path}/patch_embedding/bias", f"{projection}.bias"),
        *norm(f"{path}/final_norm", f"{prefix}layernorm"),
    ]
    for number in range(vit.num_layers):
        ours, theirs = f"{path}/blocks_{number}", f"{prefix}encoder.layer.{number}"
        names = [f"{theirs}.attention.attention.{part}" for part in ("query", "key", "value")]
        found += [
            *attention(f"{ours}/attention", [*names, f"{theirs}.attention.output.dense"]),
            *norm(f"{ours}/attention_norm", f"{theirs}.layernorm_before"),
            *norm(f"{ours}/feed_forward_norm", f"{theirs}.layernorm_after"),
            *dense(f"{ours}/feed_forward/expand", f"{theirs}.intermediate.dense"),
            *dense(f"{ours}/feed_forward/output", f"{theirs}.output.dense"),
        ]
    return found


def experiment(model: ViTForImageClassification) -> tuple[str, dict[str, Any]] | None:
    """Return the experiment that trains such a classifier, unless an image has several classes."""
    if model.problem_type not in (None, "single_label_classification"):
        return None
    data = {"dataset": "digits"} if model.num_channels == 1 else {"dataset": "tfds:imagenet2012"}
    return "experiments/transformer/vit.py:digits", data | {"new_head": False}


def _config(networks: Any, leaves: Leaves) -> Config:
    vit: ViT = networks.classifier
    if vit.pool != "token":
        raise GenaxError("a ViT that pools by the mean cannot be exported: transformers has none.")
    inputs = len(leaves["params/classifier/patch_embedding/kernel"])
    return {
        "architectures": ["ViTForImageClassification"],
        "model_type": "vit",
        "image_size": vit.image_size,
        "patch_size": vit.patch_size,
        "num_channels": inputs // vit.patch_size**2,
        "hidden_size": vit.hidden_size,
        "num_hidden_layers": vit.num_layers,
        "num_attention_heads": vit.num_heads,
        "intermediate_size": vit.mlp_size or 4 * vit.hidden_size,
        "hidden_dropout_prob": vit.dropout,
        "layer_norm_eps": vit.epsilon,
        **label_names(vit.num_classes),
    }


FAMILY = Family(
    {"ViTForImageClassification": Architecture(build, conversions, inputs, experiment=experiment)},
    Exporter("classifier", ViT, _config),
)
