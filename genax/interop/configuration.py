"""The fields of a config.json, none of which may be overlooked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax

from genax.core.errors import GenaxError
from genax.nn.gelu import gelu, gelu_tanh

ACTIVATIONS: Mapping[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": gelu,
    "gelu_new": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "relu": nn.relu,
    "silu": nn.silu,
    "swish": nn.silu,
    "tanh": nn.tanh,
}

PROBLEMS = (None, "regression", "single_label_classification", "multi_label_classification")

# What says nothing about the function that a network in evaluation computes.
_HARMLESS = {
    *("_name_or_path", "architectures", "chunk_size_feed_forward", "dtype", "torch_dtype"),
    *("gradient_checkpointing", "id2label", "label2id", "name_or_path", "num_labels"),
    *("output_attentions", "output_hidden_states", "output_past", "problem_type", "return_dict"),
    *("task_specific_params", "tokenizer_class", "transformers_version", "use_cache"),
    *("initializer_range", "initializer_factor", "init_std", "n_ctx", "prefix", "static_position"),
    *("attn_implementation", "_attn_implementation", "_attn_implementation_autoset"),
    *("finetuning_task", "language", "name", "torchscript", "use_bfloat16", "tf_legacy_loss"),
    *("xla_device", "max_sequence_length", "_commit_hash", "_num_labels"),
    # Of generation.
    *("bad_words_ids", "bos_token_id", "eos_token_id", "forced_bos_token_id", "max_length"),
    *("forced_eos_token_id", "min_length", "no_repeat_ngram_size", "num_beams", "length_penalty"),
    *("early_stopping", "temperature", "top_k", "top_p", "do_sample", "decoder_start_token_id"),
    *("max_new_tokens", "min_new_tokens", "max_time", "num_beam_groups", "num_return_sequences"),
    *("repetition_penalty", "encoder_repetition_penalty", "diversity_penalty", "typical_p"),
    *("encoder_no_repeat_ngram_size", "exponential_decay_length_penalty", "epsilon_cutoff"),
    *("eta_cutoff", "penalty_alpha", "suppress_tokens", "begin_suppress_tokens", "output_scores"),
    *("remove_invalid_values", "renormalize_logits", "return_dict_in_generate", "sep_token_id"),
    *("guidance_scale", "cache_implementation", "output_logits", "forced_decoder_ids"),
    # Of training.
    *("attention_probs_dropout_prob", "hidden_dropout_prob", "classifier_dropout", "dropout"),
    *("attn_pdrop", "embd_pdrop", "resid_pdrop", "attention_dropout", "activation_dropout"),
    *("dropout_rate", "encoder_layerdrop", "decoder_layerdrop", "pretraining_tp"),
    # Of heads that are other architectures.
    *("summary_activation", "summary_first_dropout", "summary_proj_to_labels", "summary_type"),
    *("summary_use_proj", "pooler_act", "pooler_output_size", "encoder_stride", "directionality"),
    *("pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers", "pooler_type"),
    "pooler_size_per_head",
}


# Rows of a table, width of a layer: beyond any in use, and far from where sizes overflow.
LARGEST = 1 << 24
MOST_LAYERS = 10_000
MOST_PIXELS = 1 << 16


class Fields:
    """The settings of a directory; each is read or required, or `done` refuses it."""

    def __init__(self, values: Mapping[str, Any], source: str):
        """source: what errors name."""
        self._values, self.source = values, source
        self._known = set(_HARMLESS)

    def get(self, name: str, default: Any = None) -> Any:
        """A field that is no number, or the default if it is missing or null.

        Numbers have ranges: see `optional` and `real`.
        Raises GenaxError for one of another type than the default.
        """
        self._known.add(name)
        value = self._values.get(name)
        if value is None:
            return default
        if default is not None and not _same_type(value, default):
            raise GenaxError(
                f"{self.source} has {name}={value!r}, where one like {default!r} is expected."
            )
        return value

    def optional(self, name: str, least: int = 1, most: int = LARGEST) -> int | None:
        """A whole number, None if it is missing. Raises GenaxError out of the range."""
        value = self.get(name)
        if value is not None and (type(value) is not int or not least <= value <= most):
            raise GenaxError(
                f"{self.source} has {name}={value!r}; it is a whole number from {least} to {most}."
            )
        return value

    def size(self, name: str, default: int, least: int = 1, most: int = LARGEST) -> int:
        """An `optional` number, or the default if it is missing."""
        value = self.optional(name, least, most)
        return default if value is None else value

    def need(self, name: str, least: int = 1, most: int = LARGEST) -> int:
        """An `optional` number. Raises GenaxError if it is missing."""
        value = self.optional(name, least, most)
        if value is None:
            raise self._missing(name)
        return value

    def layers(self, name: str) -> int:
        """The number of layers of a stack, which is needed."""
        return self.need(name, most=MOST_LAYERS)

    def real(
        self,
        name: str,
        default: float | None,
        least: float = 0.0,
        most: float = 1.0,
        above: bool = False,
    ) -> float:
        """A number, or the default if it is missing; the range is that of rates and epsilons.

        above: the least is not in the range. Raises GenaxError out of the range, and if there is
        neither the field nor a default.
        """
        value = self.get(name)
        value = default if value is None else value
        if value is None:
            raise self._missing(name)
        inside = type(value) in (int, float) and least <= value <= most
        if not inside or (above and value == least):
            limits = f"above {least:g}, at most" if above else f"from {least:g} to"
            raise GenaxError(
                f"{self.source} has {name}={value!r}; it is a number {limits} {most:g}."
            )
        return float(value)

    def _missing(self, name: str) -> GenaxError:
        return GenaxError(f"{self.source} has no field {name!r}, which the architecture needs.")

    def side(self, name: str) -> int:
        """The side of a square, given as it or twice. Raises GenaxError for other shapes."""
        found = self.get(name)
        if isinstance(found, list) and len(found) == 2 and found[0] == found[1]:
            return Fields({name: found[0]}, self.source).need(name, most=MOST_PIXELS)
        return self.need(name, most=MOST_PIXELS)

    def labels(self) -> int:
        """Number of classes, by num_labels or the names in id2label; 2 if neither is there."""
        return self.optional("num_labels") or len(self.get("id2label", {})) or 2

    def problem(self) -> str | None:
        """What the labels of whole examples are. Raises GenaxError for an unknown kind."""
        found = self.get("problem_type")
        if found not in PROBLEMS:
            known = ", ".join(str(problem) for problem in PROBLEMS[1:])
            raise GenaxError(
                f"{self.source} has problem_type={found!r}; the known ones are {known}."
            )
        return found

    def require(self, **fields: Any) -> None:
        """Fields that may have one value only. Raises GenaxError for another."""
        for name, value in fields.items():
            found = self.get(name, value)
            if found != value:
                raise GenaxError(
                    f"{self.source} has {name}={found!r}, but {value!r} alone is supported."
                )

    def activation(self, name: str, default: str) -> Callable[[jax.Array], jax.Array]:
        """The function that a field names. Raises GenaxError for an unknown one."""
        found = self.get(name, default)
        if found not in ACTIVATIONS:
            known = ", ".join(ACTIVATIONS)
            raise GenaxError(f"{self.source} has {name}={found!r}; the known ones are {known}.")
        return ACTIVATIONS[found]

    def done(self) -> None:
        """Raises GenaxError for fields that nobody asked for and that may mean something."""
        unknown = {
            name: value
            for name, value in self._values.items()
            if name not in self._known and value not in (None, False, {}, [])
        }
        if unknown:
            listed = ", ".join(f"{name}={value!r}" for name, value in unknown.items())
            raise GenaxError(
                f"{self.source} has fields that are not supported and may change the result: "
                f"{listed}. Remove them if they do not."
            )


def _same_type(value: Any, default: Any) -> bool:
    """A whole number will do for a real one; true and false are no numbers."""
    if isinstance(value, bool) or isinstance(default, bool):
        return type(value) is type(default)
    return isinstance(value, int | float if isinstance(default, float) else type(default))
