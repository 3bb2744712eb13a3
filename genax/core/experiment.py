"""An experiment: a task and its data, with parts that can be replaced by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import flax.linen as nn
import optax

from genax.core.errors import GenaxError
from genax.core.task import Evaluator, LossFn, Phase, Sampler, Task

_NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Experiment:
    """A task and its data: what `build(config)` returns.

    data: training data, one for all stages, or a list or tuple of one a stage (see
      `genax.core.data`).
    evaluation: data of the evaluators that have none of their own; None if they need none but
      batch["index"].
    pretrained: runs, or what `genax import` wrote, whose parameters a new run starts with: by
      folder, old path patterns to new ones, such as {"params/encoder": "params/text_encoder"} or
      {"params/*/attention": "params/*/self_attention"}. Layers are stacked, or taken out of a
      stack, as the new network has them. Weights (genax.running.transfer) may replace a folder.
    """

    task: Task
    data: Any
    evaluation: Any = None
    pretrained: Mapping[Any, Mapping[str, str]] = field(default_factory=dict)

    def replace(
        self,
        *,
        losses: Mapping[str, LossFn] = _NOTHING,
        optimizers: Mapping[str, optax.GradientTransformation] = _NOTHING,
        networks: Mapping[str, Any] = _NOTHING,
        samplers: Mapping[str, Sampler | None] = _NOTHING,
        evaluators: Mapping[str, Evaluator | None] = _NOTHING,
        stage: int | None = None,
        **fields: Any,
    ) -> Experiment:
        """Return the experiment with parts replaced by name, and with other `data`, `evaluation`.

        losses, optimizers: by phase, in all stages or in that of a number.
        networks: by their names in the losses, as in `nets.denoiser`.
        samplers, evaluators: None removes one; a new name adds one.
        Raises GenaxError for a name that is not there.
        """
        task, networks_of = self.task, vars(self.task.networks)
        meant = {number for number in range(len(task.stages)) if stage in (None, number)}
        phases = [phase.name for number in meant for phase in task.stages[number].phases]
        _check_there("phase", {*losses, *optimizers}, dict.fromkeys(phases))
        modules = [name for name, part in networks_of.items() if isinstance(part, nn.Module)]
        _check_there("network", networks, modules)

        def played(phase: Phase) -> Phase:
            loss = losses.get(phase.name, phase.loss)
            return replace(phase, loss=loss, optimizer=optimizers.get(phase.name, phase.optimizer))

        task = replace(
            task,
            networks=task.networks.clone(**networks),
            stages=[
                replace(one, phases=[*map(played, one.phases)]) if number in meant else one
                for number, one in enumerate(task.stages)
            ],
            samplers=_merged("sampler", task.samplers, samplers),
            evaluators=_merged("evaluator", task.evaluators, evaluators),
        )
        return replace(self, **{"task": task, **fields})


def _merged(kind: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    _check_there(kind, [name for name, value in new.items() if value is None], old)
    return {name: value for name, value in {**old, **new}.items() if value is not None}


def _check_there(kind: str, names: Iterable[str], there: Iterable[str]) -> None:
    if unknown := sorted({*names} - {*there}):
        raise GenaxError(f"replace: no {kind} {unknown[0]!r}; there is {', '.join(there)}.")
