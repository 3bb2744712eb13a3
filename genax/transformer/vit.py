"""The Vision Transformer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genax.core.errors import GenaxError
from genax.nn.attention import Attention
from genax.nn.block import Block, Context
from genax.nn.feed_forward import FeedForward
from genax.nn.gelu import gelu
from genax.nn.layer_norm import LayerNorm
from genax.nn.patches import patchify
from genax.nn.projection import Projection
from genax.nn.stack import make_blocks, run_blocks


class ViT(nn.Module):
    """Pre-norm encoder over image patches and a class token: Dosovitskiy et al. 2021, eq. 1 to 4.

    image_size: height (and width) of the images that the learned positions are for.
    patch_size: height (and width) of a patch.
    num_classes: number of classes. 0 leaves the head out.
    mlp_size: width of the feed-forward network. None means 4 * hidden_size.
    pool: "token" classifies by the class token. "mean" has no class token and averages the patches
      (appendix D.3).
    init_scale: standard deviation of the initial positions.
    scan_layers, remat, attention: see `Decoder`.
    """

    image_size: int
    patch_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_classes: int
    mlp_size: int | None = None
    pool: str = "token"
    dropout: float = 0.0
    epsilon: float = 1e-6
    init_scale: float = 0.02
    scan_layers: bool = False
    remat: str = "none"
    attention: str = "auto"
    dtype: Any = jnp.float32

    def setup(self):
        """Make the embedding, blocks, norm and head.

        Raises GenaxError for an unknown pool.
        """
        if self.pool not in ("token", "mean"):
            raise GenaxError(f'ViT: pool={self.pool!r} is neither "token" nor "mean".')
        # The paper's published code has Xavier throughout. Its attention kernels are square, for
        # which Xavier is LeCun.
        init = nn.initializers.normal(self.init_scale)
        xavier, lecun = nn.initializers.xavier_uniform(), nn.initializers.lecun_normal()
        norm = partial(LayerNorm, self.epsilon)
        extra = self.pool == "token"
        self.patch_embedding = Projection((self.hidden_size,), dtype=self.dtype)
        if extra:
            zeros = nn.initializers.zeros
            self.class_token = self.param("class_token", zeros, (1, 1, self.hidden_size))
        places = (self.image_size // self.patch_size) ** 2 + extra
        shape = (1, places, self.hidden_size)
        self.position_embedding = self.param("position_embedding", init, shape)
        self.drop = nn.Dropout(self.dropout)
        self.blocks = make_blocks(
            Block,
            self.num_layers,
            self.scan_layers,
            self.remat,
            norm=norm,
            attention=partial(
                Attention,
                self.num_heads,
                dropout=self.dropout,
                kernel_init=lecun,
                output_init=lecun,
                attention=self.attention,
                dtype=self.dtype,
            ),
            feed_forward=partial(
                FeedForward,
                self.mlp_size or 4 * self.hidden_size,
                gelu,
                kernel_init=xavier,
                output_init=xavier,
                dtype=self.dtype,
            ),
            dropout=self.dropout,
        )
        self.final_norm = norm()
        if self.num_classes:
            zeros = nn.initializers.zeros
            self.head = Projection((self.num_classes,), kernel_init=zeros, dtype=self.dtype)

    def __call__(
        self, images: Float[Array, "b h w c"], train: bool = False
    ) -> Float[Array, "b classes"]:
        """Return scores of the classes."""
        x = self.hidden(images, train)
        return self.head(x[:, 0] if self.pool == "token" else x.mean(1))

    def hidden(self, images: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b t d"]:
        """Return the last hidden states: the class token's, if there is one, then the patches'.

        Raises GenaxError for images of another size than the positions are for.
        """
        if images.shape[1:3] != (self.image_size, self.image_size):
            raise GenaxError(
                f"ViT: images have {images.shape[1]}x{images.shape[2]} pixels, but the positions "
                f"are for {self.image_size}x{self.image_size}; resize the images."
            )
        x = self.patch_embedding(patchify(images, self.patch_size))
        if self.pool == "token":
            token = jnp.broadcast_to(self.class_token, (len(x), 1, self.hidden_size))
            x = jnp.concatenate([token.astype(x.dtype), x], axis=1)
        x = x + self.position_embedding.astype(x.dtype)
        x = self.drop(x, deterministic=not train)
        x, _ = run_blocks(self.blocks, x, Context(), None, train)
        return self.final_norm(x)


def attention_maps(
    vit: ViT, variables: Any, images: Float[Array, "b h w c"]
) -> Float[Array, "layers b heads t t"]:
    """Return softmax(query key^T / sqrt(h)) of every layer. Rows are queries.

    vit: unbound module.
    """
    if vit.scan_layers:
        params = dict(variables["params"])
        blocks = params.pop("blocks")
        for number in range(vit.num_layers):
            params[f"blocks_{number}"] = jax.tree.map(lambda x, i=number: x[i], blocks)
        vit, variables = vit.clone(scan_layers=False), {"params": params}
    _, captured = vit.apply(
        variables,
        images,
        capture_intermediates=lambda module, _: module.name == "qkv",
        mutable=["intermediates"],
        method="hidden",
    )
    maps = []
    for number in range(vit.num_layers):
        block = captured["intermediates"][f"blocks_{number}"]
        query, key, _ = jnp.unstack(block["attention"]["qkv"]["__call__"][0], axis=2)
        scores = jnp.einsum("btnh,bsnh->bnts", query, key) / query.shape[-1] ** 0.5
        maps.append(jax.nn.softmax(scores.astype(jnp.float32), axis=-1))
    return jnp.stack(maps)


@dataclass(frozen=True)
class ViTPreset:
    """Row of Dosovitskiy et al. 2021, table 1 (B, L, H), or Touvron et al. 2021, table 1 (Ti, S).

    params: number of parameters with 1000 classes at 224 x 224.
    """

    patch_size: int
    num_layers: int
    hidden_size: int
    num_heads: int
    params: int


VIT_PRESETS = {
    "ti16": ViTPreset(16, 12, 192, 3, 5_717_416),
    "s16": ViTPreset(16, 12, 384, 6, 22_050_664),
    "b16": ViTPreset(16, 12, 768, 12, 86_567_656),
    "l16": ViTPreset(16, 24, 1024, 16, 304_326_632),
    "h14": ViTPreset(14, 32, 1280, 16, 632_045_800),
}
