"""Several steps in a call: which steps a loop slows down, and that both forms are single steps."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

from genax.core import Loss, Phase, Stage, Task, init_state, make_step, tree
from genax.nn.convolution import Conv
from genax.running.dispatch import in_turn, scans_well
from genax.running.flops import phase_programs
from genax.settings.overrides import override
from tests import experiments
from tests.cli.command import inspect, metrics, succeed, train

ELEMENT = {"image": jax.ShapeDtypeStruct((6, 6, 2), jnp.float32)}


class Networks(nn.Module):
    """One network."""

    network: nn.Module


def loss(nets, batch):
    """The mean of outputs squared."""
    return Loss(nets.network(batch["image"]) ** 2)


def conv_task(*layers) -> Task:
    phase = Phase("fit", loss, ("network",), optax.sgd(0.1))
    return Task(Networks(nn.Sequential(layers)), [Stage([phase])])


def programs_of(task):
    state = jax.eval_shape(lambda: init_state(task, 0, ELEMENT))
    batch = {"image": jax.ShapeDtypeStruct((4, 6, 6, 2), jnp.float32)}
    return phase_programs(task, 0, state, batch)


@pytest.mark.parametrize(
    ("layers", "well"),
    [
        ((nn.Conv(3, (3, 3)), nn.Conv(3, (3, 3))), False),
        ((nn.ConvTranspose(3, (3, 3)), nn.ConvTranspose(3, (3, 3))), False),
        ((nn.remat(nn.Conv)(3, (3, 3)), nn.Conv(3, (3, 3))), False),
        ((Conv(3), Conv(3)), True),
        ((nn.Dense(3), nn.Dense(3)), True),
    ],
    ids=["flax", "transposed", "remat", "genax", "dense"],
)
def test_which_convolutions_a_loop_slows_down(layers, well, monkeypatch):
    """Those whose gradients JAX writes in another order than NHWC, on a CPU alone."""
    programs = programs_of(conv_task(*layers))
    assert scans_well(programs) == well
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert scans_well(programs)


def test_other_layouts_and_other_numbers_of_dimensions():
    def program(x, kernel, numbers):
        return jax.make_jaxpr(
            lambda x, kernel: lax.conv_general_dilated(
                x, kernel, (1,) * (x.ndim - 2), "SAME", dimension_numbers=numbers
            )
        )(x, kernel).jaxpr

    three = program(
        jnp.ones((1, 5, 5, 5, 2)), jnp.ones((3, 3, 3, 2, 4)), ("NDHWC", "DHWIO", "NDHWC")
    )
    assert scans_well([three])
    channels_first = program(
        jnp.ones((1, 2, 5, 5)), jnp.ones((4, 2, 3, 3)), ("NCHW", "OIHW", "NCHW")
    )
    assert not scans_well([channels_first])


def test_steps_in_turn_are_single_steps():
    task = conv_task(nn.Conv(3, (3, 3)))
    state, step = init_state(task, 0, ELEMENT), jax.jit(make_step(task))
    rng = np.random.default_rng(0)
    batches = [{"image": rng.standard_normal((4, 6, 6, 2), np.float32)} for _ in range(3)]
    several, measured = in_turn(step)(state, batches)
    losses = []
    for batch in batches:
        state, found = step(state, batch)
        losses.append(found["fit/loss"])
    assert tree.digest(several) == tree.digest(state)
    assert measured["fit/loss"] == losses


OWN = """
import flax.linen as nn
import jax.numpy as jnp
import optax
from genax.core import Experiment, Loss, Phase, Stage, Task
from genax.data import ImageData

DEFAULTS = {"steps": 6, "batch_size": 8, "log_every": 1}


class Networks(nn.Module):
    network: nn.Module


def loss(nets, batch):
    return Loss((nets.network(batch["image"]) - batch["image"]) ** 2)


def build(config):
    network = nn.Sequential((nn.Conv(4, (3, 3)), nn.Conv(1, (3, 3))))
    phase = Phase("fit", loss, ("network",), optax.sgd(0.1))
    return Experiment(Task(Networks(network), [Stage([phase])]), ImageData("digits"))
"""


def test_microbatches_are_slow_too(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(OWN)
    said = "slow at convolutions of this step in microbatches and in phases with every > 1"
    out = succeed(*train(str(path), tmp_path / "run", accumulate=2, steps=1)).out
    assert out.count(said) == 1
    assert "one by one" not in out


def test_a_run_with_flax_convolutions_is_dispatched_in_turn(tmp_path):
    """To the bit the run of single steps, and said."""
    path, states, logs = tmp_path / "own.py", [], []
    path.write_text(OWN)
    for k in (1, 3):
        folder = tmp_path / str(k)
        out = succeed(*train(str(path), folder, steps_per_call=k)).out
        assert (
            "the 3 steps of a call (config.steps_per_call) are dispatched one by one" in out
        ) == (k == 3)
        states.append(inspect(folder)["digest"])
        logs.append([line["fit/loss"] for line in metrics(folder)])
    assert states[0] == states[1]
    singles, threes = logs
    assert threes == pytest.approx([np.mean(singles[:3]), np.mean(singles[3:])])


def test_the_first_command_of_the_readme_is_scanned():
    """Its steps are as fast in a loop, and short enough for dispatches to count."""
    loaded = experiments.load("experiments/diffusion/ddpm.py")
    small = {"unet.channels": "8", "unet.num_groups": "4"}
    experiment = loaded.build(override(experiments.config_of(loaded, "digits"), small))
    element = experiment.data.element
    state = jax.eval_shape(lambda: init_state(experiment.task, 0, element))
    batch = {name: jax.ShapeDtypeStruct((4, *x.shape), x.dtype) for name, x in element.items()}
    assert scans_well(phase_programs(experiment.task, 0, state, batch))
