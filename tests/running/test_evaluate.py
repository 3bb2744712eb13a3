"""Scores and samples do not depend on how the work is cut into batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from genax.core import Evaluator, Experiment, GenaxError, Loss, Rendered, Sampler, per_example
from genax.core.devices import make_strategy
from genax.running import evaluate as evaluation
from genax.running import sampling
from genax.running.evaluate import evaluate, evaluation_data
from genax.running.sampling import draw, sample, sampling_batch, variables, write_sample
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


def test_progress_counts_the_examples_of_each_batch():
    task, counted = line_task(evaluators={"error": EVALUATORS["error"]}), []
    state = jax.jit(lambda: line_state(task))()
    evaluate(task, variables(state), Points(11), 4, None, progress=counted.append)
    assert counted == [4, 4, 4]


def test_progress_counts_the_samples_of_each_chunk():
    task, counted = line_task(), []
    values = variables(jax.jit(lambda: line_state(task))())
    sampler = noise_sampler()
    draw(task, sampler, values, sampling_batch(task, sampler, 8), 0, 3, progress=counted.append)
    assert counted == [3, 3, 2]


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


STRATEGIES = [
    None,
    make_strategy({"strategy": "jit", "mesh": "data=-1"}),
    make_strategy({"strategy": "pmap"}),
]


@pytest.mark.parametrize("strategy", STRATEGIES)
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


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(("examples", "drawn", "read"), [(50, 50, 10), (7, 7, 7), (None, 10, 10)])
def test_one_evaluator_may_draw_more_than_it_reads(strategy, examples, drawn, read):
    def both(nets, batch):
        noise = per_example(jax.random.normal, nets, batch, (SIZE,))
        return {"drawn": nets.line(noise), "index": batch["index"], "read": nets.line(batch["x"])}

    def counts(found, workdir):
        assert all(np.isfinite(rows).all() for rows in found.values())
        assert found["index"].tolist() == list(range(len(found["drawn"])))
        return {name: len(rows) for name, rows in found.items()}

    task = line_task(evaluators={"both": Evaluator(both, counts, examples)})
    values = variables(jax.jit(lambda: line_state(task))())
    found = evaluate(task, values, Points(10), 4, None, strategy)
    assert found == {"both/drawn": drawn, "both/index": drawn, "both/read": read}


def test_a_mean_of_what_is_drawn_is_of_as_many_as_asked_for():
    def mean_index(nets, batch):
        return Loss(batch["index"])

    task = line_task(evaluators={"mean": Evaluator(mean_index, examples=1000)})
    values = variables(jax.jit(lambda: line_state(task))())
    assert evaluate(task, values, Points(297), 100, None) == {"mean": 999 / 2}


def test_evaluators_with_data_of_their_own():
    own, opened = Points(5), []

    class Watched(Points):
        def evaluate(self, *arguments):
            opened.append(self)
            return super().evaluate(*arguments)

    shared = Watched(9)
    names = {"own": own, "first": shared, "second": shared, "given": None}
    task = line_task(
        evaluators={name: Evaluator(rows, extremes, data=data) for name, data in names.items()}
    )
    values = variables(jax.jit(lambda: line_state(task))())
    found = evaluate(task, values, Points(11), 4, None)
    assert list(found)[::2] == [f"{name}/count" for name in names]
    assert [found[f"{name}/count"] for name in names] == [5, 9, 9, 11]
    assert opened == [shared]
    experiment = Experiment(task, Points(3), Points(11))
    assert evaluation_data(experiment) == [own, shared, experiment.evaluation]
    with pytest.raises(GenaxError, match="evaluator 'given' has no data, nor has the experiment"):
        evaluation_data(Experiment(task, Points(3)))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_given_arrays_are_arguments_and_placed_once(strategy, monkeypatch):
    """90 MB of them, which two evaluators share; their programs hold no constant of that size."""
    big = np.random.default_rng(0).standard_normal((SIZE, 6_000_000), np.float32)
    assert big.nbytes > 90e6
    made, arguments, texts = [], [], []

    def give(workdir):
        made.append(workdir)
        return {"projection": big}

    def features(nets, batch, given):
        return batch["x"] @ given["projection"][:, :3]

    def spy(*rest, masked):
        arguments.append(rest[-1]["projection"])
        lowered = program.lower(*rest, masked=masked)
        texts.append(lowered.as_text())
        if len(texts) == 1:
            assert lowered.compile().memory_analysis().argument_size_in_bytes > big.nbytes
        return program(*rest, masked=masked)

    program = evaluation._evaluate
    spy.trace = program.trace
    monkeypatch.setattr(evaluation, "_evaluate", spy)
    seen = {}
    evaluators = {
        name: Evaluator(
            features, lambda found, workdir, name=name: seen.update({name: found}) or {}, given=give
        )
        for name in ("one", "two")
    }
    task = line_task(evaluators=evaluators)
    values = variables(jax.jit(lambda: line_state(task))())
    points = Points(11)
    evaluate(task, values, points, 4, "folder", strategy)
    assert made == ["folder"]
    assert len(arguments) == 6
    assert all(argument is arguments[0] for argument in arguments)
    assert isinstance(arguments[0], jax.Array)
    assert max(map(len, texts)) < 1e5
    for found in seen.values():
        np.testing.assert_allclose(found, points.x @ big[:, :3], rtol=1e-5)


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
    sampler = Sampler(draw, lambda samples, batch, workdir: "", condition=shifts)
    values = variables(jax.jit(lambda: line_state(task))())
    few, many = (sample(task, sampler, values, num) for num in (3, 8))
    assert isinstance(few, np.ndarray)
    assert many.shape == (8,)
    np.testing.assert_allclose(few, many[:3], rtol=1e-5)
    assert len(set(many.tolist())) == 8
    assert not np.allclose(many, sample(task, sampler, values, 8, seed=1))
    given = sample(task, sampler, values, 8, condition={"shift": np.ones(8, np.float32)})
    np.testing.assert_allclose(given, many + 1, rtol=1e-5)


def noise_sampler(**options):
    def noise(nets, batch):
        return nets.line(per_example(jax.random.normal, nets, batch, (SIZE,)))

    return Sampler(noise, lambda samples, batch, workdir: "", **options)


@pytest.mark.parametrize("batch_size", [3, 8, 100])
def test_a_sample_does_not_depend_on_the_chunk(batch_size):
    task = line_task()
    values = variables(jax.jit(lambda: line_state(task))())
    shifts = {"shift": np.arange(8, dtype=np.float32)}

    def draw(nets, batch):
        assert len(batch["index"]) == min(batch_size, 8)
        noise = per_example(jax.random.normal, nets, batch, (SIZE,))
        return {"line": nets.line(noise), "shift": batch["shift"], "index": batch["index"]}

    sampler = Sampler(draw, lambda samples, batch, workdir: "")
    found = sample(task, sampler, values, 8, condition=shifts, batch_size=batch_size)
    np.testing.assert_allclose(found["line"], sample(task, noise_sampler(), values, 8), rtol=1e-5)
    np.testing.assert_array_equal(found["shift"], shifts["shift"])
    np.testing.assert_array_equal(found["index"], range(8))


def test_chunks_share_no_noise():
    def draw(nets, batch):
        return jax.random.normal(nets.make_rng("noise"), batch["index"].shape)

    task = line_task()
    values = variables(jax.jit(lambda: line_state(task))())
    found = sample(task, Sampler(draw, lambda samples, batch, workdir: ""), values, 8, batch_size=4)
    assert len(set(found.tolist())) == 8


def test_a_condition_has_a_row_for_each_sample():
    task = line_task()
    values = variables(jax.jit(lambda: line_state(task))())
    with pytest.raises(GenaxError, match=r"'shift' of shape \(3,\) for 8 samples"):
        sample(task, noise_sampler(condition=lambda *_: {"shift": np.ones(3)}), values, 8)


def test_memory_of_drawing_does_not_grow_with_the_number(monkeypatch):
    """What lives on the device when a chunk has been drawn, by one program for all chunks."""
    live, traced = [], []

    def fetch(drawn):
        live.append(sum(array.nbytes for array in jax.live_arrays()))
        return jax.device_get(drawn)

    def draw(nets, batch):
        traced.append(batch["index"].shape)
        return per_example(jax.random.normal, nets, batch, (32, 32, 3))

    monkeypatch.setattr(sampling, "to_host", fetch)
    task, sampler = line_task(), Sampler(draw, lambda samples, batch, workdir: "")
    values = variables(jax.jit(lambda: line_state(task))())
    found = sample(task, sampler, values, 500, batch_size=500)
    (few,) = live
    assert few > found.nbytes
    live.clear()
    assert len(sample(task, sampler, values, 10_000, batch_size=500)) == 10_000
    assert len(live) == 20
    assert max(live) <= few + 1000
    assert traced == [(500,)]


def test_data_in_which_nothing_counts_has_no_score():
    def masked(nets, batch):
        return Loss(nets.line(batch["x"]), jnp.zeros(()))

    task = line_task(evaluators={"masked": Evaluator(masked)})
    state = jax.jit(lambda: line_state(task))()
    with pytest.raises(GenaxError, match="evaluator 'masked': no element"):
        evaluate(task, variables(state), Points(4), 4, None)


@pytest.mark.parametrize("suffix", ["gif", "", ".", ".a/b"])
def test_a_file_has_a_suffix(suffix):
    with pytest.raises(GenaxError, match="Rendered has the suffix"):
        Rendered(b"", suffix)


def test_a_condition_that_has_fewer_rows_than_asked_for():
    """It returns their numbers too, so no sample is drawn twice."""

    def condition(num, workdir):
        return {"shift": np.arange(3, dtype=np.float32), "index": np.arange(3)}

    def draw(nets, batch):
        return batch["shift"] + 10 * batch["index"]

    task = line_task()
    sampler = Sampler(draw, lambda samples, batch, workdir: "", condition)
    values = variables(line_state(task))
    for size in (None, 2):
        assert sample(task, sampler, values, 8, batch_size=size).tolist() == [0.0, 11.0, 22.0]


def test_what_is_no_picture_is_not_written(tmp_path):
    with pytest.raises(
        GenaxError, match="render of a sampler returned a ndarray; it returns a PIL"
    ):
        write_sample(np.zeros((2, 2)), epath.Path(tmp_path) / "a")
    assert not list(tmp_path.iterdir())


def test_a_score_may_apply_the_networks_to_what_it_makes_of_its_rows():
    """A search or a chain: each batch is made of the result of the one before."""
    calls = []

    def scaled(nets, batch):
        return 2 * batch["x"]

    def rows(nets, batch):
        return {"index": batch["index"].astype(jnp.float32)}

    def summarize(found, workdir, call):
        x = found["index"].sum(keepdims=True)
        for _ in range(3):
            x = call(scaled, {"x": x})
            calls.append(x)
        return {"last": x[0]}

    task = line_task(evaluators={"chain": Evaluator(rows, summarize, examples=5)})
    scores = evaluate(task, {"params": {}}, None, 2, None)
    assert scores == {"chain/last": 80.0}
    assert all(isinstance(x, np.ndarray) for x in calls)
