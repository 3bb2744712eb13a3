"""Reference implementations: absent, their tests skip; under CI they must be there.

And what is compared with them.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from functools import partial

import jax
import numpy as np
import optax
import pytest

from genax.core import tree

RATE, DECAY, EPSILON = 1e-3, 0.1, 1e-3
# Of AdamW. The first step of Adam is nearly a sign: with a small epsilon it would be one of
# rounding errors, where the gradient is as good as zero.


def require(*modules: str, extra: str = "parity") -> list:
    """Import packages of an extra, or skip; with CI set in the environment, fail instead."""
    check_installed(*modules, how=f"'genax[{extra}]'")
    return [importlib.import_module(name) for name in modules]


def check_installed(*modules: str, how: str) -> None:
    """Skip unless packages are there; with CI set in the environment, fail instead.

    how: what pip is given to install them.
    """
    tops = dict.fromkeys(name.partition(".")[0] for name in modules)
    missing = [name for name in tops if importlib.util.find_spec(name) is None]
    if missing:
        reason = f"needs {', '.join(missing)}: pip install {how}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason, allow_module_level=True)


def require_pythae():
    """The module `pythae.models`, or skip; with CI set in the environment, fail instead.

    Its own requirements would replace PyTorch; pydantic and cloudpickle come with the extra parity.
    """
    check_installed("torch", "pydantic", "cloudpickle", how="'genax[parity]'")
    check_installed("pythae", how="--no-deps pythae==0.1.2")
    return importlib.import_module("pythae.models")


@partial(jax.jit, static_argnums=0)
def stepped(optimizer: optax.GradientTransformation, gradient, params):
    """The parameters after an optimizer's first step."""
    updates, _ = optimizer.update(gradient, optimizer.init(params), params)
    return optax.apply_updates(params, updates)


def compare(
    ours, params, conversions, model, loss, outputs, kept=lambda output: output
) -> dict[str, float]:
    """Largest differences, relative to the largest number of each array: outputs, loss, gradients,
    parameters after a step of AdamW.

    ours: params -> (loss, outputs). loss, outputs: what the model in PyTorch found, whose tensors
    `conversions` turn into parameters. kept: of an output, what is compared.
    """
    [torch] = require("torch")
    (found_loss, found), gradient = jax.jit(jax.value_and_grad(ours, has_aux=True))(params)
    pairs = zip(found, outputs, strict=True)
    worst = {
        "outputs": max(difference(*map(kept, pair)) for pair in pairs),
        "loss": difference(found_loss, loss),
    }
    optimizer = torch.optim.AdamW(model.parameters(), RATE, eps=EPSILON, weight_decay=DECAY)
    optimizer.zero_grad()
    loss.backward()
    # What has no gradient there is not decayed either.
    named = model.named_parameters(remove_duplicate=False)
    trained = {name: p for name, p in named if p.grad is not None}
    grads = {name: p.grad for name, p in trained.items()}
    gradient, largest = tree.flatten(gradient), max(float(g.abs().max()) for g in grads.values())
    # Where a softmax cancels a bias, its exact gradient is zero and what is computed is rounding.
    worst["gradients"] = max(
        difference(gradient[path], theirs, floor=1e-2 * largest)
        for path, theirs in converted(conversions, grads, gradient).items()
    )
    optimizer.step()
    adamw = optax.adamw(RATE, eps=EPSILON, weight_decay=DECAY)
    moved = tree.flatten(stepped(adamw, tree.unflatten(gradient, params), params))
    worst["AdamW step"] = max(
        difference(moved[path], theirs)
        for path, theirs in converted(conversions, trained, moved).items()
    )
    return worst


def converted(conversions, tensors, like) -> dict[str, np.ndarray]:
    """Named tensors of theirs (those that are trained) as parameters of ours, by their paths.

    like: the parameters or their gradient, by path below "params".
    """
    arrays = {name: tensor.detach().numpy() for name, tensor in tensors.items()}
    found = {}
    for conversion in conversions:
        path = conversion.path.removeprefix("params/")
        if all(name in arrays for name in conversion.names):
            tensors = [arrays[name] for name in conversion.names]
            found[path] = conversion.read(tensors, like[path].shape)
    return found


def difference(ours, theirs, floor=0.0) -> float:
    if hasattr(theirs, "detach"):
        theirs = theirs.detach().numpy()
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), floor, 1e-9))
