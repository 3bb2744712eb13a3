"""The loss of a classifier of noisy images, which guides samples."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
import optax

from genax.core import Loss
from genax.core.task import Batch
from genax.diffusion.losses import corrupted
from genax.diffusion.process import Process, network_times


def noisy_classification_loss(
    nets: nn.Module, batch: Batch, process: Process, network: str = "guide", train: bool = True
) -> Loss:
    """Cross entropy of the class of an image at a random time (Dhariwal & Nichol 2021, section 4).

    Values are [b]. "accuracy" is whether the class has the largest logit.

    batch["image"]: [b, h, w, c] in [-1, 1]. batch["label"]: [b].
    network: name of the classifier, (noisy, times) -> logits, among the task's networks.
    train: whether dropout is on.
    """
    timesteps, _, _, noisy = corrupted(nets, batch, process)
    logits = getattr(nets, network)(noisy, network_times(process, timesteps), train=train)
    label = batch["label"]
    right = (jnp.argmax(logits, axis=-1) == label).astype(jnp.float32)
    values = optax.softmax_cross_entropy_with_integer_labels(logits, label)
    return Loss(values, aux={"accuracy": right})
