"""The settings of a config.json, none of which may be overlooked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax

from genax.core.errors import GenaxError
from genax.nn.activations import ACTIVATIONS

PROBLEMS = (None, "regression", "single_label_classification", "multi_label_classification")

# Settings that do not change the function that a network computes in evaluation.
HARMLESS = {
    *("architectures", "chunk_size_feed_forward", "dtype", "torch_dtype"),
    *("gradient_checkpointing", "id2label", "label2id", "name_or_path", "num_labels"),
    *("output_attentions", "output_hidden_states", "output_past", "problem_type", "return_dict"),
    *("task_specific_params", "tokenizer_class", "transformers_version", "use_cache"),
    *("initializer_range", "initializer_factor", "init_std", "n_ctx", "prefix", "static_position"),
    "attn_implementation",
    *("finetuning_task", "language", "name", "torchscript", "use_bfloat16", "tf_legacy_loss"),
    *("xla_device", "max_sequence_length"),
    # Settings of generation.
    *("bad_words_ids", "bos_token_id", "eos_token_id", "forced_bos_token_id", "max_length"),
    *("forced_eos_token_id", "min_length", "no_repeat_ngram_size", "num_beams", "length_penalty"),
    *("early_stopping", "temperature", "top_k", "top_p", "do_sample", "decoder_start_token_id"),
    *("max_new_tokens", "min_new_tokens", "max_time", "num_beam_groups", "num_return_sequences"),
    *("repetition_penalty", "encoder_repetition_penalty", "diversity_penalty", "typical_p"),
    *("encoder_no_repeat_ngram_size", "exponential_decay_length_penalty", "epsilon_cutoff"),
    *("eta_cutoff", "penalty_alpha", "suppress_tokens", "begin_suppress_tokens", "output_scores"),
    *("remove_invalid_values", "renormalize_logits", "return_dict_in_generate", "sep_token_id"),
    *("guidance_scale", "cache_implementation", "output_logits", "forced_decoder_ids"),
    # Settings of training.
    *("attention_probs_dropout_prob", "hidden_dropout_prob", "classifier_dropout", "dropout"),
    *("attn_pdrop", "embd_pdrop", "resid_pdrop", "attention_dropout", "activation_dropout"),
    *("dropout_rate", "encoder_layerdrop", "decoder_layerdrop", "pretraining_tp"),
    # Settings of heads that other classes have.
    *("summary_activation", "summary_first_dropout", "summary_proj_to_labels", "summary_type"),
    *("summary_use_proj", "pooler_act", "pooler_output_size", "encoder_stride", "directionality"),
    *("pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers", "pooler_type"),
    "pooler_size_per_head",
}

# Limits of sizes, such as rows of a table: larger than any in use, and far from any overflow.
LARGEST = 1 << 24
MOST_LAYERS = 10_000
MOST_PIXELS = 1 << 16


class Configuration:
    """The settings of a config.json, or of a section of it.

    Each setting is read by one of the methods; `done` refuses those that nothing has read.
    """

    def __init__(self, values: Mapping[str, Any], source: str):
        """Hold the values of a source, the beginning of every error message."""
        self._values, self.source = values, source
        self._known = set(HARMLESS)
        self._sections: dict[str, Configuration] = {}

    def section(self, name: str) -> Configuration:
        """Return the settings that are nested under a name.

        A missing section is one without settings, so reading it names what it lacks.
        Raises GenaxError if the name holds anything but settings.
        """
        if name not in self._sections:
            self._sections[name] = Configuration(self.get(name, {}), f"{name} of {self.source}")
        return self._sections[name]

    def get(self, name: str, default: Any = None) -> Any:
        """Return a setting that is no number, or the default if it is missing or null.

        Numbers have ranges: see `optional` and `real`.
        Raises GenaxError for a value of another type than the default's.
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

    def has(self, name: str) -> bool:
        """Return whether a setting is there, be it null."""
        return name in self._values

    def optional(self, name: str, least: int = 1, most: int = LARGEST) -> int | None:
        """Return a whole number, or None if it is missing.

        Raises GenaxError for a value out of the range.
        """
        value = self.get(name)
        if value is not None and (type(value) is not int or not least <= value <= most):
            raise GenaxError(
                f"{self.source} has {name}={value!r}; it is a whole number from {least} to {most}."
            )
        return value

    def size(self, name: str, default: int, least: int = 1, most: int = LARGEST) -> int:
        """Return a whole number, or the default if it is missing.

        Raises GenaxError for a value out of the range.
        """
        value = self.optional(name, least, most)
        return default if value is None else value

    def need(self, name: str, least: int = 1, most: int = LARGEST) -> int:
        """Return a whole number.

        Raises GenaxError if it is missing or out of the range.
        """
        value = self.optional(name, least, most)
        if value is None:
            raise self._missing(name)
        return value

    def layers(self, name: str) -> int:
        """Return the number of layers of a stack.

        Raises GenaxError if it is missing or out of the range.
        """
        return self.need(name, most=MOST_LAYERS)

    def real(
        self,
        name: str,
        default: float | None,
        least: float = 0.0,
        most: float = 1.0,
        above: bool = False,
    ) -> float:
        """Return a number, or the default if it is missing.

        default: None if the number is needed.
        least, most: the range, by default that of rates and epsilons.
        above: leave the least number out of the range.
        Raises GenaxError for a value out of the range and for a missing number that is needed.
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
        """Return the side of a square, given as one number or as two equal ones.

        Raises GenaxError for other shapes.
        """
        found = self.get(name)
        if isinstance(found, list) and len(found) == 2 and found[0] == found[1]:
            return Configuration({name: found[0]}, self.source).need(name, most=MOST_PIXELS)
        return self.need(name, most=MOST_PIXELS)

    def sizes(
        self, name: str, default: tuple[int, ...], least: int = 1, most: int = LARGEST
    ) -> tuple[int, ...]:
        """Return a list of whole numbers, or the default if it is missing.

        Raises GenaxError for anything else and for a number out of the range.
        """
        found = self.get(name, list(default))
        whole = all(type(value) is int and least <= value <= most for value in found)
        if not found or not whole:
            raise GenaxError(
                f"{self.source} has {name}={found!r}; it is a list of whole numbers from {least} "
                f"to {most}."
            )
        return tuple(found)

    def words(self, name: str, default: tuple[str, ...], known: Collection[str]) -> tuple[str, ...]:
        """Return a list of names, or the default if it is missing.

        Raises GenaxError for anything else and for a name that is not among those known.
        """
        found = self.get(name, list(default))
        if not found or not all(isinstance(word, str) and word in known for word in found):
            raise GenaxError(
                f"{self.source} has {name}={found!r}; it is a list of {', '.join(known)}."
            )
        return tuple(found)

    def labels(self) -> int:
        """Return the number of classes: num_labels, the number of names in id2label, or 2."""
        return self.optional("num_labels") or len(self.get("id2label", {})) or 2

    def problem(self) -> str | None:
        """Return what the labels of whole examples are.

        Raises GenaxError for an unknown kind.
        """
        found = self.get("problem_type")
        if found not in PROBLEMS:
            known = ", ".join(str(problem) for problem in PROBLEMS[1:])
            raise GenaxError(
                f"{self.source} has problem_type={found!r}; the known ones are {known}."
            )
        return found

    def require(self, **settings: Any) -> None:
        """Read settings that may have one value only or be missing.

        Raises GenaxError for another value.
        """
        for name, value in settings.items():
            found = self.get(name, value)
            if found != value:
                raise GenaxError(
                    f"{self.source} has {name}={found!r}, but {value!r} alone is supported."
                )

    def activation(self, name: str, default: str) -> Callable[[jax.Array], jax.Array]:
        """Return the function that a setting names.

        Raises GenaxError for an unknown name.
        """
        found = self.get(name, default)
        if found not in ACTIVATIONS:
            known = ", ".join(ACTIVATIONS)
            raise GenaxError(f"{self.source} has {name}={found!r}; the known ones are {known}.")
        return ACTIVATIONS[found]

    def done(self) -> None:
        """Check that every setting was read, also those of the sections.

        Raises GenaxError for settings that nothing has read and that may change the result.
        """
        unknown = {
            name: value
            for name, value in self._values.items()
            # A name that begins so is a note of the library that wrote the file.
            if name not in self._known
            and not name.startswith("_")
            and value not in (None, False, {}, [])
        }
        if unknown:
            listed = ", ".join(f"{name}={value!r}" for name, value in unknown.items())
            raise GenaxError(
                f"{self.source} has fields that are not supported and may change the result: "
                f"{listed}. Remove them if they do not."
            )
        for section in self._sections.values():
            section.done()


def activation_name(network: Any) -> str:
    """Return the name of a network's activation in a config.json.

    Raises GenaxError for an activation without a name.
    """
    for name, function in ACTIVATIONS.items():
        if function is network.activation:
            return name
    raise GenaxError(
        f"{type(network).__name__}: its activation cannot be exported; those of "
        f"{', '.join(ACTIVATIONS)} can."
    )


def label_names(count: int) -> dict[str, Any]:
    """Return the settings that name so many classes."""
    names = {str(number): f"LABEL_{number}" for number in range(count)}
    return {"id2label": names, "label2id": {name: int(key) for key, name in names.items()}}


def _same_type(value: Any, default: Any) -> bool:
    """Return whether a value may take the default's place.

    A whole number may take a real one's; true and false are no numbers.
    """
    if isinstance(value, bool) or isinstance(default, bool):
        return type(value) is type(default)
    return isinstance(value, int | float if isinstance(default, float) else type(default))
