"""Low-rank adapters: Hu et al. 2021, LoRA (arXiv:2106.09685).

A linear layer W x becomes W x + (alpha / rank) B A x. Only A [in, rank] and B [rank, out] are
trained. An interceptor of Linen adds the second term, so no network is written for it and W keeps
its path.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from inspect import signature
from typing import Any, TypeVar, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from genax.core import tree
from genax.core.errors import GenaxError
from genax.core.experiment import Experiment
from genax.core.task import Phase, Task
from genax.nn.projection import Projection, project
from genax.nn.rematerialise import PRODUCT
from genax.settings.ranges import AMOUNT, COUNT, POSITIVE, SHARE, Ranges, check_fields

T = TypeVar("T", bound=Experiment | Task)
Make = TypeVar("Make", bound=Callable[..., Experiment])

# The projections of the paper's experiments (section 5): of queries and of values.
TARGETS = ("**/query", "**/value")
# Settings of an experiment that can be adapted. A rank of 0 trains all parameters. targets: path
# patterns with commas between them.
SETTINGS: dict[str, Any] = {
    "lora": {"rank": 0, "alpha": 16.0, "targets": ",".join(TARGETS), "dropout": 0.0}
}
RANGES: Ranges = {"lora.rank": AMOUNT, "lora.alpha": POSITIVE, "lora.dropout": SHARE}

# What the first axis of a joint projection's features counts, by the projection's name. Each part
# may have an adapter of its own.
PARTS = {"qkv": ("query", "key", "value"), "key_value": ("key", "value")}
# The adapter of a whole layer.
WHOLE = "adapter"
# The leaves of an adapter, anywhere.
LEAVES = "lora_*"


@dataclass(frozen=True)
class LoRA:
    """Places and sizes of adapters.

    rank: number of columns of A and rows of B.
    alpha: the adapters' output is scaled by alpha / rank.
    targets: path patterns of linear layers under the parameters, such as "**/attention/output". A
      joint projection is one layer ("**/qkv", with one A for all its parts), or its parts are
      ("**/qkv/query" or "**/query").
    dropout: rate of dropout on the adapters' input, in training.
    """

    rank: int
    alpha: float = 16.0
    targets: tuple[str, ...] = TARGETS
    dropout: float = 0.0

    def __post_init__(self):
        if not self.targets:
            raise GenaxError("LoRA needs targets: path patterns such as **/query, at least one.")
        check_fields(self, rank=COUNT, alpha=POSITIVE, dropout=SHARE)

    @property
    def scale(self) -> float:
        """The factor of the product of B and A."""
        return self.alpha / self.rank

    def adapters(self, path: str, parts: Sequence[str] = ()) -> tuple[str, ...]:
        """Return the names of the adapters of the layer at a path: `WHOLE`, or some of its parts.

        parts: names of the layer's parts, if it is a joint projection.
        """
        if self._names(path):
            return (WHOLE,)
        return tuple(part for part in parts if self._names(f"{path}/{part}"))

    def _names(self, path: str) -> bool:
        return any(tree.matches(target, path) for target in self.targets)


@dataclass(frozen=True, eq=False)
class AdaptedTask(Task):
    """A task whose phases train adapters.

    lora: the adapters.
    """

    lora: LoRA | None = None

    def plain(self, variables: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the variables with adapters merged."""
        return variables if self.lora is None else merged(variables, self.lora)


class Adapter(nn.Module):
    """The low-rank map scale * B A x, from the last `num_in` axes of x to the axes `features`.

    Parameters: "lora_a" [*in, rank], initialised as by the paper's code and PEFT, uniform within
      1 / sqrt(in), and "lora_b" [rank, *features], zeros.
    """

    features: tuple[int, ...]
    num_in: int
    rank: int
    scale: float
    dropout: float

    @nn.compact
    def __call__(self, x: Float[Array, "*b_and_in"], train: bool) -> Float[Array, "*b_and_out"]:
        """Return the adapter's part of a layer's output, in the dtype of x."""
        ins = x.shape[-self.num_in :]
        bound = 1 / math.sqrt(math.prod(ins))

        def uniform(key, shape):
            return jax.random.uniform(key, shape, minval=-bound, maxval=bound)

        a = self.param("lora_a", uniform, (*ins, self.rank)).astype(x.dtype)
        b = self.param("lora_b", nn.initializers.zeros, (self.rank, *self.features)).astype(x.dtype)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        hidden = checkpoint_name(project(x, a, self.num_in), PRODUCT)
        return checkpoint_name(project(hidden, b), PRODUCT) * self.scale


