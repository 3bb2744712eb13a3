"""A decoder, its loss, samples and scores, put together, and the settings of such experiments."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import flax.linen as nn
import optax
from ml_collections import ConfigDict

from genax.core import Experiment, Phase, Sampler, Stage, Task
from genax.core.devices import Rules
from genax.core.errors import GenaxError
from genax.data import TextData, given_or
from genax.data.text.tokenizers import KINDS, PRETRAINED_KINDS
from genax.nn.lora import SETTINGS as LORA
from genax.nn.lora import adaptable
from genax.nn.optimizers import adamw, warmup_cosine
from genax.nn.placement import PARTITION_RULES
from genax.settings import from_config, start_from
from genax.settings.ranges import Ranges
from genax.transformer.decoding import check_settings, check_token
from genax.transformer.left_to_right import LanguageModel
from genax.transformer.networks import Networks
from genax.transformer.settings import RANGES as TRANSFORMER
from genax.transformer.settings import SHORT_RUN, SMALL_NETWORK, SMALL_STACK
from genax.transformer.tasks.losses import next_token_loss
from genax.transformer.tasks.scores import next_token_scores
from genax.transformer.tasks.text_sampling import as_text, encode_prompt, sample_tokens

# Of any network that reads tokens from left to right. The sizes and the optimizer are those that
# nanoGPT publishes for training on a CPU.
TEXT: dict[str, Any] = {
    **SHORT_RUN,
    **LORA,
    **SMALL_STACK,
    "dataset": "shakespeare",
    "tokenizer": "characters",
    "vocab_size": 84,
    # A run, or what `genax import` wrote, whose weights, sizes and tokenizer are taken; "" is none.
    "pretrained": "",
    "num_layers": 4,
    # Tokens of the vocabulary whose logits exist at a time; 0 is all.
    "chunk": 0,
    # The learning rate rises for warmup_steps, falls to final_learning_rate at decay_steps and
    # stays. It does not depend on config.steps, so that a run may be stopped and prolonged.
    "learning_rate": 1e-3,
    "final_learning_rate": 1e-4,
    "warmup_steps": 100,
    "decay_steps": 2_000,
    "weight_decay": 0.1,
    "clip": 1.0,
    # How samples are drawn: see `genax.transformer.decoding`. A top_k of 0 is all tokens.
    "temperature": 0.8,
    "top_k": 0,
    "top_p": 1.0,
    "repetition_penalty": 1.0,
    # What samples begin with. The newline is character 0 of Shakespeare, and byte 10.
    "start_token": 0,
    # What ends a sample: any of these tokens. () is none.
    "end_token": (),
    # Windows of the validation text that are scored; 0 is all.
    "evaluation_windows": 0,
    "batch_size": 12,
    "steps": 2_000,
    "log_every": 100,
    "num_samples": 4,
}
# Of Transformers.
DEFAULTS: dict[str, Any] = {
    **TEXT,
    **SMALL_NETWORK,
    "num_layers": 4,
    # Positions of the network; 0 is as many as a row has tokens.
    "positions": 0,
    # "auto", "xla", "ring", "cudnn" (GPU) or "splash" (TPU): see `genax.nn.attention`.
    "attention": "auto",
}
RANGES: Ranges = {**TRANSFORMER, "tokenizer": (*KINDS, *PRETRAINED_KINDS)}

# An embedded text and a network small enough for a test.
STDLIB: dict[str, Any] = {
    "dataset": "stdlib",
    "tokenizer": "bytes",
    "vocab_size": 256,
    "start_token": 10,
    "hidden_size": 64,
    "num_layers": 2,
    "evaluation_windows": 1_000,
    "warmup_steps": 20,
    "decay_steps": 300,
    "steps": 300,
}

# The data and the loop of the papers' sizes.
PUBLISHED: dict[str, Any] = {
    "dataset": "tfds:wiki40b/en",
    "tokenizer": "bpe",
    "chunk": 8_192,
    "eval_batch_size": 64,
    "eval_every": 5_000,
    "sample_every": 5_000,
}


@adaptable()
def experiment(
    decoder: LanguageModel, config: ConfigDict, data: Any = None, rules: Rules = PARTITION_RULES
) -> Experiment:
    """Return the experiment of predicting the next token with AdamW, a warm-up and a cosine.

    config: settings, those of `DEFAULTS` among them, and b1 and b2 if they are not `adamw`'s own.
    data: see `given_or`.
    rules: how the decoder's parameters are split over a mesh.
    """
    own = partial(from_config, TextData, config, name=config.dataset)
    held_out = partial(own, split="validation", limit=config.evaluation_windows or None)
    schedule = from_config(
        warmup_cosine, config, peak=config.learning_rate, final=config.final_learning_rate
    )
    task = from_config(
        language_model,
        config,
        decoder=decoder,
        optimizer=from_config(adamw, config, learning_rate=schedule),
        top_k=config.top_k or None,
        chunk=config.chunk or None,
        rules=rules,
    )
    train, test = given_or(data, lambda: (own(), held_out()))
    return Experiment(task, train, test, start_from(config, "decoder"))


def language_model(
    decoder: LanguageModel,
    optimizer: optax.GradientTransformation,
    start_token: int,
    temperature: float,
    top_k: int | None = None,
    top_p: float | None = None,
    repetition_penalty: float = 1.0,
    chunk: int | None = None,
    context: int | None = None,
    end_token: Sequence[int] = (),
    rules: Rules = PARTITION_RULES,
) -> Task:
    """Return the task of predicting the next token, which samples as much text as fits the context.

    start_token: what samples without a prompt follow.
    context: tokens of a row. None is as many as the decoder has positions, if it has.
    end_token: tokens that end a sample.
    temperature, top_k, top_p, repetition_penalty: see `generate`.
    chunk: see `next_token_loss`.
    rules: how the decoder's parameters are split over a mesh.
    Raises GenaxError for a start_token or an end_token that the decoder does not have, and for
    settings of samples that `check_settings` refuses.
    """
    check_settings(
        temperature=temperature, top_k=top_k, top_p=top_p, repetition_penalty=repetition_penalty
    )
    for name, token in [("start_token", start_token), *(("end_token", one) for one in end_token)]:
        check_token(name, token, decoder)
    length = context or decoder.context
    if length is None:
        raise GenaxError(
            f"language_model: {type(decoder).__name__} reads sequences of any length, so context= "
            "has to say how long a sample is."
        )
    draw = partial(
        sample_tokens,
        num_tokens=length - 1,
        start_token=start_token,
        end_token=end_token,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        repetition_penalty=repetition_penalty,
    )
    prompt = partial(encode_prompt, context=decoder.context, vocab_size=decoder.vocab_size)
    loss = partial(next_token_loss, chunk=chunk)
    return Task(
        networks=Networks(cast(nn.Module, decoder)),
        stages=[Stage([Phase("decoder", loss, ("decoder",), optimizer)])],
        samplers={"text": Sampler(draw, partial(as_text, end_token=end_token), prompt=prompt)},
        evaluators={"validation": next_token_scores(chunk)},
        rules=rules,
    )
