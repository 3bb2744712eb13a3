"""The task of predicting the next token: a decoder with its loss, samples and scores."""

from __future__ import annotations

from functools import partial

import optax

from genax.core import Phase, Sampler, Stage, Task
from genax.nn.placement import PARTITION_RULES
from genax.transformer.decoder import Decoder
from genax.transformer.decoding import check_settings, check_token
from genax.transformer.networks import Networks
from genax.transformer.tasks.losses import next_token_loss
from genax.transformer.tasks.scores import next_token_scores
from genax.transformer.tasks.text_sampling import as_text, encode_prompt, sample_tokens


def language_model(
    decoder: Decoder,
    optimizer: optax.GradientTransformation,
    start_token: int,
    temperature: float,
    top_k: int | None = None,
    top_p: float | None = None,
    repetition_penalty: float = 1.0,
    chunk: int | None = None,
) -> Task:
    """Task of predicting the next token. Its samples have as much text as fits the context.

    start_token: token that samples without a prompt continue.
    temperature, top_k, top_p, repetition_penalty: see `generate`.
    chunk: see `next_token_loss`.
    Raises GenaxError for a start_token that the decoder does not have, and for settings of samples
    that `check_settings` refuses.
    """
    check_settings(
        temperature=temperature, top_k=top_k, top_p=top_p, repetition_penalty=repetition_penalty
    )
    check_token("start_token", start_token, decoder)
    draw = partial(
        sample_tokens,
        num_tokens=decoder.context - 1,
        start_token=start_token,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        repetition_penalty=repetition_penalty,
    )
    prompt = partial(encode_prompt, context=decoder.context, vocab_size=decoder.vocab_size)
    loss = partial(next_token_loss, chunk=chunk)
    return Task(
        networks=Networks(decoder),
        stages=[Stage([Phase("decoder", loss, ("decoder",), optimizer)])],
        samplers={"text": Sampler(draw, as_text, prompt=prompt)},
        evaluators={"validation": next_token_scores(chunk)},
        rules=PARTITION_RULES,
    )
