"""One state, one step, one loop, one checkpoint. Knows no architecture."""

from genax.core.errors import GenaxError
from genax.core.experiment import Experiment
from genax.core.nets import batch_axis, example_keys, gather, per_example, pure, read, write
from genax.core.step import init_state, make_step
from genax.core.task import Evaluator, Loss, Phase, Rendered, Sampler, Stage, Task, TrainState

__all__ = [
    "Evaluator",
    "Experiment",
    "GenaxError",
    "Loss",
    "Phase",
    "Rendered",
    "Sampler",
    "Stage",
    "Task",
    "TrainState",
    "batch_axis",
    "example_keys",
    "gather",
    "init_state",
    "make_step",
    "per_example",
    "pure",
    "read",
    "write",
]
