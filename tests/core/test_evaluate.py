"""Scores and samples do not depend on how the work is cut into batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import Evaluator, GenaxError, Loss, Sampler, per_example
from genax.core.devices import make_strategy
from genax.core.evaluate import evaluate, sample, variables
from tests.core.toys import SIZE, Points, line_state, line_task, noisy_error


def rows(nets, batch):
    return {"x": batch["x"][:, 0], "y": nets.line(batch["x"])}


def extremes(rows, workdir):
    assert rows["x"].shape == rows["y"].shape
    return {"count": len(rows["x"]), "largest": rows["x"].max()}


def weighted(nets, batch):
    """Values by token, of which some do not count, and a metric with weights of its own."""
    values = jnp.abs(batch["x"])
    weights = (batch["x"] > 0).astype(jnp.float32)
    return Loss(values, weights, aux={"first": Loss(values[:, 0], weights[:, 1])})


EVALUATORS = {
    "error": Evaluator(noisy_error),
    "some": Evaluator(noisy_error, examples=5),
    "tokens": Evaluator(weighted),
    "extremes": Evaluator(rows, extremes),
    "early": Evaluator(rows, extremes, examples=7),
    "terms": Evaluator(lambda *args: {"all": noisy_error(*args), "tokens": weighted(*args)}),
}


def scores(batch_size, count=11, names=EVALUATORS):
    task = line_task(evaluators={name: EVALUATORS[name] for name in names}, ema={"line": 0.9})
    state = jax.jit(lambda: line_state(task))()
    return evaluate(task, variables(state), Points(count), batch_size, None)


def test_scores_are_of_the_data_alone():
    """Eleven points in batches of 11, 4 and 16: filled up with infinities, which do not count."""
    whole = scores(11)
    assert all(np.isfinite(value) for value in whole.values())
    for batch_size in (4, 16):
        found = scores(batch_size)
        assert set(found) == set(whole)
        for name in whole:
            assert found[name] == pytest.approx(whole[name], rel=1e-5), name


def test_what_the_scores_are():
    x = Points(11).x
    found = scores(4)
    assert found["tokens"] == pytest.approx(x[x > 0].mean(), rel=1e-5)
    assert found["tokens/first"] == pytest.approx(np.abs(x[x[:, 1] > 0, 0]).mean(), rel=1e-5)
    assert found["extremes/count"] == 11
    assert found["terms/tokens"] == found["tokens"]
    assert found["terms/tokens/first"] == found["tokens/first"]
    assert found["terms"] == pytest.approx(found["terms/all"] + found["tokens"])
    assert found["extremes/largest"] == pytest.approx(x[:, 0].max())
    assert found["early/count"] == 7
    assert found["early/largest"] == pytest.approx(x[:7, 0].max())
    assert found["some"] == pytest.approx(scores(5, 5, ["error"])["error"], rel=1e-5)
    assert found["some"] != pytest.approx(found["error"], rel=1e-3)


def test_an_evaluator_without_data_sees_indices_alone():
    def indices(nets, batch):
        assert set(batch) == {"index"}
        return {"index": batch["index"]}

    def listed(found, workdir):
        return {"sum": found["index"].sum(), "count": len(found["index"])}

    task = line_task(evaluators={"indices": Evaluator(indices, listed, examples=10)})
    state = jax.jit(lambda: line_state(task))()
    assert evaluate(task, variables(state), None, 4, None) == {
        "indices/sum": 45.0,
        "indices/count": 10.0,
    }


@pytest.mark.parametrize("strategy", [None, make_strategy({"strategy": "jit", "mesh": "data=-1"})])
@pytest.mark.parametrize("batch_size", [4, 16])
def test_an_evaluator_that_draws_draws_as_many_as_it_asks_for(batch_size, strategy):
    """Beside ten points, of which one that reads them gets ten."""

    def draw(nets, batch):
        return nets.line(per_example(jax.random.normal, nets, batch, (SIZE,))), batch["index"]

    def drawn(found, workdir):
        return {"count": len(found[0]), "sum": found[1].sum(), "mean": found[0].mean()}

    evaluators = {"drawn": Evaluator(draw, drawn, examples=50)}
    evaluators["read"] = Evaluator(rows, extremes, examples=50)
    task = line_task(evaluators=evaluators)
    values = variables(jax.jit(lambda: line_state(task))())
    found = evaluate(task, values, Points(10), batch_size, None, strategy)
    assert (found["drawn/count"], found["drawn/sum"]) == (50, 49 * 50 / 2)
    assert found["read/count"] == 10
    alone = line_task(evaluators={"drawn": evaluators["drawn"]})
    mean = evaluate(alone, values, None, 8, None)["drawn/mean"]
    assert found["drawn/mean"] == pytest.approx(mean, rel=1e-4)


@pytest.mark.parametrize("examples", [0, -1])
def test_an_evaluator_of_no_example(examples):
    with pytest.raises(GenaxError, match=f"of {examples} examples has no score"):
        Evaluator(noisy_error, examples=examples)


@pytest.mark.parametrize("name", ["error", "extremes", "early"])
def test_a_score_of_no_example_is_an_error(name):
    with pytest.raises(GenaxError, match="the evaluation data has no example"):
        scores(4, 0, [name])


def test_rows_of_padding_alone_are_no_score():
    class Padding(Points):
        def evaluate(self, *arguments):
            for batch in super().evaluate(*arguments):
                yield batch | {"mask": np.zeros_like(batch["mask"])}

    task = line_task(evaluators={"extremes": Evaluator(rows, extremes)})
    state = jax.jit(lambda: line_state(task))()
    with pytest.raises(GenaxError, match="'extremes': every example of the evaluation data is pad"):
        evaluate(task, variables(state), Padding(4), 4, None)


def test_averages_unless_asked_otherwise():
    task = line_task(ema={"line": 0.9})
    state = jax.jit(lambda: line_state(task))()
    state = state.replace(ema=jax.tree.map(lambda leaf: leaf + 1, state.ema))
    kernel = state.params["line"]["Dense_0"]["kernel"]
    np.testing.assert_array_equal(
        variables(state)["params"]["line"]["Dense_0"]["kernel"], kernel + 1
    )
    np.testing.assert_array_equal(
        variables(state, averaged=False)["params"]["line"]["Dense_0"]["kernel"], kernel
    )


def test_a_sample_does_not_depend_on_how_many_there_are():
    def draw(nets, batch):
        return nets.line(per_example(jax.random.normal, nets, batch, (SIZE,))) + batch["shift"]

    def shifts(num, workdir):
        return {"shift": np.zeros(num, np.float32)}

    task = line_task()
    sampler = Sampler(draw, lambda samples, workdir: "", condition=shifts)
    values = variables(jax.jit(lambda: line_state(task))())
    few, many = (sample(task, sampler, values, num) for num in (3, 8))
    assert isinstance(few, np.ndarray)
    assert many.shape == (8,)
    np.testing.assert_allclose(few, many[:3], rtol=1e-5)
    assert len(set(many.tolist())) == 8
    assert not np.allclose(many, sample(task, sampler, values, 8, seed=1))
    given = sample(task, sampler, values, 8, condition={"shift": np.ones(8, np.float32)})
    np.testing.assert_allclose(given, many + 1, rtol=1e-5)


def test_data_in_which_nothing_counts_has_no_score():
    def masked(nets, batch):
        return Loss(nets.line(batch["x"]), jnp.zeros(()))

    task = line_task(evaluators={"masked": Evaluator(masked)})
    state = jax.jit(lambda: line_state(task))()
    with pytest.raises(GenaxError, match="evaluator 'masked': no element"):
        evaluate(task, variables(state), Points(4), 4, None)
