"""The optimizer that language models are trained with: AdamW, warm-up, cosine decay, clipping."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import optax

from genax.core import GenaxError, tree

DECAYED = ("kernel", "embedding")


def warmup_cosine(peak: float, final: float, warmup_steps: int, decay_steps: int) -> optax.Schedule:
    """Linear from peak / (warmup_steps + 1) to peak, half a cosine to final at decay_steps, flat.

    Brown et al. 2020, appendix B. It is a function of the step alone, never of the length of the
    run: a run that stops and goes on follows the same curve.
    Raises GenaxError where the decay ends before the warm-up.
    """
    _check_lengths(warmup_steps, decay_steps)
    if warmup_steps == 0:
        return optax.cosine_decay_schedule(peak, decay_steps, final / peak)
    return optax.warmup_cosine_decay_schedule(
        peak / (warmup_steps + 1), peak, warmup_steps, decay_steps, final
    )


def warmup_linear(peak: float, warmup_steps: int, decay_steps: int) -> optax.Schedule:
    """Linear from 0 to peak, then linear to 0 at decay_steps: Devlin et al. 2018, appendix A.2.

    Raises GenaxError where the decay ends before the warm-up.
    """
    _check_lengths(warmup_steps, decay_steps)
    rise = optax.linear_schedule(0.0, peak, max(1, warmup_steps))
    fall = optax.linear_schedule(peak, 0.0, decay_steps - warmup_steps)
    return optax.join_schedules([rise, fall], [warmup_steps])


def _check_lengths(warmup_steps: int, decay_steps: int) -> None:
    if not 0 <= warmup_steps < decay_steps:
        raise GenaxError(
            f"warmup_steps={warmup_steps} must be at least 0 and below decay_steps={decay_steps}, "
            "where the decay ends."
        )


def warmup_inverse_sqrt(hidden_size: int, warmup_steps: int, scale: float = 1.0) -> optax.Schedule:
    """scale * hidden_size^-0.5 * min(n^-0.5, n * warmup_steps^-1.5): Vaswani et al. 2017, eq. 3.

    n: the step, counted from one.
    """

    def rate(step):
        number = jnp.asarray(step, jnp.float32) + 1
        return scale * hidden_size**-0.5 * jnp.minimum(number**-0.5, number * warmup_steps**-1.5)

    return rate


def is_decayed(params: Any) -> Any:
    """Which parameters decay: matrices and embeddings, not biases and norms.

    Told by the last part of their names ("kernel", "embedding"), since a bias may have several
    axes and layers under `nn.scan` have one more.
    """
    return tree.map_by_path(lambda path, _: path.rsplit("/", 1)[-1] in DECAYED, params)


def adamw(
    learning_rate: optax.ScalarOrSchedule,
    weight_decay: float = 0.1,
    b1: float = 0.9,
    b2: float = 0.95,
    eps: float = 1e-8,
    clip: float = 1.0,
) -> optax.GradientTransformation:
    """AdamW (Loshchilov & Hutter 2019, algorithm 2) on gradients of global norm at most `clip`.

    The decay of a step is learning_rate * weight_decay * parameter, on what `is_decayed` names.
    The defaults are GPT-3's (Brown et al. 2020, appendix B).
    """
    return optax.chain(
        optax.clip_by_global_norm(clip),
        optax.adamw(learning_rate, b1, b2, eps, weight_decay=weight_decay, mask=is_decayed),
    )
