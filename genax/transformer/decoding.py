"""Left-to-right generation, compiled, with what is kept of the tokens as an explicit pytree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from genax.core.errors import GenaxError
from genax.settings.ranges import COUNT, Range, check_values
from genax.transformer.left_to_right import Kept, LeftToRight

# The smallest and the largest positive number that float32 holds with all its digits.
_LEAST, _MOST = (float(limit) for limit in (np.finfo(np.float32).tiny, np.finfo(np.float32).max))

# Logits are divided in float32, so the divisor has to be finite and not 0 in float32.
RANGES = {
    "temperature": Range(least=0, most=_MOST),
    "top_k": COUNT,
    "top_p": Range(above=0, most=1),
    "repetition_penalty": Range(least=_LEAST, most=_MOST),
}


def next_tokens(
    keys: Key[Array, " b"],
    logits: Float[Array, "b vocab"],
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Int[Array, " b"]:
    """Draw a token per sequence from softmax(logits / temperature), among the likeliest.

    keys: one key per sequence, so that a draw does not depend on the batch.
    logits: [b, vocab].
    temperature: divisor of the logits. 0 takes the likeliest token.
    top_k, top_p: see `keep_likeliest`.
    Returns int32 [b]. The result is vocab, which is no token, if a logit is NaN, as after a token
    that the model does not have.
    Raises GenaxError for settings out of their range, see `check_settings`.
    """
    check_settings(temperature=temperature, top_k=top_k, top_p=top_p)
    if temperature == 0:
        return likeliest(logits)
    logits = logits.astype(jnp.float32)
    largest = logits.max(-1, keepdims=True)
    # Subtracting the largest logit first, and a divisor that is not rounded to 0, make the other
    # logits fall to -infinity as the temperature falls to 0.
    logits = (logits - largest) / max(temperature, _LEAST)
    logits = keep_likeliest(logits, top_k, top_p)
    drawn = jax.vmap(jax.random.categorical)(keys, logits).astype(jnp.int32)
    return jnp.where(jnp.isnan(largest[:, 0]), logits.shape[-1], drawn)


def likeliest(logits: Float[Array, "b vocab"]) -> Int[Array, " b"]:
    """Return the token of the largest logit, the first of equals.

    The result is vocab, which is no token, if a logit is NaN.
    """
    # On a CPU, XLA computes argmax one number at a time.
    numbers = jnp.arange(logits.shape[-1], dtype=jnp.int32)
    largest = logits.max(-1, keepdims=True)
    return jnp.where(logits == largest, numbers, logits.shape[-1]).min(-1)


def keep_likeliest(
    logits: Float[Array, "b vocab"], top_k: int | None = None, top_p: float | None = None
) -> Float[Array, "b vocab"]:
    """Return the logits of the likeliest tokens; the others' are -infinity.

    top_k: keep the k likeliest tokens (Fan et al. 2018, section 5.2). None keeps all.
    top_p: of these, keep the fewest whose probabilities add up to p (Holtzman et al. 2020, eq. 2),
      summed in float32. None keeps all.
    Equal tokens rank by their numbers.
    Raises GenaxError for settings out of their range, see `check_settings`.
    """
    check_settings(top_k=top_k, top_p=top_p)
    size = logits.shape[-1]
    rank = size if top_k is None else min(top_k, size)
    top_p = None if top_p == 1 else top_p
    if rank == size and top_p is None:
        return logits
    # lax.top_k ranks -0.0 below 0.0.
    logits = jnp.where(logits == 0, 0, logits)
    falling, numbers = lax.top_k(logits, rank)
    last = jnp.full((len(logits), 1), rank - 1)
    if top_p is not None:
        sums = jax.nn.softmax(falling.astype(jnp.float32), axis=-1).cumsum(-1)
        last = (sums[:, :-1] < top_p).sum(-1, keepdims=True)
    smallest, number = (jnp.take_along_axis(row, last, axis=-1) for row in (falling, numbers))
    kept = (logits > smallest) | ((logits == smallest) & (jnp.arange(size) <= number))
    return jnp.where(kept, logits, -jnp.inf)


def penalise(
    logits: Float[Array, "b vocab"], seen: Bool[Array, "b vocab"], penalty: float
) -> Float[Array, "b vocab"]:
    """Make tokens that a sequence already has less likely: Keskar et al. 2019, section 4.1.

    Positive logits are divided by the penalty and negative ones multiplied, as is customary. The
    paper divides all, which would make negative ones likelier.

    seen: [b, vocab], which tokens each sequence has.
    penalty: the divisor. 1 changes nothing.
    Raises GenaxError for a penalty out of its range, see `check_settings`.
    """
    check_settings(repetition_penalty=penalty)
    return jnp.where(seen, jnp.where(logits > 0, logits / penalty, logits * penalty), logits)


def check_settings(**settings: Any) -> None:
    """Raise GenaxError for settings that draw no token.

    settings: settings of `RANGES`, by name. None means all tokens.
    """
    check_values("decoding", settings, RANGES)


class _Progress(NamedTuple):
    number: Int[Array, ""]
    tokens: Int[Array, "b n"]
    ended: Bool[Array, " b"]
    seen: Bool[Array, "b vocab"] | None
    cache: Kept


def generate(
    decoder: LeftToRight,
    prompts: Int[Array, "b p"],
    num_tokens: int,
    keys: Key[Array, " b"],
    mask: Bool[Array, "b p"] | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    repetition_penalty: float = 1.0,
    end_token: int | Sequence[int] | None = None,
    pad_token: int = 0,
    **memory: Any,
) -> Int[Array, "b num_tokens"]:
    """Continue each prompt by num_tokens tokens, inside one `lax.while_loop`.

    decoder: a bound module, see `LeftToRight`.
    prompts: int [b, p]. Shorter prompts are padded on the left or right.
    keys: one key per prompt.
    mask: which tokens of the prompts are real. None means all.
    temperature, top_k, top_p: see `next_tokens`.
    repetition_penalty: see `penalise`.
    end_token: token that ends a sequence, which pad_token then fills. The loop stops once all have
      ended. Any of several tokens, as LLaMA 3 has them, ends a sequence.
    pad_token: token after the end.
    memory: further arguments of the first call of `decode`, such as an encoder's output.
    Raises GenaxError for empty prompts, for a prompt and continuation that exceed the context, for
    an end_token that the model does not have, and for settings that `check_settings` refuses.
    """
    check_settings(
        temperature=temperature, top_k=top_k, top_p=top_p, repetition_penalty=repetition_penalty
    )
    check_prompts(decoder, prompts, num_tokens, mask)
    ends = np.array([] if end_token is None else end_token, np.int32).reshape(-1)
    for token in ends.tolist():
        check_token("end_token", token, decoder)
    # A bound module cannot be called inside lax.while_loop.
    module, variables = decoder.unbind()

    def read(tokens, cache, mask=None, **memory) -> Any:
        return module.apply(variables, tokens, cache, mask, method="decode", **memory)

    def choose(now: _Progress, logits, cache) -> _Progress:
        seen, rows = now.seen, jnp.arange(len(prompts))
        if seen is not None:
            logits = penalise(logits, seen, repetition_penalty)
        drawn = jax.vmap(jax.random.fold_in, (0, None))(keys, now.number)
        token = next_tokens(drawn, logits, temperature, top_k, top_p)
        token = jnp.where(now.ended, pad_token, token)
        ended = now.ended | jnp.isin(token, ends)
        seen = None if seen is None else seen.at[rows, token].set(True)
        tokens = now.tokens.at[:, now.number].set(token)
        return _Progress(now.number + 1, tokens, ended, seen, cache)

    def step(now: _Progress) -> _Progress:
        last = lax.dynamic_slice_in_dim(now.tokens, now.number - 1, 1, axis=1)
        return choose(now, *read(last, now.cache))

    batch_size, length = prompts.shape
    cache = module.empty_cache(batch_size, length + num_tokens - 1)
    logits, cache = read(prompts, cache, mask, **memory)
    seen = None
    if repetition_penalty != 1:
        real = jnp.ones(prompts.shape, bool) if mask is None else mask
        seen = jnp.zeros(logits.shape, bool)
        seen = seen.at[jnp.arange(batch_size)[:, None], prompts].max(real)
    start = _Progress(
        number=jnp.zeros((), jnp.int32),
        tokens=jnp.full((batch_size, num_tokens), pad_token, jnp.int32),
        ended=jnp.zeros(batch_size, bool),
        seen=seen,
        cache=cache,
    )
    going = lambda now: (now.number < num_tokens) & ~now.ended.all()  # noqa: E731
    return lax.while_loop(going, step, choose(start, logits, cache)).tokens


def check_token(name: str, token: int | None, decoder: LeftToRight) -> None:
    """Raise GenaxError for a special token that is not in the decoder's vocabulary."""
    size = decoder.vocab_size
    if token is not None and not 0 <= token < size:
        raise GenaxError(
            f"{name}={token} is not among the model's {size} tokens; the tokenizer is another one."
        )


def check_prompts(
    decoder: LeftToRight,
    prompts: Int[Array, "b p"],
    num_tokens: int,
    mask: Bool[Array, "b p"] | None = None,
) -> None:
    """Raise GenaxError for empty prompts, and for more tokens than the context holds.

    The values of the mask are not known inside a compiled function, and not checked there.
    """
    length, limit = prompts.shape[1], decoder.context
    if length == 0 or num_tokens < 1:
        raise GenaxError("generate: prompts need at least one token, and num_tokens >= 1.")
    if limit is not None and length + num_tokens > limit:
        raise GenaxError(
            f"generate: a prompt of {length} and {num_tokens} new tokens exceed the context of "
            f"{limit}; ask for at most {limit - length} new tokens or shorten the prompt."
        )
    if mask is not None and not isinstance(mask, jax.core.Tracer):
        empty = np.flatnonzero(~np.asarray(mask).astype(bool).any(1)).tolist()
        if empty:
            raise GenaxError(
                f"generate: prompts {empty} are all padding; give each at least one token."
            )