def adapted(
    experiment: T,
    rank: int = 8,
    alpha: float = 16.0,
    targets: Sequence[str] = TARGETS,
    dropout: float = 0.0,
    trained: Sequence[str] = (),
    dtype: Any = None,
) -> T:
    """Return the experiment, or the task, that trains adapters in place of all parameters.

    rank, alpha, targets, dropout: see `LoRA`.
    trained: path patterns of what is trained as before, such as a new head.
    dtype: in which the other parameters are kept; None is that of their modules.
    Raises GenaxError, at the latest when the state is first traced, for a target that names no
    linear layer which a phase trains.
    """
    if isinstance(targets, str):
        raise GenaxError(f"LoRA's targets are a tuple of patterns, such as ({targets!r},).")
    lora = LoRA(rank, alpha, tuple(targets), dropout)
    if isinstance(experiment, Experiment):
        task = _adapted(experiment.task, lora, trained, dtype)
        return cast(T, replace(experiment, task=task))
    return cast(T, _adapted(experiment, lora, trained, dtype))


def _adapted(task: Task, lora: LoRA, trained: Sequence[str], dtype: Any) -> AdaptedTask:
    """Return the task that trains adapters in place of all parameters."""
    if isinstance(task, AdaptedTask):
        raise GenaxError("this task has adapters already.")
    phases = [phase for stage in task.stages for phase in stage.phases]
    plays = {_apart(phase.trains, trained) for phase in phases}
    layers = tuple(pattern for patterns in plays for pattern in patterns)
    old = task.fixed if isinstance(task.fixed, Mapping) else dict.fromkeys(task.fixed)
    same = {name: getattr(task, name) for name in ("networks", "summed", "rules")}

    def at_work(function: Callable, train: bool = False, check: bool = False) -> Callable:
        return _at_work(function, lora, layers, trained, train, check)

    def phase_of(phase: Phase) -> Phase:
        embed = None if phase.embed is None else at_work(phase.embed, train=True)
        loss = at_work(phase.loss, train=True, check=phase is phases[-1])
        # No phase but those of these patterns has adapters; a pattern must not name nothing.
        one = len(plays) == 1 and bool(layers)
        own = [f"**/{LEAVES}"] if one else _below(_apart(phase.trains, trained))
        return replace(phase, loss=loss, embed=embed, trains=(*own, *_both(phase.trains, trained)))

    averages: dict[str, Any] = {}
    for pattern, decay in task.ema.items():
        averages |= dict.fromkeys(_both((pattern,), trained), decay)
        averages |= dict.fromkeys(_below(_apart((pattern,), trained)), decay)
    return AdaptedTask(
        **same,
        streams=tuple(dict.fromkeys((*task.streams, "dropout"))),
        stages=[
            replace(stage, phases=[phase_of(phase) for phase in stage.phases])
            for stage in task.stages
        ],
        samplers={
            name: replace(sampler, function=at_work(sampler.function))
            for name, sampler in task.samplers.items()
        },
        evaluators={
            name: replace(evaluator, function=at_work(evaluator.function))
            for name, evaluator in task.evaluators.items()
        },
        ema=averages,
        fixed={**old, "**": dtype, **dict.fromkeys(f"!{p}" for p in (f"**/{LEAVES}", *trained))},
        given=None if task.given is None else at_work(task.given),
        lora=lora,
    )


def adaptable(*heads: str) -> Callable[[Make], Make]:
    """Give an experiment the adapters that `config.lora` describes, if their rank is above 0.

    The decorated function returns an experiment, and its argument "config" has `SETTINGS`.
    heads: path patterns of what is trained as before, unless it is taken from pretrained weights:
      config.pretrained names some, and config.new_head is false.
    """

    def decorate(make: Make) -> Make:
        @wraps(make)
        def build(*args: Any, **kwargs: Any) -> Experiment:
            experiment = make(*args, **kwargs)
            config = signature(make).bind(*args, **kwargs).arguments["config"]
            lora = config.lora
            if not lora.rank:
                return experiment
            targets = tuple(lora.targets.split(",")) if lora.targets else ()
            taken = config.get("pretrained") and not config.get("new_head", True)
            trained = () if taken else heads
            return adapted(experiment, lora.rank, lora.alpha, targets, lora.dropout, trained)

        return cast(Make, build)

    return decorate


def merged(variables: Mapping[str, Any], lora: LoRA) -> dict[str, Any]:
    """Return the variables of the plain networks, whose kernels are W + (alpha / rank) B A.

    variables: Linen variables of an adapted task. Stacked layers stay stacked.
    """
    leaves = tree.flatten(variables)
    found = {path: leaf for path, leaf in leaves.items() if not is_adapter(path)}
    for path, a in leaves.items():
        if path.endswith("/lora_a"):
            layer, name = path.split("/")[-3:-1]
            above = path.rsplit("/", 2)[0]
            kernel, b = found[f"{above}/kernel"], leaves[f"{path[:-1]}b"]
            part = None if name == WHOLE else PARTS[layer].index(name)
            found[f"{above}/kernel"] = _merged(kernel, a, b, part, lora.scale)
    return tree.nest(found)


