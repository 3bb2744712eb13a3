"""Learning rates, clipping and the AdamW of language models.

Every learning rate is a function of the step alone, never of the length of the run: a run that
stops and goes on follows the same curve. A warm-up of 0 steps is the full rate at once.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import optax

from genax.core import GenaxError, tree
from genax.core.ranges import AMOUNT, NOT_NEGATIVE, POSITIVE, SHARE, Ranges

DECAYED = ("kernel", "embedding")

# Of the settings that experiments give to these functions.
RANGES: Ranges = {
    "learning_rate": NOT_NEGATIVE,
    "final_learning_rate": NOT_NEGATIVE,
    "rate_scale": POSITIVE,
    "warmup_steps": AMOUNT,
    "decay_steps": AMOUNT,
    "weight_decay": NOT_NEGATIVE,
    "b1": SHARE,
    "b2": SHARE,
    "clip": NOT_NEGATIVE,
}


def warmup_constant(peak: float, warmup_steps: int) -> optax.Schedule:
    """Linear from 0 to peak, then flat.

    Raises GenaxError for a negative warm-up.
    """
    _check_warmup(warmup_steps)
    if warmup_steps == 0:
        return optax.constant_schedule(peak)
    return optax.linear_schedule(0.0, peak, warmup_steps)


def warmup_cosine(peak: float, final: float, warmup_steps: int, decay_steps: int) -> optax.Schedule:
    """Linear from peak / (warmup_steps + 1) to peak, half a cosine to final at decay_steps, flat.

    Brown et al. 2020, appendix B.
    Raises GenaxError for a final rate above the peak, and for lengths that `check_decay` refuses.
    """
    check_decay(warmup_steps, decay_steps)
    if not 0 <= final <= peak:
        raise GenaxError(f"final_learning_rate={final} must be from 0 to learning_rate={peak}.")
    if warmup_steps == 0:
        return optax.cosine_decay_schedule(peak, decay_steps, final / peak if peak else 0.0)
    return optax.warmup_cosine_decay_schedule(
        peak / (warmup_steps + 1), peak, warmup_steps, decay_steps, final
    )


def warmup_linear(peak: float, warmup_steps: int, decay_steps: int) -> optax.Schedule:
    """Linear from 0 to peak, then linear to 0 at decay_steps: Devlin et al. 2018, appendix A.2.

    Raises GenaxError for a negative warm-up and a decay that ends before it.
    """
    check_decay(warmup_steps, decay_steps)
    rise = warmup_constant(peak, warmup_steps)
    fall = optax.linear_schedule(peak, 0.0, decay_steps - warmup_steps)
    return optax.join_schedules([rise, fall], [warmup_steps])


def warmup_inverse_sqrt(hidden_size: int, warmup_steps: int, scale: float = 1.0) -> optax.Schedule:
    """scale * hidden_size^-0.5 * min(n^-0.5, n * warmup_steps^-1.5): Vaswani et al. 2017, eq. 3.

    n: the step, counted from one.
    Raises GenaxError for a negative warm-up.
    """
    _check_warmup(warmup_steps)

    def rate(step):
        number = jnp.asarray(step, jnp.float32) + 1
        root = number**-0.5
        if warmup_steps:
            root = jnp.minimum(root, number * warmup_steps**-1.5)
        return scale * hidden_size**-0.5 * root

    return rate


def flat_inverse_sqrt(warmup_steps: int, scale: float = 1.0) -> optax.Schedule:
    """scale / sqrt(max(n, warmup_steps)): Raffel et al. 2020, section 3.1.2.

    n: the step, counted from zero; 0 counts as 1.
    Raises GenaxError for a negative warm-up.
    """
    _check_warmup(warmup_steps)
    return lambda step: scale / jnp.sqrt(jnp.maximum(step, max(1, warmup_steps)))


def _check_warmup(warmup_steps: int) -> None:
    if warmup_steps < 0:
        raise GenaxError(f"warmup_steps={warmup_steps} must be at least 0; 0 is no warm-up.")


def check_decay(warmup_steps: int, decay_steps: int) -> None:
    """Raise GenaxError for a negative warm-up and a decay that ends before it."""
    _check_warmup(warmup_steps)
    if warmup_steps >= decay_steps:
        raise GenaxError(
            f"warmup_steps={warmup_steps} must be below decay_steps={decay_steps}, where the decay "
            "ends."
        )


def clip_by_norm(most: float) -> optax.GradientTransformation:
    """Gradients of global norm at most `most`; 0 does not clip.

    Raises GenaxError for a negative norm.
    """
    if not most >= 0:
        raise GenaxError(f"a gradient's norm of at most {most} is none; 0 does not clip.")
    return optax.clip_by_global_norm(most) if most else optax.identity()


def is_decayed(params: Any) -> Any:
    """Which parameters decay: matrices and embeddings, not biases and norms.

    The last part of a name tells it ("kernel", "embedding"), since a bias may have several axes and
    layers under `nn.scan` have one more.
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
        clip_by_norm(clip),
        optax.adamw(learning_rate, b1, b2, eps, weight_decay=weight_decay, mask=is_decayed),
    )


def bert_adamw(
    learning_rate: float, warmup_steps: int, decay_steps: int, weight_decay: float
) -> optax.GradientTransformation:
    """The AdamW of BERT: Devlin et al. 2018, appendix A.2, with the epsilon of the published code.

    learning_rate, warmup_steps, decay_steps: see `warmup_linear`.
    """
    schedule = warmup_linear(learning_rate, warmup_steps, decay_steps)
    return adamw(schedule, weight_decay, b2=0.999, eps=1e-6)
