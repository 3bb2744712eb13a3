"""Learning rates, gradient clipping and the AdamW of language models.

Every learning rate is a function of the step alone, never of the length of the run, so that a run
that stops and resumes follows the same curve. A warm-up of 0 steps starts at the full rate.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import optax

from genax.core import GenaxError, tree
from genax.settings.ranges import AMOUNT, NOT_NEGATIVE, POSITIVE, SHARE, Ranges

DECAYED = ("kernel", "embedding", "lora_a", "lora_b")

# Ranges of the settings that experiments give to these functions.
RANGES: Ranges = {
    "learning_rate": NOT_NEGATIVE,
    "final_learning_rate": NOT_NEGATIVE,
    "rate_scale": POSITIVE,
    "warmup_steps": AMOUNT,
    "constant_steps": AMOUNT,
    "decay_steps": AMOUNT,
    "weight_decay": NOT_NEGATIVE,
    "b1": SHARE,
    "b2": SHARE,
    "clip": NOT_NEGATIVE,
}


def warmup_constant(peak: float, warmup_steps: int) -> optax.Schedule:
    """Linear warm-up from 0 to peak, then a constant rate.

    Raises GenaxError for a negative warm-up.
    """
    _check_warmup(warmup_steps)
    if warmup_steps == 0:
        return optax.constant_schedule(peak)
    return optax.linear_schedule(0.0, peak, warmup_steps)


def warmup_cosine(peak: float, final: float, warmup_steps: int, decay_steps: int) -> optax.Schedule:
    """Linear warm-up to peak, then half a cosine to final at decay_steps, then a constant rate.

    The warm-up begins at peak / (warmup_steps + 1). Brown et al. 2020, appendix B.
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
    """Linear warm-up from 0 to peak, then a linear decay to 0 at decay_steps.

    Devlin et al. 2018, appendix A.2.
    Raises GenaxError for a negative warm-up, and for a decay that ends before it.
    """
    check_decay(warmup_steps, decay_steps)
    rise = warmup_constant(peak, warmup_steps)
    fall = optax.linear_schedule(peak, 0.0, decay_steps - warmup_steps)
    return optax.join_schedules([rise, fall], [warmup_steps])


def constant_linear(rate: float, constant_steps: int, decay_steps: int) -> optax.Schedule:
    """Constant rate, then a linear decay to 0 in `decay_steps` steps more; 0 of them is no decay.

    It is that of Pix2Pix and CycleGAN, whose code changes the rate once an epoch and not each step.
    Raises GenaxError for a negative number of steps.
    """
    if constant_steps < 0 or decay_steps < 0:
        raise GenaxError(
            f"constant_steps={constant_steps} and decay_steps={decay_steps} must be at least 0."
        )
    if not decay_steps:
        return optax.constant_schedule(rate)
    return optax.linear_schedule(rate, 0.0, decay_steps, constant_steps)


def warmup_inverse_sqrt(hidden_size: int, warmup_steps: int, scale: float = 1.0) -> optax.Schedule:
    """Rate scale * hidden_size^-0.5 * min(n^-0.5, n * warmup_steps^-1.5) at step n, counted from 1.

    Vaswani et al. 2017, eq. 3.
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
    """Rate scale / sqrt(max(n, warmup_steps)) at step n, counted from 0.

    Raffel et al. 2020, section 3.1.2. Step 0 counts as 1.
    Raises GenaxError for a negative warm-up.
    """
    _check_warmup(warmup_steps)
    return lambda step: scale / jnp.sqrt(jnp.maximum(step, max(1, warmup_steps)))


def _check_warmup(warmup_steps: int) -> None:
    if warmup_steps < 0:
        raise GenaxError(f"warmup_steps={warmup_steps} must be at least 0; 0 means no warm-up.")


def check_decay(warmup_steps: int, decay_steps: int) -> None:
    """Raise GenaxError for a negative warm-up, and for a decay that ends before it."""
    _check_warmup(warmup_steps)
    if warmup_steps >= decay_steps:
        raise GenaxError(
            f"warmup_steps={warmup_steps} must be below decay_steps={decay_steps}, the end of the "
            "decay."
        )


def clip_by_norm(most: float) -> optax.GradientTransformation:
    """Clip gradients to a global norm of at most `most`. 0 means no clipping.

    Raises GenaxError for a negative norm.
    """
    if not most >= 0:
        raise GenaxError(f"gradients cannot have a norm of at most {most}; 0 does not clip.")
    return optax.clip_by_global_norm(most) if most else optax.identity()


def is_decayed(params: Any) -> Any:
    """Return which parameters decay: matrices and embeddings, not biases and norms.

    The last part of a parameter's name ("kernel", "embedding") decides. The number of axes cannot,
    since a bias may have several and layers under `nn.scan` have one more.
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

    One step decays the parameters that `is_decayed` names by learning_rate * weight_decay *
    parameter. The defaults are GPT-3's (Brown et al. 2020, appendix B).
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
