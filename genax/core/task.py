"""What is trained: losses, phases, stages, tasks and the one state they share."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import flax.linen as nn
import jax
import optax
from flax import struct

from genax.core import tree
from genax.core.errors import GenaxError, check_kind, check_tuple

Batch = Mapping[str, Any]
PyTree = Any


@struct.dataclass
class Loss:
    """One value per element of a batch; the step alone averages.

    values: [b, ...], not averaged. Its mean is sum(values * weights) / sum(weights) over the global
      batch. What depends on no element, such as a penalty on parameters, is repeated for each of
      them. A loss of a phase with `embed` sees the whole batch and returns any shape.
    weights: broadcastable to values, or None if every element counts once.
    aux: metrics by name; an array is averaged over all its elements, a Loss by its own weights.
    """

    values: jax.Array
    weights: jax.Array | None = None
    aux: Mapping[str, Any] = field(default_factory=dict)


# Several losses by name are the terms of a sum: each is averaged by its own weights.
Losses = Loss | Mapping[str, Loss]
# (nets, batch), and the rows of a phase that has `embed`.
LossFn = Callable[..., Losses]


@dataclass(frozen=True)
class Phase:
    """One minimiser of the game.

    loss: (nets, batch) -> a Loss, or several by name, whose means add up.
    trains: path patterns under the parameters, such as "generator" or
      "language_model/*/cross_attention"; "*" matches within one path component, "**" any number,
      and a pattern takes everything below what it matches.
    optimizer: one of optax, or the name of a phase of the stage that trains the same and whose
      optimizer, with its state, moves this one too: one Adam for a loss and a lazy penalty.
    every: it runs on the steps of its stage that this number divides, or that this function names.
    embed: for a loss that compares the elements of a batch with each other. (nets, batch) -> rows,
      a pytree of floating arrays with one row per element of a part of the batch. The loss is then
      (nets, batch, rows), and its batch and rows are the global ones on every layout.
    """

    name: str
    loss: LossFn
    trains: Sequence[str]
    optimizer: optax.GradientTransformation | str
    every: int | Callable[[Any], Any] = 1
    embed: Callable[[Any, Batch], PyTree] | None = None

    def __post_init__(self):
        whose = f"phase {self.name!r}:"
        check_tuple(f"{whose} trains", self.trains)
        if not self.trains or (not callable(self.every) and self.every < 1):
            raise GenaxError(
                f"{whose} trains={self.trains} and every={self.every}; it trains something, and "
                "every is at least 1."
            )
        kind, example = optax.GradientTransformation | str, "one of optax, such as optax.adam(1e-3)"
        check_kind(f"{whose} optimizer", self.optimizer, kind, example)
        check_kind(f"{whose} loss", self.loss, Callable, "a function of (nets, batch)")

    def moves(self, step: Any) -> Any:
        """Whether it runs on a step of its stage."""
        return self.every(step) if callable(self.every) else step % self.every == 0


@dataclass(frozen=True)
class Stage:
    """Phases that play against each other for a number of steps.

    steps: None is until the run ends.
    together: all phases take their gradients at the parameters before the step; otherwise each
      sees what those before it changed. Phases that play together train different parameters.
    batch_size: the global batch's size, such as that of a resolution; None is config.batch_size.
    """

    phases: Sequence[Phase]
    steps: int | None = None
    together: bool = False
    batch_size: int | None = None

    def __post_init__(self):
        for name in ("batch_size", "steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise GenaxError(f"a stage's {name}={value} must be at least 1.")
        check_kind("Stage.phases", self.phases, Sequence, "a list, such as Stage([phase])")
        for phase in self.phases:
            check_kind("a phase of a stage", phase, Phase, "Phase(name, loss, trains, optimizer)")
        names = [phase.name for phase in self.phases]
        if len(set(names)) != len(names):
            raise GenaxError(f"phases of one stage need different names, got {names}.")
        for phase in self.phases:
            self.mover(phase)

    def mover(self, phase: Phase) -> Phase:
        """The phase whose optimizer moves what a phase trains: itself, or the one that it names."""
        if not isinstance(phase.optimizer, str):
            return phase
        found = next((one for one in self.phases if one.name == phase.optimizer), phase)
        if isinstance(found.optimizer, str) or {*found.trains} != {*phase.trains}:
            raise GenaxError(
                f"phase {phase.name!r} moves by the optimizer of {phase.optimizer!r}, which is no "
                "phase of its stage that trains the same by an optimizer of its own."
            )
        return found


@dataclass(frozen=True)
class Rendered:
    """A file that shows samples: a video, a sound, a molecule, a mesh.

    content: of the file.
    suffix: its ending, such as ".gif", ".mp4", ".wav", ".svg" or ".ply".
    """

    content: bytes
    suffix: str

    def __post_init__(self):
        if not re.fullmatch(r"\.\w+", self.suffix):
            raise GenaxError(f"Rendered has the suffix {self.suffix!r}; one is like '.gif'.")


@dataclass(frozen=True)
class Sampler:
    """Draws samples: function(nets, batch) -> one sample per element of batch["index"].

    batch: "index", and what condition(num, workdir) returns if samples are conditioned: arrays with
      one row per sample, which come in chunks of config.eval_batch_size. A condition that has fewer
      rows than asked for, such as test images, returns an "index" of its own length with them. What
      is no array of numbers, such as a list of texts, is there for render alone. A batch of a run
      also holds "stage", the number of the stage that plays, a Python number, and "step", the steps
      taken in that stage.
    render: function(samples, batch, workdir) -> what a person looks at: a PIL image, a text, or a
      `Rendered`. Its annotation says which, so that `genax sample --out` can refuse before anything
      is drawn.
    prompt: function(text, num, workdir) -> such arrays, if a user's text can condition them.
    """

    function: Callable[[Any, Batch], PyTree]
    render: Callable[[Any, Batch, Any], Any]
    condition: Callable[[int, Any], Batch] | None = None
    prompt: Callable[[str, int, Any], Batch] | None = None

    @property
    def text(self) -> bool | None:
        """Whether `render` is annotated to return a text, and not an image.

        None if it is not annotated or returns a `Rendered`, whose suffix only the drawing tells.
        """
        returned = inspect.signature(self.render).return_annotation
        if returned is inspect.Signature.empty or Rendered.__name__ in str(returned):
            return None
        return returned in (str, "str")


@dataclass(frozen=True, eq=False)
class Evaluator:
    """A score of the networks: function(nets, batch) -> loss, averaged over all evaluation data.

    batch: what `data` gives, "index", and in a run "stage" and "step" as a sampler gets them.
    summarize: for a score that is no mean (an FID, a BLEU). function then returns a pytree of
      arrays, one row per element, and summarize(rows, workdir) makes the scores of all rows. Its
      third argument, if it has one, is call(function, batch): function(nets, batch) on the host.
    examples: how many elements count, at least 1; None is as many as the data has. Rows made of
      batch["index"] alone, such as samples, are as many as asked for, however much data there is.
      Rows made of the data, and a mean that reads any, end with the data.
    data: what function reads; None is the evaluation data of the experiment. A run opens it at its
      start.
    given: a pytree of arrays that no run trains, such as an Inception, or given(workdir), which
      returns it: the third argument of function. All evaluators that share it place it once.
    says: what a result holds of it, such as how samples are drawn: a mapping, or says(rows,
      workdir), which returns one. Its "floor", by score, is shown beside the scores.
    """

    function: Callable[..., Any]
    summarize: Callable[..., Mapping[str, float]] | None = None
    examples: int | None = None
    data: Any = None
    given: PyTree | Callable[[Any], PyTree] = None
    says: Mapping[str, Any] | Callable[[Any, Any], Mapping] = field(default_factory=dict)

    def __post_init__(self):
        if self.examples is not None and self.examples < 1:
            raise GenaxError(
                f"an evaluator of {self.examples} examples has no score; it reads at least 1."
            )


@dataclass(frozen=True, eq=False)
class Task:
    """Named networks and the game played with them.

    networks: a Linen module whose submodules are the networks; losses get it bound.
    stages: played in order. Every stage's phases initialise what they touch.
    ema: decay by path pattern, the first match counts. A pattern such as "generator" names
      parameters, one that begins with a collection's name such as "batch_stats/generator" what is
      in it; other collections are used as they are. A decay is a float or a function of the step
      (see `genax.nn.ema`).
    streams: names of random streams that losses and networks draw from, besides "example", the
      stream behind `per_example`, which is the same on any layout of devices.
    summed: collections whose updates add up over the shards of a batch (an image pool, a
      counter); the updates of all others are averaged.
    rules: partition rules, (path pattern, axes) pairs, first match wins: see `devices`.
    fixed: path patterns of networks that never change, neither in parameters nor in collections. A
      run keeps them once and not in its checkpoints. A mapping says of each pattern in which dtype
      they are kept, or None for that of the module. A pattern that begins with "!" takes back what
      it names: ("**", "!head") is everything but the head.
    given: given(nets, batch) calls what no loss calls, such as a decoder that only samples need, so
      that it gets parameters too. batch: zeros of the first stage's shapes.
    """

    networks: nn.Module
    stages: Sequence[Stage]
    samplers: Mapping[str, Sampler] = field(default_factory=dict)
    evaluators: Mapping[str, Evaluator] = field(default_factory=dict)
    ema: Mapping[str, float | Callable[[jax.Array], jax.Array]] = field(default_factory=dict)
    streams: Sequence[str] = ("dropout", "noise")
    summed: Sequence[str] = ()
    rules: Sequence[tuple[str, tuple]] = ()
    fixed: Mapping[str, Any] | Sequence[str] = ()
    given: Callable[[Any, Batch], Any] | None = None

    def __post_init__(self):
        example = "one Linen module whose fields are networks, such as class Networks(nn.Module)"
        check_kind("Task.networks", self.networks, nn.Module, example)
        check_kind("Task.stages", self.stages, Sequence, "a list, such as [Stage([phase])]")
        if not self.stages:
            raise GenaxError("a task needs at least one stage.")
        for stage in self.stages:
            check_kind("a stage of a task", stage, Stage, "Stage([phase, ...])")
        if any(stage.steps is None for stage in self.stages[:-1]):
            raise GenaxError("only the last stage of a task may leave its number of steps open.")
        for kind, those in ((Sampler, self.samplers), (Evaluator, self.evaluators)):
            for name, one in those.items():
                check_kind(f"{name!r} of a task", one, kind, f"{kind.__name__}(function, ...)")
        for place in ("fixed", "streams", "summed"):
            check_tuple(f"Task.{place}", getattr(self, place))
        self.check_fixed(self.fixed)
        for pattern, decay in self.ema.items():
            if not callable(decay) and not 0 <= decay <= 1:
                raise GenaxError(f"Task.ema: the decay {decay} of {pattern!r} is not from 0 to 1.")
        for pattern in (one for one in self.ema if not self._takes_back(one)):
            if any(self.is_fixed(f"{at}/{pattern}") for at in ("params", "collections")):
                raise GenaxError(
                    f"Task.ema names {pattern!r}, which Task.fixed says never changes; an average "
                    "of it would be itself: leave it out of one of them."
                )

    def check_fixed(self, paths: Iterable[str]) -> None:
        """Raise GenaxError if a phase trains one of these paths or patterns of what is fixed."""
        paths = [path for path in paths if not path.startswith("!")]
        for phase in (phase for stage in self.stages for phase in stage.phases):
            free = [pattern for pattern in phase.trains if not self._takes_back(pattern)]
            for pattern, path in product(free, paths):
                if tree.matches(pattern, path) or tree.matches(path, pattern):
                    raise GenaxError(
                        f"phase {phase.name!r} trains {pattern!r}, but Task.fixed says that "
                        f"{path!r} never changes; leave it out of one of them."
                    )

    def is_fixed(self, path: str) -> bool:
        """Whether Task.fixed names a path of a state, such as "params/vae/kernel"."""
        return self.fixed_by(path) is not None

    def fixed_by(self, path: str) -> str | None:
        """The first pattern of Task.fixed that names a path of a state."""

        def names(pattern: str) -> bool:
            return any(tree.matches(f"{at}/{pattern}", path) for at in ("params", "collections/*"))

        if any(names(pattern) for pattern in self._taken_back()):
            return None
        return next((one for one in self.fixed if not one.startswith("!") and names(one)), None)

    def _takes_back(self, pattern: str) -> bool:
        """Whether Task.fixed takes back all that a pattern names."""
        return any(tree.matches(free, pattern) for free in self._taken_back())

    def _taken_back(self) -> list[str]:
        """The patterns of Task.fixed that take back what they name."""
        return [pattern[1:] for pattern in self.fixed if pattern.startswith("!")]

    def plain(self, variables: Mapping[str, Any]) -> Mapping[str, Any]:
        """Variables for the networks as they are, without what the task's functions add to them."""
        return variables

    def stage_at(self, step: int) -> tuple[int, int]:
        """Number of the stage that plays global step `step`, and the step where it started."""
        number = 0
        while number < len(self.stages) - 1 and step >= self.start_of(number + 1):
            number += 1
        return number, self.start_of(number)

    def start_of(self, stage: int) -> int:
        """Steps before a stage."""
        return sum(earlier.steps or 0 for earlier in self.stages[:stage])

    @property
    def total_steps(self) -> int | None:
        """Steps of all stages together; None if the last is open."""
        return None if self.stages[-1].steps is None else self.start_of(len(self.stages))


class TrainState(struct.PyTreeNode):
    """Everything that a step reads and changes, and nothing that is a hyperparameter.

    step: int32, optimizer steps taken. rng: uint32[2], the seed's key, from which every key is
    derived. params, collections: as Linen names them. opt_state: by phase of the present stage.
    ema: averages of parameters and collections, by path. fixed: "params" and "collections" that
    never change, and are not in those above.
    """

    step: jax.Array
    rng: jax.Array
    params: PyTree
    collections: PyTree
    opt_state: PyTree
    ema: PyTree
    fixed: PyTree = struct.field(default_factory=dict)
