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

# What says nothing about the function that a network in evaluation computes.
_HARMLESS = {
    *("_name_or_path", "architectures", "chunk_size_feed_forward", "dtype", "torch_dtype"),
    *("gradient_checkpointing", "id2label", "label2id", "model_type", "name_or_path"),
    *("output_attentions", "output_hidden_states", "output_past", "problem_type", "return_dict"),
    *("task_specific_params", "tokenizer_class", "transformers_version", "use_cache"),
    *("initializer_range", "initializer_factor", "init_std", "n_ctx", "prefix", "static_position"),
    *("attn_implementation", "_attn_implementation", "_attn_implementation_autoset"),
    # Of generation.
    *("bad_words_ids", "bos_token_id", "eos_token_id", "forced_bos_token_id", "max_length"),
    *("forced_eos_token_id", "min_length", "no_repeat_ngram_size", "num_beams", "length_penalty"),
    *("early_stopping", "temperature", "top_k", "top_p", "do_sample"),
    # Of training.
    *("attention_probs_dropout_prob", "hidden_dropout_prob", "classifier_dropout", "dropout"),
    *("attn_pdrop", "embd_pdrop", "resid_pdrop", "attention_dropout", "activation_dropout"),
    *("dropout_rate", "encoder_layerdrop", "decoder_layerdrop", "pretraining_tp"),
    # Of heads that are other architectures.
    *("summary_activation", "summary_first_dropout", "summary_proj_to_labels", "summary_type"),
    *("summary_use_proj", "pooler_act", "pooler_output_size", "encoder_stride"),
}


class Fields:
    """The settings of a directory; each is read or required, or `done` refuses it."""

    def __init__(self, values: Mapping[str, Any], source: str):
        """source: what errors name."""
        self._values, self.source = values, source
        self._known = set(_HARMLESS)

    def get(self, name: str, default: Any = None) -> Any:
        """A field, or the default where it is missing or null."""
        self._known.add(name)
        value = self._values.get(name)
        return default if value is None else value

    def need(self, name: str) -> Any:
        """A field. Raises GenaxError where it is missing."""
        value = self.get(name)
        if value is None:
            raise GenaxError(f"{self.source} has no field {name!r}, which the architecture needs.")
        return value

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
