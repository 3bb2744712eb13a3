"""BERT and its heads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int, Num

from genax.interop.architecture import Architecture, Config, Exporter, Family, Leaves, token_inputs
from genax.interop.configuration import Configuration, label_names
from genax.interop.conversion import Conversion, attention, dense, embedding, flat, norm
from genax.interop.outputs import (
    BaseModelOutput,
    LMOutput,
    classification_loss,
    label_loss,
    span_loss,
)
from genax.transformer.bert import BERT, LinearHead, MaskedLMHead
from genax.transformer.tasks.fine_tuning import RegressionNetworks, SpanNetworks
from genax.transformer.token_range import check_range

Tokens = Int[Array, "b t"]


@struct.dataclass
class PreTrainingOutput:
    """Logits of both heads of pretraining, and their loss if labels were given."""

    prediction_logits: Float[Array, "b t vocab"]
    seq_relationship_logits: Float[Array, "b 2"]
    loss: Float[Array, ""] | None = None


@struct.dataclass
class QuestionAnsweringOutput:
    """Logits of each place as the start and as the end of an answer."""

    start_logits: Float[Array, "b t"]
    end_logits: Float[Array, "b t"]
    loss: Float[Array, ""] | None = None


class _Bert(nn.Module):
    """What all classes share: the encoder under the names of its inputs."""

    encoder: BERT

    def hidden(self, input_ids, attention_mask, token_type_ids, position_ids, train):
        """Return the last hidden states."""
        mask = None if attention_mask is None else attention_mask > 0
        if token_type_ids is not None:
            kinds = self.encoder.num_segments
            token_type_ids = check_range("token_type_ids", token_type_ids, kinds)
        if position_ids is not None:
            position_ids = check_range("position_ids", position_ids, self.encoder.context)
        return self.encoder(input_ids, mask, token_type_ids, train, position_ids)

    @property
    def table(self):
        """Return the token embeddings."""
        return self.encoder.token_embedding.embedding


class BertModel(_Bert):
    """The encoder alone."""

    def __call__(
        self,
        input_ids: Tokens,
        attention_mask: Tokens | None = None,
        token_type_ids: Tokens | None = None,
        position_ids: Tokens | None = None,
        train: bool = False,
    ) -> BaseModelOutput:
        """Return the hidden states, and the pooled one if there is a pooler."""
        hidden = self.hidden(input_ids, attention_mask, token_type_ids, position_ids, train)
        pooled = self.encoder.pool(hidden) if self.encoder.with_pooler else None
        return BaseModelOutput(hidden, pooled)


class BertForPreTraining(_Bert):
    """The heads for masked tokens and next sentences."""

    masked_head: MaskedLMHead
    next_sentence_head: LinearHead

    def __call__(
        self,
        input_ids: Tokens,
        attention_mask: Tokens | None = None,
        token_type_ids: Tokens | None = None,
        position_ids: Tokens | None = None,
        labels: Tokens | None = None,
        next_sentence_label: Int[Array, "b ..."] | None = None,
        train: bool = False,
    ) -> PreTrainingOutput:
        """Return the logits of both heads, and the sum of both losses if both labels are given."""
        hidden = self.hidden(input_ids, attention_mask, token_type_ids, position_ids, train)
        tokens = self.masked_head(hidden, self.table)
        follows = self.next_sentence_head(self.encoder.pool(hidden))
        losses = label_loss(tokens, labels), label_loss(follows, next_sentence_label)
        return PreTrainingOutput(tokens, follows, _sum(losses))


class BertForMaskedLM(_Bert):
    """The head for masked tokens."""

    masked_head: MaskedLMHead

    def __call__(
        self,
        input_ids: Tokens,
        attention_mask: Tokens | None = None,
        token_type_ids: Tokens | None = None,
        position_ids: Tokens | None = None,
        labels: Tokens | None = None,
        train: bool = False,
    ) -> LMOutput:
        """Return the logits of every token."""
        hidden = self.hidden(input_ids, attention_mask, token_type_ids, position_ids, train)
        logits = self.masked_head(hidden, self.table)
        return LMOutput(logits, label_loss(logits, labels))


class BertForSequenceClassification(_Bert):
    """A head for classes of whole sequences."""

    classifier: LinearHead
    problem_type: str | None = None

    def __call__(
        self,
        input_ids: Tokens,
        attention_mask: Tokens | None = None,
        token_type_ids: Tokens | None = None,
        position_ids: Tokens | None = None,
        labels: Num[Array, "b ..."] | None = None,
        train: bool = False,
    ) -> LMOutput:
        """Return the logits of the classes."""
        hidden = self.hidden(input_ids, attention_mask, token_type_ids, position_ids, train)
        logits = self.classifier(self.encoder.pool(hidden), train)
        return LMOutput(logits, classification_loss(logits, labels, self.problem_type))


class BertForTokenClassification(_Bert):
    """A head for labels of tokens."""

    classifier: LinearHead

    def __call__(
        self,
        input_ids: Tokens,
        attention_mask: Tokens | None = None,
        token_type_ids: Tokens | None = None,
        position_ids: Tokens | None = None,
        labels: Tokens | None = None,
        train: bool = False,
    ) -> LMOutput:
        """Return the logits of the labels of each token."""
        hidden = self.hidden(input_ids, attention_mask, token_type_ids, position_ids, train)
        logits = self.classifier(hidden, train)
        return LMOutput(logits, label_loss(logits, labels))


class BertForQuestionAnswering(_Bert):
    """A head for spans that answer a question."""

    classifier: LinearHead

    def __call__(
        self,
        input_ids: Tokens,
        attention_mask: Tokens | None = None,
        token_type_ids: Tokens | None = None,
        position_ids: Tokens | None = None,
        start_positions: Int[Array, "b ..."] | None = None,
        end_positions: Int[Array, "b ..."] | None = None,
        train: bool = False,
    ) -> QuestionAnsweringOutput:
        """Return the logits of each place as start and as end, and the mean of both losses."""
        hidden = self.hidden(input_ids, attention_mask, token_type_ids, position_ids, train)
        start, end = jnp.unstack(self.classifier(hidden, train), axis=-1)
        loss = _sum((span_loss(start, start_positions), span_loss(end, end_positions)))
        return QuestionAnsweringOutput(start, end, None if loss is None else loss / 2)


def _sum(losses):
    return None if any(loss is None for loss in losses) else sum(losses)


WITHOUT_POOLER = ("BertForMaskedLM", "BertForTokenClassification", "BertForQuestionAnswering")


def build(architecture: str, config: Configuration, names: set[str]) -> nn.Module:
    """Build one of the classes."""
    with_pooler = architecture not in WITHOUT_POOLER
    if architecture == "BertModel":
        with_pooler = any("pooler" in name for name in names)
    encoder = build_encoder(config, with_pooler)
    config.require(tie_word_embeddings=True)
    rate = config.real("classifier_dropout", encoder.dropout)
    labels, masked, problem = config.labels(), MaskedLMHead(encoder.epsilon), config.problem()
    models = {
        "BertModel": lambda: BertModel(encoder),
        "BertForPreTraining": lambda: BertForPreTraining(encoder, masked, LinearHead(2)),
        "BertForMaskedLM": lambda: BertForMaskedLM(encoder, masked),
        "BertForSequenceClassification": lambda: BertForSequenceClassification(
            encoder, LinearHead(labels, rate), problem
        ),
        "BertForTokenClassification": lambda: BertForTokenClassification(
            encoder, LinearHead(labels, rate)
        ),
        "BertForQuestionAnswering": lambda: BertForQuestionAnswering(encoder, LinearHead(2)),
    }
    return models[architecture]()


def build_encoder(config: Configuration, with_pooler: bool) -> BERT:
    """Build the encoder that a configuration or a section of it describes."""
    config.require(
        model_type="bert",
        add_cross_attention=False,
        is_decoder=False,
        is_encoder_decoder=False,
        position_embedding_type="absolute",
        hidden_act="gelu",
        embedding_size=config.need("hidden_size"),
    )
    config.get("pad_token_id")
    return BERT(
        vocab_size=config.need("vocab_size"),
        context=config.need("max_position_embeddings"),
        hidden_size=config.need("hidden_size"),
        num_layers=config.layers("num_hidden_layers"),
        num_heads=config.need("num_attention_heads"),
        mlp_size=config.need("intermediate_size"),
        num_segments=config.size("type_vocab_size", 2),
        with_pooler=with_pooler,
        dropout=config.real("hidden_dropout_prob", 0.1),
        epsilon=config.real("layer_norm_eps", 1e-12),
    )


def conversions(model: _Bert) -> list[Conversion]:
    """Return the tensors of each variable."""
    prefix = "" if isinstance(model, BertModel) else "bert."
    found = encoder_conversions("encoder", prefix, model.encoder)
    if isinstance(model, BertForPreTraining | BertForMaskedLM):
        found += [
            *dense("masked_head/transform", "cls.predictions.transform.dense"),
            *norm("masked_head/norm", "cls.predictions.transform.LayerNorm"),
            flat("params/masked_head/bias", "cls.predictions.bias"),
        ]
    if isinstance(model, BertForPreTraining):
        found += dense("next_sentence_head/projection", "cls.seq_relationship")
    if isinstance(model, BertForQuestionAnswering):
        found += dense("classifier/projection", "qa_outputs")
    elif hasattr(model, "classifier"):
        found += dense("classifier/projection", "classifier")
    return found


def encoder_conversions(path: str, prefix: str, encoder: BERT) -> list[Conversion]:
    """Return the tensors of each variable of an encoder.

    path: the encoder's path.
    prefix: the beginning of the tensors' names, with its dot.
    """
    inside = f"{prefix}embeddings"
    found = [
        embedding(f"{path}/token_embedding", f"{inside}.word_embeddings"),
        embedding(f"{path}/position_embedding", f"{inside}.position_embeddings"),
        embedding(f"{path}/segment_embedding", f"{inside}.token_type_embeddings"),
        *norm(f"{path}/embedding_norm", f"{inside}.LayerNorm"),
    ]
    for number in range(encoder.num_layers):
        ours, theirs = f"{path}/blocks_{number}", f"{prefix}encoder.layer.{number}"
        names = [f"{theirs}.attention.self.{part}" for part in ("query", "key", "value")]
        found += [
            *attention(f"{ours}/attention", [*names, f"{theirs}.attention.output.dense"]),
            *norm(f"{ours}/attention_norm", f"{theirs}.attention.output.LayerNorm"),
            *dense(f"{ours}/feed_forward/expand", f"{theirs}.intermediate.dense"),
            *dense(f"{ours}/feed_forward/output", f"{theirs}.output.dense"),
            *norm(f"{ours}/feed_forward_norm", f"{theirs}.output.LayerNorm"),
        ]
    if encoder.with_pooler:
        found += dense(f"{path}/pooler", f"{prefix}pooler.dense")
    return found


def pretraining(model: Any) -> tuple[str, dict[str, Any]]:
    """Return the experiment that pretrains such a model."""
    both = isinstance(model, BertForPreTraining)
    return "experiments/transformer/bert.py:stdlib", {"next_sentence": both}


def fine_tuning(model: Any) -> tuple[str, dict[str, Any]] | None:
    """Return the experiment that fine-tunes such a model, unless a text has several classes."""
    kind = "answers" if isinstance(model, BertForQuestionAnswering) else "classes"
    found: dict[str, Any] = {"num_labels": model.classifier.num_labels, "new_head": False}
    problem = getattr(model, "problem_type", None)
    if problem == "regression":
        found["task"] = "regression"
    elif problem not in (None, "single_label_classification"):
        return None
    if found["num_labels"] != 1 and "task" in found:
        return None
    return f"experiments/transformer/bert_fine_tuning.py:smoke-{kind}", found


def _config(networks: Any, leaves: Leaves) -> Config:
    encoder: BERT = networks.encoder
    config: Config = {
        "architectures": [_architecture(networks)],
        "model_type": "bert",
        "vocab_size": encoder.vocab_size,
        "max_position_embeddings": encoder.context,
        "hidden_size": encoder.hidden_size,
        "num_hidden_layers": encoder.num_layers,
        "num_attention_heads": encoder.num_heads,
        "intermediate_size": encoder.mlp_size or 4 * encoder.hidden_size,
        "type_vocab_size": encoder.num_segments,
        "hidden_dropout_prob": encoder.dropout,
        "attention_probs_dropout_prob": encoder.dropout,
        "layer_norm_eps": encoder.epsilon,
        "pad_token_id": 0,
    }
    if hasattr(networks, "classifier"):
        config |= label_names(networks.classifier.num_labels)
    if isinstance(networks, RegressionNetworks):
        config["problem_type"] = "regression"
    return config


def _architecture(networks: Any) -> str:
    if hasattr(networks, "masked_head"):
        both = networks.next_sentence_head is not None
        return "BertForPreTraining" if both else "BertForMaskedLM"
    if isinstance(networks, SpanNetworks):
        return "BertForQuestionAnswering"
    if not hasattr(networks, "classifier"):
        return "BertModel"
    whole = networks.encoder.with_pooler
    return "BertForSequenceClassification" if whole else "BertForTokenClassification"


_GAMMA = ((r"LayerNorm\.gamma$", "LayerNorm.weight"), (r"LayerNorm\.beta$", "LayerNorm.bias"))
_POOLER = r"bert\.pooler\.dense\.(weight|bias)"
_NEXT_SENTENCE = r"cls\.seq_relationship\.(weight|bias)"
_BERT = Architecture(
    build,
    conversions,
    token_inputs,
    copies={
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
    buffers=(r"(bert\.)?embeddings\.(position|token_type)_ids",),
    renames=(*_GAMMA, (r"^(embeddings|encoder|pooler)\.", r"bert.\1.")),
)
FAMILY = Family(
    {
        "BertModel": replace(_BERT, renames=(*_GAMMA, (r"^bert\.", ""))),
        "BertForPreTraining": replace(_BERT, experiment=pretraining),
        "BertForMaskedLM": replace(_BERT, unread=(_POOLER, _NEXT_SENTENCE), experiment=pretraining),
        "BertForSequenceClassification": replace(_BERT, experiment=fine_tuning),
        "BertForTokenClassification": replace(_BERT, unread=(_POOLER,)),
        "BertForQuestionAnswering": replace(_BERT, unread=(_POOLER,), experiment=fine_tuning),
    },
    Exporter("encoder", BERT, _config),
)
