"""BERT and its heads."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Int, Num

from genax.interop.configuration import Fields
from genax.interop.conversion import Link, attention, dense, flat, norm
from genax.interop.outputs import (
    BaseModelOutput,
    LMOutput,
    PreTrainingOutput,
    QuestionAnsweringOutput,
    classification_loss,
    label_loss,
    span_loss,
)
from genax.transformer.bert import BERT, LinearHead, MaskedLMHead
from genax.transformer.token_range import check_range

Tokens = Int[Array, "b t"]


class _Bert(nn.Module):
    """What all of them share: hidden states from the inputs' Hugging Face names."""

    encoder: BERT

    def hidden(self, input_ids, attention_mask, token_type_ids, position_ids, train):
        """The last hidden states."""
        mask = None if attention_mask is None else attention_mask > 0
        if token_type_ids is not None:
            kinds = self.encoder.num_segments
            token_type_ids = check_range("token_type_ids", token_type_ids, kinds)
        if position_ids is not None:
            position_ids = check_range("position_ids", position_ids, self.encoder.context)
        return self.encoder(input_ids, mask, token_type_ids, train, position_ids)

    @property
    def table(self):
        """The token embeddings."""
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
        """Hidden states and, with a pooler, the pooled one."""
        hidden = self.hidden(input_ids, attention_mask, token_type_ids, position_ids, train)
        pooled = self.encoder.pool(hidden) if self.encoder.with_pooler else None
        return BaseModelOutput(hidden, pooled)


class BertForPreTraining(_Bert):
    """Masked tokens and next sentences."""

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
        """Logits of both heads; the sum of both losses where both labels are given."""
        hidden = self.hidden(input_ids, attention_mask, token_type_ids, position_ids, train)
        tokens = self.masked_head(hidden, self.table)
        follows = self.next_sentence_head(self.encoder.pool(hidden))
        losses = label_loss(tokens, labels), label_loss(follows, next_sentence_label)
        return PreTrainingOutput(tokens, follows, _sum(losses))


class BertForMaskedLM(_Bert):
    """Masked tokens."""

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
        """Logits of every token."""
        hidden = self.hidden(input_ids, attention_mask, token_type_ids, position_ids, train)
        logits = self.masked_head(hidden, self.table)
        return LMOutput(logits, label_loss(logits, labels))


class BertForSequenceClassification(_Bert):
    """Classes of whole sequences."""

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
        """Logits of the classes."""
        hidden = self.hidden(input_ids, attention_mask, token_type_ids, position_ids, train)
        logits = self.classifier(self.encoder.pool(hidden), train)
        return LMOutput(logits, classification_loss(logits, labels, self.problem_type))


class BertForTokenClassification(_Bert):
    """Labels of tokens."""

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
        """Logits of each token's labels."""
        hidden = self.hidden(input_ids, attention_mask, token_type_ids, position_ids, train)
        logits = self.classifier(hidden, train)
        return LMOutput(logits, label_loss(logits, labels))


class BertForQuestionAnswering(_Bert):
    """Spans that answer."""

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
        """Logits of each place as start and as end; the mean of both losses."""
        hidden = self.hidden(input_ids, attention_mask, token_type_ids, position_ids, train)
        start, end = jnp.unstack(self.classifier(hidden, train), axis=-1)
        loss = _sum((span_loss(start, start_positions), span_loss(end, end_positions)))
        return QuestionAnsweringOutput(start, end, None if loss is None else loss / 2)


def _sum(losses):
    return None if any(loss is None for loss in losses) else sum(losses)


WITHOUT_POOLER = ("BertForMaskedLM", "BertForTokenClassification", "BertForQuestionAnswering")


def build(architecture: str, fields: Fields, names: set[str]) -> nn.Module:
    """The model that a directory describes. names: of its tensors, or of parameters."""
    fields.require(
        model_type="bert",
        add_cross_attention=False,
        is_decoder=False,
        is_encoder_decoder=False,
        tie_word_embeddings=True,
        position_embedding_type="absolute",
        hidden_act="gelu",
        embedding_size=fields.need("hidden_size"),
    )
    fields.get("pad_token_id")
    epsilon = fields.real("layer_norm_eps", 1e-12)
    encoder = BERT(
        vocab_size=fields.need("vocab_size"),
        context=fields.need("max_position_embeddings"),
        hidden_size=fields.need("hidden_size"),
        num_layers=fields.layers("num_hidden_layers"),
        num_heads=fields.need("num_attention_heads"),
        mlp_size=fields.need("intermediate_size"),
        num_segments=fields.size("type_vocab_size", 2),
        with_pooler=architecture not in WITHOUT_POOLER
        and (architecture != "BertModel" or any("pooler" in name for name in names)),
        dropout=fields.real("hidden_dropout_prob", 0.1),
        epsilon=epsilon,
    )
    rate = fields.real("classifier_dropout", encoder.dropout)
    labels, masked, problem = fields.labels(), MaskedLMHead(epsilon), fields.problem()
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


def links(model: _Bert) -> list[Link]:
    """Parameters and tensors."""
    prefix = "" if isinstance(model, BertModel) else "bert."
    found = [
        flat("encoder/token_embedding/embedding", f"{prefix}embeddings.word_embeddings.weight"),
        flat(
            "encoder/position_embedding/embedding",
            f"{prefix}embeddings.position_embeddings.weight",
        ),
        flat(
            "encoder/segment_embedding/embedding",
            f"{prefix}embeddings.token_type_embeddings.weight",
        ),
        *norm("encoder/embedding_norm", f"{prefix}embeddings.LayerNorm"),
    ]
    for number in range(model.encoder.num_layers):
        ours, theirs = f"encoder/blocks_{number}", f"{prefix}encoder.layer.{number}"
        names = [f"{theirs}.attention.self.{part}" for part in ("query", "key", "value")]
        found += [
            *attention(f"{ours}/attention", [*names, f"{theirs}.attention.output.dense"]),
            *norm(f"{ours}/attention_norm", f"{theirs}.attention.output.LayerNorm"),
            *dense(f"{ours}/feed_forward/expand", f"{theirs}.intermediate.dense"),
            *dense(f"{ours}/feed_forward/output", f"{theirs}.output.dense"),
            *norm(f"{ours}/feed_forward_norm", f"{theirs}.output.LayerNorm"),
        ]
    if model.encoder.with_pooler:
        found += dense("encoder/pooler", f"{prefix}pooler.dense")
    if isinstance(model, BertForPreTraining | BertForMaskedLM):
        found += [
            *dense("masked_head/transform", "cls.predictions.transform.dense"),
            *norm("masked_head/norm", "cls.predictions.transform.LayerNorm"),
            flat("masked_head/bias", "cls.predictions.bias"),
        ]
    if isinstance(model, BertForPreTraining):
        found += dense("next_sentence_head/projection", "cls.seq_relationship")
    if isinstance(model, BertForQuestionAnswering):
        found += dense("classifier/projection", "qa_outputs")
    elif hasattr(model, "classifier"):
        found += dense("classifier/projection", "classifier")
    return found
