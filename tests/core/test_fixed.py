"""Networks that never change, and networks that no loss calls."""

from dataclasses import replace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genax.core import GenaxError, Loss, Phase, Stage, Task, init_state, make_step, tree
from genax.core.devices import make_strategy
from genax.core.step import make_steps
from genax.running import sampling
from genax.running.flops import step_flops
from tests.contracts import latent

ELEMENT = {"x": jax.ShapeDtypeStruct((4,), jnp.float32)}


class Encoder(nn.Module):
    """A layer with statistics that it would update, one of which is infinite."""

    @nn.compact
    def __call__(self, x):
        self.variable("tables", "limits", lambda: jnp.array([-jnp.inf, -0.0]))
        calls = self.variable("statistics", "calls", lambda: jnp.zeros(()))
        if not self.is_initializing():
            calls.value += 1
        x = nn.BatchNorm(use_running_average=False)(nn.Dense(64, param_dtype=jnp.bfloat16)(x))
        return x.astype(jnp.float32)


class Networks(nn.Module):
    """One network that is fixed, one that is trained, one that nothing calls."""

    encoder: nn.Module
    head: nn.Module
    decoder: nn.Module


def loss(nets, batch):
    """The mean of the head's outputs squared."""
    return Loss(nets.head(nets.encoder(batch["x"])) ** 2)


def task(trains=("head",), **options):
    networks = Networks(Encoder(), nn.Dense(2), nn.Dense(3))
    phase = Phase("fit", loss, trains, optax.adam(0.1))
    return Task(networks, [Stage([phase])], **{"fixed": ("encoder",)} | options)


def state_of(one):
    return init_state(one, 0, ELEMENT)


def batch(size=8):
    return {"x": np.random.default_rng(0).standard_normal((size, 4)).astype(np.float32)}


def test_what_is_fixed_has_a_place_of_its_own():
    state = state_of(task(ema={"**": 0.9}))
    kept = set(tree.flatten(state.fixed))
    assert {path.partition("/")[0] for path in kept} == {"params", "collections"}
    assert all("/encoder/" in path for path in kept)
    assert len(kept) == 4 + 2 + 2  # of the layers, of BatchNorm, its own
    rest = tree.flatten(state.replace(fixed={}))
    assert not [path for path in rest if "encoder" in path]
    assert {"params/head/kernel", "ema/head/kernel"} <= rest.keys()
    variables = sampling.variables(state)
    assert set(variables) == {"params", "batch_stats", "tables", "statistics"}
    assert set(variables["params"]) == {"encoder", "head"}


@pytest.mark.parametrize("accumulate", [1, 2])
def test_it_never_changes(accumulate):
    """Not by what its own call writes either, nor where a change would be no number."""
    state = state_of(task())
    new, metrics = jax.jit(make_step(task(), 0, accumulate))(state, batch())
    assert np.isfinite(metrics["fit/loss"])
    assert tree.digest(new.fixed) == tree.digest(state.fixed)
    assert tree.digest(new.params) != tree.digest(state.params)
    free, _ = jax.jit(make_step(task(fixed=()), 0))(state_of(task(fixed=())), batch())
    assert free.collections["statistics"]["encoder"]["calls"] == 1


def test_a_run_is_the_same_as_if_it_were_merely_not_trained():
    one, other = task(), task(fixed=())
    kept, free = state_of(one), state_of(other)
    assert tree.digest(sampling.variables(kept)) == tree.digest(sampling.variables(free))
    kept, free = (jax.jit(make_step(t))(s, batch())[0] for t, s in ((one, kept), (other, free)))
    assert tree.digest(kept.params["head"]) == tree.digest(free.params["head"])
    flops = [step_flops(t, 0, state_of(t), batch()) for t in (one, other)]
    assert flops[0] == flops[1] > 0


def test_it_keeps_the_dtype_of_its_module_or_takes_that_of_the_task():
    dense = state_of(task()).fixed["params"]["encoder"]["Dense_0"]
    assert {leaf.dtype.name for leaf in dense.values()} == {"bfloat16"}
    wide = state_of(task(fixed={"encoder/Dense_0": jnp.float32, "encoder": jnp.float16})).fixed
    dtypes = {path: leaf.dtype.name for path, leaf in tree.flatten(wide).items()}
    assert dtypes["params/encoder/Dense_0/kernel"] == "float32"
    assert dtypes["params/encoder/BatchNorm_0/scale"] == "float16"
    assert dtypes["collections/batch_stats/encoder/BatchNorm_0/mean"] == "float16"


