"""Two towers in one space of embeddings: a Vision Transformer and a BERT."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from genax.interop import bert, vit
from genax.interop.architecture import Architecture, Family, token_inputs
from genax.interop.configuration import Configuration
from genax.interop.conversion import Conversion, dense, flat
from genax.nn.projection import Projection
from genax.transformer.cross_entropy import cross_entropy
from genax.transformer.vit import ViT

Tokens = Int[Array, "b t"]
# The logarithm of 1 / 0.07, as published with CLIP.
LOGIT_SCALE = 2.6592


@struct.dataclass
class CLIPOutput:
    """Similarities of images and texts, their embeddings, and the loss if it was asked for."""

    logits_per_image: Float[Array, "b c"]
    logits_per_text: Float[Array, "c b"]
    text_embeds: Float[Array, "c d"]
    image_embeds: Float[Array, "b d"]
    loss: Float[Array, ""] | None = None


class VisionTextDualEncoderModel(nn.Module):
    """An encoder of images and one of texts, each with a projection: Zhai et al. 2022 (LiT)."""

    text_model: bert.BertModel
    vision_model: ViT
    projection_dim: int
    num_channels: int = 3

    @nn.compact
    def __call__(
        self,
        input_ids: Tokens,
        pixel_values: Float[Array, "b h w c"],
        attention_mask: Tokens | None = None,
        position_ids: Tokens | None = None,
        return_loss: bool = False,
        token_type_ids: Tokens | None = None,
        train: bool = False,
    ) -> CLIPOutput:
        """Return the similarities of all images and texts.

        pixel_values: images with their channels last.
        return_loss: also return the contrastive loss of images and texts of the same number.
        """
        first = self.vision_model.hidden(pixel_values, train)[:, 0]
        seen = jnp.tanh(Projection((first.shape[-1],), name="vision_pooler")(first))
        read = self.text_model(input_ids, attention_mask, token_type_ids, position_ids, train)
        assert read.pooler_output is not None
        image = self._embed(seen, "visual_projection")
        text = self._embed(read.pooler_output, "text_projection")
        scale = self.param("logit_scale", nn.initializers.constant(LOGIT_SCALE), ())
        per_text = jnp.exp(scale) * text @ image.T
        loss = None
        if return_loss:
            pairs = jnp.arange(len(per_text))
            both = cross_entropy(per_text, pairs), cross_entropy(per_text.T, pairs)
            loss = jnp.stack(both).mean()
        return CLIPOutput(per_text.T, per_text, text, image, loss)

    def _embed(self, pooled: Array, name: str) -> Array:
        found = Projection((self.projection_dim,), use_bias=False, name=name)(pooled)
        return found / jnp.linalg.norm(found, axis=-1, keepdims=True)


def inputs(model: VisionTextDualEncoderModel) -> dict[str, jax.Array]:
    """Return example inputs."""
    size = model.vision_model.image_size
    pixels = jnp.zeros((1, size, size, model.num_channels))
    return {**token_inputs(model), "pixel_values": pixels}


def build(architecture: str, config: Configuration, names: set[str]) -> nn.Module:
    """Build both towers, each from its section."""
    config.require(model_type="vision-text-dual-encoder")
    config.get("logit_scale_init_value")  # The file holds the scale itself.
    text, vision = config.section("text_config"), config.section("vision_config")
    text.get("tie_word_embeddings")  # The tower has no head.
    vision.require(pooler_act="tanh")
    return VisionTextDualEncoderModel(
        bert.BertModel(bert.build_encoder(text, with_pooler=True)),
        vit.build_network(vision, num_classes=0),
        config.size("projection_dim", 512),
        vision.size("num_channels", 3),
    )


def conversions(model: VisionTextDualEncoderModel) -> list[Conversion]:
    """Return the tensors of each variable."""
    return [
        *bert.encoder_conversions("text_model/encoder", "text_model.", model.text_model.encoder),
        *vit.network_conversions("vision_model", "vision_model.", model.vision_model),
        *dense("vision_pooler", "vision_model.pooler.dense"),
        *dense("text_projection", "text_projection", bias=False),
        *dense("visual_projection", "visual_projection", bias=False),
        flat("params/logit_scale", "logit_scale"),
    ]


FAMILY = Family(
    {
        "VisionTextDualEncoderModel": Architecture(
            build,
            conversions,
            inputs,
            buffers=(r"text_model\.embeddings\.(position|token_type)_ids",),
        )
    }
)
