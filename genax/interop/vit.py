"""The Vision Transformer."""

from __future__ import annotations

import flax.linen as nn
from jaxtyping import Array, Float, Num

from genax.interop.configuration import Fields
from genax.interop.conversion import Link, attention, dense, flat, norm, patches
from genax.interop.outputs import LMOutput, classification_loss
from genax.transformer.vit import ViT


class ViTForImageClassification(nn.Module):
    """Classes of images."""

    vit: ViT
    num_channels: int = 3
    problem_type: str | None = None

    def __call__(
        self,
        pixel_values: Float[Array, "b h w c"],
        labels: Num[Array, "b ..."] | None = None,
        train: bool = False,
    ) -> LMOutput:
        """Logits of the classes. pixel_values: channels last."""
        logits = self.vit(pixel_values, train)
        return LMOutput(logits, classification_loss(logits, labels, self.problem_type))


def build(architecture: str, fields: Fields, names: set[str]) -> nn.Module:
    """The model that a directory describes."""
    fields.require(model_type="vit", qkv_bias=True, hidden_act="gelu")
    return ViTForImageClassification(
        ViT(
            image_size=fields.side("image_size"),
            patch_size=fields.side("patch_size"),
            hidden_size=fields.need("hidden_size"),
            num_layers=fields.layers("num_hidden_layers"),
            num_heads=fields.need("num_attention_heads"),
            num_classes=fields.labels(),
            mlp_size=fields.need("intermediate_size"),
            dropout=fields.real("hidden_dropout_prob", 0.0),
            epsilon=fields.real("layer_norm_eps", 1e-12),
        ),
        fields.size("num_channels", 3),
        fields.problem(),
    )


def links(model: ViTForImageClassification) -> list[Link]:
    """Parameters and tensors."""
    vit, inside = model.vit, "vit.embeddings"
    found = [
        flat("vit/class_token", f"{inside}.cls_token"),
        flat("vit/position_embedding", f"{inside}.position_embeddings"),
        patches(
            "vit/patch_embedding/kernel",
            f"{inside}.patch_embeddings.projection.weight",
            vit.patch_size,
        ),
        flat("vit/patch_embedding/bias", f"{inside}.patch_embeddings.projection.bias"),
        *norm("vit/final_norm", "vit.layernorm"),
        *dense("vit/head", "classifier"),
    ]
    for number in range(vit.num_layers):
        ours, theirs = f"vit/blocks_{number}", f"vit.encoder.layer.{number}"
        names = [f"{theirs}.attention.attention.{part}" for part in ("query", "key", "value")]
        found += [
            *attention(f"{ours}/attention", [*names, f"{theirs}.attention.output.dense"]),
            *norm(f"{ours}/attention_norm", f"{theirs}.layernorm_before"),
            *norm(f"{ours}/feed_forward_norm", f"{theirs}.layernorm_after"),
            *dense(f"{ours}/feed_forward/expand", f"{theirs}.intermediate.dense"),
            *dense(f"{ours}/feed_forward/output", f"{theirs}.output.dense"),
        ]
    return found