@pytest.mark.parametrize("steps", [1, 3])
def test_a_step_does_not_copy_it(steps):
    """It is returned in the memory that it came in."""
    one = task()
    state = jax.eval_shape(lambda: state_of(one))
    step = make_step(one) if steps == 1 else make_steps(make_step(one))
    lead = (8,) if steps == 1 else (steps, 8)
    shapes = {"x": jax.ShapeDtypeStruct((*lead, 4), jnp.float32)}
    strategy = make_strategy({"strategy": "jit", "mesh": "data=1"}, devices=jax.devices()[:1])
    compiled = strategy.compile(step, state, stacked=steps > 1).lower(state, shapes).compile()
    memory = compiled.memory_analysis()
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    assert memory.alias_size_in_bytes >= size


@pytest.mark.parametrize(
    "trains", [("encoder",), ("head", "encoder/Dense_0"), ("**",), ("encoder/**/kernel",), ("*",)]
)
def test_a_phase_that_trains_it_is_refused(trains):
    with pytest.raises(GenaxError, match=r"phase 'fit' trains .*never changes; leave it out"):
        task(trains)


def test_a_pattern_that_reaches_into_it_is_refused_before_the_first_step():
    one = task(("**/kernel",))
    with pytest.raises(GenaxError, match=r"trains '\*\*/kernel', but .*'encoder/Dense_0/kernel'"):
        jax.eval_shape(lambda: state_of(one))


def test_all_but_what_a_pattern_takes_back():
    one, other = task(fixed=("**", "!head")), task(fixed=("encoder",))
    assert tree.digest(state_of(one)) == tree.digest(state_of(other))
    for trains in (("encoder",), ("**/kernel",), ("**",)):
        with pytest.raises(GenaxError, match="never changes; leave it out"):
            jax.eval_shape(lambda trains=trains: state_of(task(trains, fixed=("**", "!head"))))


@pytest.mark.parametrize("pattern", ["encoder", "encoder/Dense_0", "batch_stats/encoder"])
def test_an_average_of_it_is_refused(pattern):
    with pytest.raises(GenaxError, match="an average of it would be itself"):
        task(ema={pattern: 0.9})


def test_a_dtype_that_cannot_keep_it_is_refused():
    with pytest.raises(GenaxError, match="would keep 'encoder' in int8, which is no float"):
        state_of(task(fixed={"encoder": "int8"}))


def test_names_that_are_no_names():
    with pytest.raises(GenaxError, match="not a string"):
        task(fixed="encoder")
    with pytest.raises(GenaxError, match="'coder' matches no parameter"):
        state_of(task(fixed=("coder",)))


def test_what_no_loss_calls_gets_parameters():
    assert "decoder" not in state_of(task()).params
    one = task(given=lambda nets, batch: nets.decoder(batch["x"]))
    assert state_of(one).params["decoder"]["kernel"].shape == (4, 3)
    drawn = [sampling.variables(state_of(t))["params"] for t in (task(), one)]
    drawn[1].pop("decoder")
    assert tree.digest(drawn[0]) == tree.digest(drawn[1])


def test_what_is_given_reads_a_batch_of_the_first_stage():
    phases = [Phase("fit", loss, ("head",), optax.sgd(0.1))]
    one = task(given=lambda nets, batch: nets.decoder(batch["y"]))
    one = replace(one, stages=[Stage(phases, 1), Stage(phases)])
    other = jax.ShapeDtypeStruct((5,), jnp.float32)
    state = init_state(one, 0, ({**ELEMENT, "y": other}, ELEMENT))
    assert state.params["decoder"]["kernel"].shape == (5, 3)


def test_what_is_given_may_be_fixed():
    state = init_state(latent.make(), 0, latent.ELEMENT)
    assert set(state.fixed["params"]) == {"encoder", "decoder"}
    assert set(state.params) == {"denoiser"}