def is_adapter(path: str) -> bool:
    """Return whether a path names a leaf of an adapter."""
    return tree.matches(f"**/{LEAVES}", path)


def _merged(kernel: Any, a: Any, b: Any, part: int | None, scale: float) -> jax.Array:
    """A kernel, possibly stacked, plus the product of its adapter."""
    stacked = a.ndim + b.ndim - 2 + (part is not None) - kernel.ndim

    def product(a, b):
        return scale * jnp.tensordot(a, b, 1, precision=lax.Precision.HIGHEST)

    for _ in range(stacked):
        product = jax.vmap(product)
    change = product(jnp.asarray(a), jnp.asarray(b))
    # A kernel that is kept in bfloat16 would round the sum.
    kernel = jnp.asarray(kernel, change.dtype)
    if part is None:
        return kernel + change
    axis = a.ndim - 1
    return kernel.at[(slice(None),) * axis + (part,)].add(change)


def _apart(patterns: Sequence[str], trained: Sequence[str]) -> tuple[str, ...]:
    """Return the patterns that name more than what is trained as before."""
    return tuple(p for p in patterns if not any(tree.matches(whole, p) for whole in trained))


def _below(patterns: Sequence[str]) -> list[str]:
    """Return patterns of the adapters below what the patterns name."""
    return [f"{pattern}/**/{LEAVES}" for pattern in patterns]


def _both(first: Sequence[str], second: Sequence[str]) -> tuple[str, ...]:
    """Return patterns of what a pattern of each names, if one of the two contains the other."""
    found = [
        two if tree.matches(one, two) else one
        for one in first
        for two in second
        if tree.matches(one, two) or tree.matches(two, one)
    ]
    return tuple(dict.fromkeys(found))


def _at_work(
    function: Callable,
    lora: LoRA,
    layers: Sequence[str],
    trained: Sequence[str],
    train: bool,
    check: bool,
) -> Callable:
    """Return the function of networks, with the adapters of their layers.

    layers: patterns of the parameters that phases trained; their layers may get adapters.
    trained: patterns of what is trained as before, without adapters.
    train: whether dropout is on.
    check: whether all targets have to be found once the function has been called.
    """

    def intercept(call, args, kwargs, context):
        y, layer = call(*args, **kwargs), context.module
        if context.method_name != "__call__" or not isinstance(layer, Projection | nn.Dense):
            return y
        features = layer.features if isinstance(layer, Projection) else (layer.features,)
        parts = PARTS.get(layer.name, ())
        parts = parts if len(features) > 1 and features[0] == len(parts) else ()
        if layer.is_initializing():
            path = "/".join(layer.path)
            within = [
                any(tree.matches(pattern, f"{path}/kernel") for pattern in patterns)
                for patterns in (layers, trained)
            ]
            names = lora.adapters(path, parts) if within == [True, False] else ()
        else:
            # A network that is called as a pure function does not know its path.
            names = tuple(n for n in (WHOLE, *parts) if layer.has_variable("params", n))
        if not names:
            return y
        x = next(iter((*args, *kwargs.values()))).astype(y.dtype)

        def run(name, features):
            num_in = getattr(layer, "num_in", 1)
            options = (num_in, lora.rank, lora.scale, lora.dropout)
            return Adapter(features, *options, name=name)(x, train)

        if names == (WHOLE,):
            return y + run(WHOLE, features)
        changes = {name: run(name, features[1:]) for name in names}
        zeros = jnp.zeros_like(changes[names[0]])
        return y + jnp.stack([changes.get(name, zeros) for name in parts], -len(features))

    @wraps(function)
    def run(nets, *args):
        with nn.intercept_methods(intercept):
            found = function(nets, *args)
        if check and nets.is_initializing():
            _check_targets(lora, nets.variables.get("params", {}))
        return found

    return run


def _check_targets(lora: LoRA, params: Any) -> None:
    """Raise GenaxError for a target without an adapter."""
    leaves = tree.flatten(params)
    paths = {path.rsplit("/", 1)[0] for path in leaves if is_adapter(path)}
    paths |= {path.removesuffix(f"/{WHOLE}") for path in paths}
    kernels = sorted(path.removesuffix("/kernel") for path in leaves if path.endswith("/kernel"))
    for target in lora.targets:
        if not any(tree.matches(target, path) for path in paths):
            raise GenaxError(
                f"LoRA's target {target!r} names no linear layer that a phase trains; kernels are "
                f"in {', '.join(kernels[:10])}{', ...' * (len(kernels) > 10)}."
            )
