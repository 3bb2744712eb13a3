"""Beam search, compiled."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from genax.core.errors import GenaxError
from genax.settings.ranges import COUNT, Range, check_values
from genax.transformer.decoding import check_prompts, check_token
from genax.transformer.left_to_right import Kept, LeftToRight

# A number below any score of a sequence. It is finite, so that sums and quotients are no NaN.
_NEVER = float(np.finfo(np.float32).min)

# Scores are finite in float32 up to the fifth power of any length in use.
RANGES = {"num_beams": COUNT, "length_penalty": Range(least=-5, most=5)}


class _Beams(NamedTuple):
    """Open and ended sequences of b searches: k that go on, and the k best that have ended."""

    number: Int[Array, ""]
    tokens: Int[Array, "b k n"]
    scores: Float[Array, "b k"]
    ended: Int[Array, "b k n"]
    ended_scores: Float[Array, "b k"]
    open: Bool[Array, " b"]
    cache: Kept


def beam_search(
    decoder: LeftToRight,
    prompts: Int[Array, "b p"],
    num_tokens: int,
    num_beams: int,
    end_token: int,
    length_penalty: float = 1.0,
    mask: Bool[Array, "b p"] | None = None,
    pad_token: int = 0,
    forbidden: tuple[int, ...] = (),
    early_stopping: bool = False,
    num_best: int | None = None,
    **memory: Any,
) -> tuple[Int[Array, "b ... num_tokens"], Float[Array, "b ..."]]:
    """Return the best continuation of each prompt that `num_beams` beams find, and its score.

    The score is log p / length^length_penalty in nats. The length counts the end token. A search
    ends if its best beam, ended now, would be worse than all num_beams that are kept. It also ends
    at num_tokens, at which beams count as ended.

    decoder, prompts, num_tokens, mask, memory: see `generate`.
    num_beams: number of beams per prompt.
    end_token: token that ends a sequence.
    length_penalty: exponent of the length.
    pad_token: token after the end.
    forbidden: tokens that are never drawn.
    early_stopping: end a search as soon as num_beams have ended.
    num_best: number of continuations and scores per prompt, [b, num_best, ...], the best first.
      None means the best one alone, without that axis.
    Raises GenaxError for empty prompts, for a prompt and continuation that exceed the context, for
    tokens that the model does not have, and for settings that `check_beams` refuses.
    """
    check_beams(num_beams, length_penalty, num_best)
    check_prompts(decoder, prompts, num_tokens, mask)
    for name, token in (("end_token", end_token), *(("forbidden", token) for token in forbidden)):
        check_token(name, token, decoder)
    module, variables = decoder.unbind()
    (b, length), k = prompts.shape, num_beams
    rows = jnp.arange(b)[:, None]

    def read(tokens, cache, mask=None, **memory) -> Any:
        return module.apply(variables, tokens, cache, mask, method="decode", **memory)

    def choose(now: _Beams, logits, cache) -> _Beams:
        logits = logits.astype(jnp.float32)
        logits = logits.at[:, jnp.array(forbidden, jnp.int32)].set(-jnp.inf)
        total = now.scores[..., None] + jax.nn.log_softmax(logits).reshape(b, k, -1)
        # At least k of the 2 k best do not end here.
        scores, places = lax.top_k(total.reshape(b, -1), 2 * k)
        beam, token = jnp.divmod(places, logits.shape[-1])
        tokens = now.tokens[rows, beam].at[:, :, now.number].set(token)
        number = now.number + 1
        ends = (token == end_token) | (number == num_tokens)

        counts = ends & (jnp.arange(2 * k) < k) & now.open[:, None]
        found = jnp.where(counts, scores / number**length_penalty, _NEVER)
        ended_scores, best = lax.top_k(jnp.concatenate([now.ended_scores, found], 1), k)
        ended = jnp.concatenate([now.ended, tokens], 1)[rows, best]

        scores, best = lax.top_k(jnp.where(ends, _NEVER, scores), k)
        worst = ended_scores.min(1)
        better = scores[:, 0] / number**length_penalty > worst
        still = worst == _NEVER if early_stopping else better
        cache = cache.take((rows * k + beam[rows, best]).reshape(-1))
        going = now.open & still & (number < num_tokens)
        return _Beams(number, tokens[rows, best], scores, ended, ended_scores, going, cache)

    def step(now: _Beams) -> _Beams:
        last = lax.dynamic_slice_in_dim(now.tokens, now.number - 1, 1, axis=2)
        return choose(now, *read(last.reshape(-1, 1), now.cache))

    cache = module.empty_cache(b, length + num_tokens - 1)
    logits, cache = read(prompts, cache, mask, **memory)
    cache = cache.repeat(k)
    empty = jnp.full((b, k, num_tokens), pad_token, jnp.int32)
    never = jnp.full((b, k), _NEVER, jnp.float32)
    start = _Beams(
        number=jnp.zeros((), jnp.int32),
        tokens=empty,
        # All beams are the same to begin with, so only one counts.
        scores=never.at[:, 0].set(0.0),
        ended=empty,
        ended_scores=never,
        open=jnp.ones(b, bool),
        cache=cache,
    )
    start = choose(start, jnp.repeat(logits, k, axis=0), cache)
    found = lax.while_loop(lambda now: now.open.any(), step, start)
    chosen = 0 if num_best is None else slice(num_best)
    return found.ended[:, chosen], found.ended_scores[:, chosen]


def check_beams(num_beams: int, length_penalty: float, num_best: int | None = None) -> None:
    """Raise GenaxError for settings of `beam_search` that give no sequence."""
    check_values("beam search", {"num_beams": num_beams, "length_penalty": length_penalty}, RANGES)
    if num_best is not None and not 1 <= num_best <= num_beams:
        raise GenaxError(f"num_best={num_best} must be from 1 to num_beams={num_beams}.")
