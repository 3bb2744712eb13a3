"""Left-to-right generation, compiled, with an explicit cache."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from genax.core.errors import GenaxError


def next_tokens(
    keys: Key[Array, " b"],
    logits: Float[Array, "b vocab"],
    temperature: float = 1.0,
    top_k: int | None = None,
) -> Int[Array, " b"]:
    """Draw a token for each sequence from softmax(logits / temperature).

    temperature: 0 takes the likeliest. top_k: only the k likeliest tokens (Fan et al. 2018,
    section 5.2). keys: one for each sequence, so that a draw does not depend on the batch.
    """
    if temperature == 0:
        return logits.argmax(-1).astype(jnp.int32)
    logits = logits.astype(jnp.float32) / temperature
    if top_k is not None and top_k < logits.shape[-1]:
        smallest = lax.top_k(logits, top_k)[0][:, -1:]
        logits = jnp.where(logits < smallest, -jnp.inf, logits)
    return jax.vmap(jax.random.categorical)(keys, logits).astype(jnp.int32)


def generate(
    decoder: nn.Module,
    prompts: Int[Array, "b p"],
    num_tokens: int,
    keys: Key[Array, " b"],
    mask: Bool[Array, "b p"] | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
) -> Int[Array, "b num_tokens"]:
    """Continue each prompt by num_tokens tokens, inside one `lax.scan`.

    decoder: bound, with `context`, `empty_cache` and `decode` as `GPT` has them.
    mask: which tokens of the prompts are real; shorter prompts are padded on the left.
    Raises GenaxError for empty prompts and where prompt and continuation exceed the context.
    """
    batch_size, length = prompts.shape
    limit = decoder.context  # type: ignore[attr-defined]
    if length == 0 or num_tokens < 1:
        raise GenaxError("generate: it needs prompts of at least one token, and num_tokens >= 1.")
    if length + num_tokens > limit:
        raise GenaxError(
            f"generate: a prompt of {length} and {num_tokens} new tokens exceed the context of "
            f"{limit}; ask for at most {limit - length} new tokens or shorten the prompt."
        )
    # A bound module cannot be called inside lax.scan.
    module, variables = decoder.unbind()

    def read(tokens, cache, mask=None) -> Any:
        return module.apply(variables, tokens, cache, mask, method="decode")

    def draw(number, logits):
        drawn = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
        return next_tokens(drawn, logits, temperature, top_k)

    def step(carry, number):
        tokens, cache = carry
        logits, cache = read(tokens[:, None], cache)
        tokens = draw(number, logits)
        return (tokens, cache), tokens

    cache = module.empty_cache(batch_size, length + num_tokens - 1)
    logits, cache = read(prompts, cache, mask)
    first = draw(0, logits)
    _, rest = lax.scan(step, (first, cache), jnp.arange(1, num_tokens))
    return jnp.concatenate([first[:, None], rest.T], axis=1)
