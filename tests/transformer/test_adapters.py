"""Every experiment with a Transformer as one that trains adapters: what is trained then."""

from __future__ import annotations

import jax
import pytest

from genax.core import GenaxError, init_state, tree
from genax.front.experiments import configure, load

ADAPTERS = {"query", "value"}
# Variants of experiments, and what else each trains.
CASES = {
    "gpt.py:stdlib": set(),
    "llama.py:stdlib": set(),
    "t5.py:smoke": set(),
    "encoder_decoder.py:smoke": set(),
    "bert.py:stdlib": {"masked_head", "next_sentence_head"},
    "bert_fine_tuning.py:smoke-classes": {"classifier"},
    "vit.py:digits": {"classifier/head"},
}


def shapes_of(name, **settings):
    loaded = load(f"experiments/transformer/{name}")
    texts = {f"lora.{key}": str(value) for key, value in settings.items()}
    experiment = loaded.build(configure(loaded, texts))
    element = experiment.data.element
    return jax.eval_shape(lambda: init_state(experiment.task, 0, element))


@pytest.mark.parametrize("name", CASES)
def test_adapters_and_new_heads_are_trained_alone(name):
    state = shapes_of(name, rank=2)
    free, fixed = tree.flatten(state.params), tree.flatten(state.fixed["params"])
    adapters = {path for path in free if path.endswith(("/lora_a", "/lora_b"))}
    kinds = {part for path in adapters for part in path.split("/")[-3:-1]}
    assert kinds >= ADAPTERS
    heads = set(free) - adapters
    assert {head for head in CASES[name] if any(p.startswith(head) for p in heads)} == CASES[name]
    assert all(path.startswith(tuple(CASES[name])) for path in heads)
    plain = tree.flatten(shapes_of(name, rank=0).params)
    assert heads | set(fixed) == set(plain)


@pytest.mark.parametrize("targets", ["", "query", "**/qkv,"])
def test_targets_that_name_nothing_are_refused(targets):
    with pytest.raises(GenaxError, match="LoRA"):
        shapes_of("gpt.py:stdlib", rank=2, targets=targets)
