"""The VAE's mathematics, sizes and experiment, without a reference."""

from itertools import islice

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError, make_step
from genax.core.data import Shard
from genax.core.step import init_state
from genax.data import ImageData
from genax.data.pipeline import evaluation_batches, train_batches
from genax.front.files import import_file
from genax.running.evaluate import evaluate
from genax.running.sampling import sample, variables
from genax.vae.autoencoders import DSPRITES, FREY_FACE, IWAE, MNIST, PYTORCH_EXAMPLE, MLPSize
from genax.vae.convolutional import CELEBA
from genax.vae.objectives import elbo, elbo_loss
from tests.experiments import ROOT, config_of, load

TINY = MLPSize((4, 4, 1), (8,), 3, nn.tanh)


def bound_call(size, function, batch, seed=0):
    """The function's value at initial parameters."""
    networks = size.networks()
    rngs = {"params": jax.random.key(seed), "example": jax.random.key(1)}

    @jax.jit
    def call(batch):
        params = nn.init(elbo_loss, networks)(rngs, batch)
        return nn.apply(function, networks)(params, batch, rngs=rngs)

    return call(batch)


def batch_of(count, shape=(4, 4, 1)):
    image = np.random.default_rng(0).random((count, *shape), np.float32)
    return {"image": jnp.asarray(image), "index": jnp.arange(count)}


@pytest.mark.parametrize(
    ("size", "parameters"),
    [
        (MNIST, 815_824),
        (FREY_FACE, 338_724),
        (PYTORCH_EXAMPLE, 652_824),
        (IWAE, 425_284),
        (DSPRITES, 14_196_516),
        (CELEBA, 783_235),
    ],
)
def test_published_parameter_counts(size, parameters):
    batch = {
        "image": jax.ShapeDtypeStruct((2, *size.shape), jnp.float32),
        "index": jax.ShapeDtypeStruct((2,), jnp.int32),
    }
    rngs = {"params": jax.random.key(0), "example": jax.random.key(1)}
    shapes = jax.eval_shape(nn.init(elbo_loss, size.networks()), rngs, batch)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == parameters


def test_noise_belongs_to_the_element():
    batch = batch_of(6)
    whole = bound_call(TINY, elbo, batch).values
    part = bound_call(TINY, elbo, {name: array[4:] for name, array in batch.items()}).values
    np.testing.assert_allclose(part, whole[4:], rtol=1e-6)


def test_experiment_learns_the_digits():
    module = load("experiments/vae/vae.py")
    config = config_of(module, "digits")
    experiment = module.build(config)
    state = jax.jit(lambda: init_state(experiment.task, 0, experiment.data.element))()
    before = evaluate(experiment.task, variables(state), experiment.evaluation, 99, None)
    step = jax.jit(make_step(experiment.task))
    data = experiment.data.train(config.batch_size, 0, Shard())
    for _ in range(100):
        batch = next(data)
        batch.pop("id")
        state, metrics = step(state, batch)
    assert metrics["elbo/finite"]
    after = evaluate(experiment.task, variables(state), experiment.evaluation, 99, None)
    assert after["elbo"] > before["elbo"] + 5
    assert after["importance_weighted_bound"] > after["elbo"]
    for name, shape in {"images": (8, 8, 1), "reconstruction": (8, 16, 1)}.items():
        sampler = experiment.task.samplers[name]
        drawn = sample(experiment.task, sampler, variables(state), 4)
        assert drawn.shape == (4, *shape)
        assert np.abs(drawn).max() <= 1
        sampler.render(drawn, {}, None)


class Constant:
    """Images of one number, which other data would never be."""

    def __init__(self, value):
        self.value = np.float32(value)
        self.element = {"image": jax.ShapeDtypeStruct((8, 8, 1), np.float32)}

    def fingerprint(self):
        return f"constant {self.value}"

    def read(self, ids):
        return {"image": np.full((len(ids), 8, 8, 1), self.value)}

    def train(self, batch_size, seed, shard):
        return train_batches(self.read, 100, batch_size, seed, shard)

    def evaluate(self, batch_size, shard):
        return evaluation_batches(self.read, 100, batch_size, shard)


@pytest.mark.long
@pytest.mark.parametrize(
    ("file", "likelihood", "value"),
    [
        ("vae", "learned_gaussian", 0.5),
        ("iwae", "discretised_logistic", 0.0),
        ("beta_tc_vae", "bernoulli", 1.0),
        ("factor_vae", "gaussian", 1.0),
    ],
)
def test_constant_images_and_one_dimension(file, likelihood, value):
    """They train; a learned deviation stops at its bound."""
    module = load(f"experiments/vae/{file}.py")
    config = config_of(module, "digits")
    small = {"latent_size": 1, "hidden": (8,), "widths": (), "learning_rate": 1e-2}
    config.update(small | {"likelihood": likelihood, "binarisation": "none"})
    if "dataset_size" in config:
        config.dataset_size = 100
    experiment = module.build(config, Constant(value))
    state = jax.jit(lambda: init_state(experiment.task, 0, experiment.data.element))()
    step, measured = jax.jit(make_step(experiment.task)), []
    for batch in islice(experiment.data.train(16, 0, Shard()), 150):
        state, metrics = step(state, {"image": batch["image"]})
        measured.append(metrics)
    loss = experiment.task.stages[0].phases[0].name + "/loss"
    assert all(np.isfinite(value) for metrics in measured for value in metrics.values())
    assert measured[-1][loss] < measured[0][loss]
    scores = evaluate(experiment.task, variables(state), experiment.evaluation, 50, None)
    assert all(np.isfinite(score) for score in scores.values())
    assert scores["latents/active_units"] == 0


def test_data_in_another_range_is_refused():
    module = load("experiments/vae/vae.py")
    experiment = module.build(config_of(module, "digits"), ImageData("digits"))
    with pytest.raises(GenaxError, match=r"digits go from -1 to 1, but they are read as .* 0 to 1"):
        next(experiment.data.train(8, 0, Shard()))


def test_decay_goes_with_the_optimizer_of_the_paper():
    module = load("experiments/vae/vae.py")
    config = config_of(module, "digits")
    config.weight_decay = 0.1
    with pytest.raises(GenaxError, match=r"config\.weight_decay=0\.1 .* set config\.adagrad=True"):
        module.build(config)
    config.adagrad = True
    module.build(config)


def test_the_documented_autoencoder_is_a_file_of_ones_own(tmp_path):
    parts = (ROOT / "docs/vae.md").read_text().split("```python\n")[1:]
    (text,) = (code for part in parts if "mmd" in (code := part.partition("```")[0]))
    path = tmp_path / "mmd.py"
    path.write_text(text)
    module = import_file(path)
    experiment = module.build(config_of(module, "digits"))
    state = jax.eval_shape(lambda: init_state(experiment.task, 0, experiment.data.element))
    batch = {"image": jax.ShapeDtypeStruct((4, 8, 8, 1), np.float32)}
    assert "mmd/distance" in jax.eval_shape(make_step(experiment.task), state, batch)[1]
