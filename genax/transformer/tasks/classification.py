"""The task of naming an image's class, and the settings of such experiments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from genax.core import Evaluator, Experiment, Loss, Phase, Sampler, Stage, Task
from genax.core.devices import Rules
from genax.core.task import Batch
from genax.data import ImageData, given_or
from genax.evaluation.examples import first_images
from genax.evaluation.pictures import check_pictures, image_grid
from genax.nn.lora import SETTINGS as LORA
from genax.nn.lora import adaptable
from genax.nn.optimizers import adamw, warmup_cosine
from genax.nn.placement import PARTITION_RULES
from genax.settings import from_config, start_from
from genax.settings.ranges import COUNT, POSITIVE, Ranges
from genax.transformer.cross_entropy import cross_entropy
from genax.transformer.settings import RANGES as TRANSFORMER
from genax.transformer.settings import SHORT_RUN
from genax.transformer.vit import attention_maps

# Fashion-MNIST, for a CPU.
DEFAULTS: dict[str, Any] = {
    **SHORT_RUN,
    **LORA,
    "dataset": "fashion_mnist",
    "train_split": "train",
    "test_split": "test",
    "num_classes": 10,
    # A run, or what `genax import` wrote, whose weights and sizes are taken; "" is none.
    "pretrained": "",
    # Whether the head starts anew. If not, it is taken with its number of classes.
    "new_head": True,
    # Height and width of the images, and whether half of the training images are mirrored.
    "size": 28,
    "flip": False,
    "patch_size": 4,
    # What is classified: the class "token", or the "mean" of the patches.
    "pool": "token",
    # Whether one block is compiled and looped over.
    "scan_layers": False,
    # The learning rate rises for warmup_steps and falls to 0 at decay_steps. It does not depend on
    # config.steps, so that a run may be stopped and prolonged.
    "learning_rate": 2e-3,
    "warmup_steps": 100,
    "decay_steps": 4_000,
    "weight_decay": 0.05,
    "clip": 1.0,
    "steps": 4_000,
    "num_samples": 16,
}
RANGES: Ranges = {
    **TRANSFORMER,
    **dict.fromkeys(("num_classes", "size", "patch_size"), COUNT),
    "epsilon": POSITIVE,
    "pool": ("token", "mean"),
}

# Embedded images, for tests.
DIGITS: dict[str, Any] = {
    "dataset": "digits",
    "size": 8,
    "learning_rate": 1e-3,
    "decay_steps": 300,
    "steps": 300,
}

IMAGENET: dict[str, Any] = {
    "dataset": "tfds:imagenet2012",
    "test_split": "validation",
    "num_classes": 1000,
    "size": 224,
    "flip": True,
    "checkpoint_every": 500,
    "sample_every": 500,
    "eval_every": 5_000,
}


class Networks(nn.Module):
    """Networks of image classification.

    classifier: images [b, h, w, c] -> logits [b, classes].
    """

    classifier: nn.Module


@adaptable("classifier/head")
def experiment(
    classifier: Any,
    config: ConfigDict,
    data: Any = None,
    pictures: Mapping[str, Callable[..., Any]] | None = None,
    rules: Rules = PARTITION_RULES,
) -> Experiment:
    """Return the experiment of naming classes with AdamW, a warm-up and a cosine.

    classifier: a `ViT`, or a network with its calls, its `pool` and its parameters' names.
    config: settings, those of `DEFAULTS` among them.
    data: see `given_or`.
    pictures: functions of samplers by name, (nets, batch) -> images. None is `show_attention`.
    rules: how the classifier's parameters are split over a mesh.
    """
    own = partial(from_config, ImageData, config, name=config.dataset, classes=config.num_classes)
    train, test = given_or(
        data,
        lambda: (own(split=config.train_split), own(split=config.test_split, flip=False)),
    )
    check_pictures(test)
    schedule = from_config(warmup_cosine, config, peak=config.learning_rate, final=0.0)
    optimizer = from_config(adamw, config, learning_rate=schedule, b2=0.999)
    pictures = {"attention": show_attention} if pictures is None else pictures
    task = Task(
        networks=Networks(classifier),
        stages=[Stage([Phase("classifier", class_loss, ("classifier",), optimizer)])],
        samplers={
            name: Sampler(draw, image_grid, partial(first_images, test))
            for name, draw in pictures.items()
        },
        evaluators={"test": Evaluator(partial(class_loss, train=False))},
        rules=rules,
    )
    pretrained = start_from(config, *network_parts(classifier, config.new_head))
    return Experiment(task, train, test, pretrained)


def network_parts(classifier: Any, new_head: bool) -> tuple[str, ...]:
    """Return patterns of the parameters that a task takes from another one's classifier."""
    if not new_head:
        return ("classifier",)
    parts = ["*embedding", "blocks*", "final_norm", *["class_token"] * (classifier.pool == "token")]
    return tuple(f"classifier/{part}" for part in parts)


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
