"""What imported models of several families return: the fields of their Hugging Face namesakes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int, Num

from genax.transformer.cross_entropy import cross_entropy
from genax.transformer.token_range import check_range

IGNORED = -100


@struct.dataclass
class BaseModelOutput:
    """Hidden states, and the pooled one if there is a pooler."""

    last_hidden_state: Float[Array, "b t d"]
    pooler_output: Float[Array, "b d"] | None = None


@struct.dataclass
class LMOutput:
    """Logits of tokens or of classes, and the loss if labels were given."""

    logits: Float[Array, "*b classes"]
    loss: Float[Array, ""] | None = None
    encoder_last_hidden_state: Float[Array, "b s d"] | None = None


@struct.dataclass
class SampleOutput:
    """What a denoiser or a decoder of diffusers returns, channels last.

    commit_loss: of a codebook, if there is one.
    """

    sample: Float[Array, "b h w c"]
    commit_loss: Float[Array, ""] | None = None


def label_loss(
    logits: Float[Array, "*b classes"],
    labels: Int[Array, "..."] | None,
    ignored: int = IGNORED,
) -> Float[Array, ""] | None:
    """Return the mean cross-entropy over labels that are not ignored, in nats.

    The mean is NaN if all are ignored.
    labels: any shape with one label for each row of the logits.
    ignored: the label that does not count.
    Raises GenaxError for a label that is no class. In a compiled function the mean is then NaN.
    """
    if labels is None:
        return None
    labels = labels.reshape(logits.shape[:-1])
    counts = labels != ignored
    labels = check_range("labels", jnp.where(counts, labels, 0), logits.shape[-1])
    return jnp.where(counts, cross_entropy(logits, labels), 0).sum() / counts.sum()


def shifted_loss(
    logits: Float[Array, "b t vocab"], labels: Int[Array, "b t"] | None
) -> Float[Array, ""] | None:
    """Return the `label_loss` of each token from those before it.

    labels: the tokens themselves.
    """
    return None if labels is None else label_loss(logits[:, :-1], labels[:, 1:])


def classification_loss(
    logits: Float[Array, "b classes"], labels: Num[Array, "b ..."] | None, problem: str | None
) -> Float[Array, ""] | None:
    """Return the loss of classes of whole sequences.

    problem: "regression", "single_label_classification" or "multi_label_classification". None
      follows from the number of classes and the labels' type.
    """
    if labels is None:
        return None
    if problem is None:
        whole = jnp.issubdtype(labels.dtype, jnp.integer)
        kind = "single_label_classification" if whole else "multi_label_classification"
        problem = "regression" if logits.shape[-1] == 1 else kind
    if problem == "regression":
        return jnp.square(logits.reshape(labels.shape) - labels).mean()
    if problem == "single_label_classification":
        return label_loss(logits, labels)
    positive, negative = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
    return -(labels * positive + (1 - labels) * negative).mean()


def span_loss(
    logits: Float[Array, "b t"], places: Int[Array, "b ..."] | None
) -> Float[Array, ""] | None:
    """Return the mean cross-entropy of places in the sequence.

    Places beyond its end do not count.
    """
    if places is None:
        return None
    return label_loss(logits, jnp.clip(places, 0, logits.shape[-1]), logits.shape[-1])
