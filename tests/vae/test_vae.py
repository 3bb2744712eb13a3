"""The VAE's mathematics, sizes and experiment, without a reference."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import make_step
from genax.core.data import Shard
from genax.core.step import init_state
from genax.running.evaluate import evaluate
from genax.running.sampling import sample, variables
from genax.vae.autoencoders import FREY_FACE, MNIST, PYTORCH_EXAMPLE, BernoulliDecoder, MLPSize
from genax.vae.distributions import Bernoulli, Gaussian
from genax.vae.objectives import elbo, elbo_loss, importance_weighted_bound
from tests.experiments import config_of, load

TINY = MLPSize((4, 4, 1), (8,), 3, nn.tanh, BernoulliDecoder)


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
    ("size", "parameters"), [(MNIST, 815_824), (FREY_FACE, 338_724), (PYTORCH_EXAMPLE, 652_824)]
)
def test_published_parameter_counts(size, parameters):
    batch = {
        "image": jax.ShapeDtypeStruct((2, *size.shape), jnp.float32),
        "index": jax.ShapeDtypeStruct((2,), jnp.int32),
    }
    rngs = {"params": jax.random.key(0), "example": jax.random.key(1)}
    shapes = jax.eval_shape(nn.init(elbo_loss, size.networks()), rngs, batch)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == parameters


def test_kl_is_the_mean_of_the_log_ratio():
    q = Gaussian(jnp.float32([0.5, -1.0]), jnp.float32([-1.0, 0.3]))
    z = q.transform(jax.random.normal(jax.random.key(0), (200_000, 2)))
    standard = Gaussian(jnp.zeros(2), jnp.zeros(2))
    ratio = (q.log_prob(z) - standard.log_prob(z)).mean(0)
    np.testing.assert_allclose(q.kl_to_standard(), ratio, atol=0.01)


def test_bernoulli_log_prob_is_finite_at_extreme_logits():
    x = Bernoulli(jnp.float32([100.0, -100.0, 100.0])).log_prob(jnp.float32([1.0, 0.0, 0.0]))
    np.testing.assert_allclose(x, [0.0, 0.0, -100.0], atol=1e-6)


def test_bound_of_one_sample_is_the_elbo_in_expectation():
    batch = batch_of(2_000)
    batch["image"] = jnp.broadcast_to(batch["image"][:1], batch["image"].shape)
    one = bound_call(TINY, lambda n, b: importance_weighted_bound(n, b, 1), batch).values
    many = bound_call(TINY, lambda n, b: importance_weighted_bound(n, b, 20), batch).values
    single = bound_call(TINY, elbo, batch).values
    np.testing.assert_allclose(one.mean(), single.mean(), atol=0.05)
    assert many.mean() > one.mean()


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
    for name, shape in {"prior": (8, 8, 1), "reconstruction": (8, 16, 1)}.items():
        sampler = experiment.task.samplers[name]
        drawn = sample(experiment.task, sampler, variables(state), 4)
        assert drawn.shape == (4, *shape)
        assert np.abs(drawn).max() <= 1
        sampler.render(drawn, {}, None)


@pytest.mark.parametrize("variant", ["cpu", "mnist", "pytorch", "digits"])
def test_every_variant_has_settings(variant):
    module = load("experiments/vae/vae.py")
    assert variant in module.VARIANTS
    assert config_of(module, variant).steps > 0
