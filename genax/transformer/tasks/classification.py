"""The task of naming an image's class."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from genax.core import Loss
from genax.core.task import Batch
from genax.transformer.cross_entropy import cross_entropy
from genax.transformer.vit import attention_maps


class Networks(nn.Module):
    """Networks of image classification.

    classifier: images [b, h, w, c] -> logits [b, classes].
    """

    classifier: nn.Module


def class_loss(nets: Any, batch: Batch, train: bool = True) -> Loss:
    """Loss -log p(label | image), in nats. Metric: accuracy.

    batch["image"]: [b, h, w, c] in [-1, 1].
    batch["label"]: int32 [b].
    train: whether dropout is on. Evaluators set it to False.
    """
    logits = nets.classifier(batch["image"], train=train).astype(jnp.float32)
    hits = (logits.argmax(-1) == batch["label"]).astype(jnp.float32)
    return Loss(cross_entropy(logits, batch["label"]), aux={"accuracy": hits})


def show_attention(nets: Any, batch: Batch) -> Float[Array, "b h w c"]:
    """Draw images, and to their right what the class token of the last layer attends to.

    The map is the mean over heads, and its largest number is white. With pooling by the mean it is
    also the mean over all queries. Figure 6 of Dosovitskiy et al. 2021 has the product of all
    layers' maps instead.

    batch["image"]: [b, h, w, c] in [-1, 1].
    """
    images, (vit, variables) = batch["image"], nets.classifier.unbind()
    weights = attention_maps(vit, variables, images)[-1].mean(1)
    weights = weights[:, 0, 1:] if vit.pool == "token" else weights.mean(1)
    side = vit.image_size // vit.patch_size
    maps = weights.reshape(-1, side, side, 1)
    maps = 2 * maps / maps.max((1, 2, 3), keepdims=True) - 1
    maps = jax.image.resize(maps, (*images.shape[:3], 1), "nearest")
    return jnp.concatenate([images, jnp.broadcast_to(maps, images.shape)], axis=2)


def first_images(data: Any, num: int, workdir: Any) -> dict[str, np.ndarray]:
    """Condition of `show_attention`: the first images of a data set, repeated if it has too few."""
    from genax.evaluation.classifier import labelled_images

    return {"image": np.take(labelled_images(data, num)[0], range(num), 0, mode="wrap")}
