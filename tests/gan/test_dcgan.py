"""DCGAN's sizes, layers, game and experiment, without a reference."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from genax.core import GenaxError, make_step
from genax.core.data import Shard
from genax.core.step import init_state
from genax.gan.dcgan import SIZES, DCGANDiscriminator, DCGANGenerator, resolutions
from genax.gan.losses import discriminator_loss, generator_loss
from genax.gan.networks import Networks
from genax.nn.transposed_convolution import transposed_convolution
from genax.running.evaluate import evaluate
from genax.running.sampling import sample, variables
from tests.experiments import config_of, load


@pytest.mark.parametrize(
    ("name", "generator", "discriminator"),
    [("pytorch", 3_576_704, 2_765_568), ("paper", 12_658_432, 11_036_160)],
)
def test_published_parameter_counts(name, generator, discriminator):
    networks = Networks(DCGANGenerator(**SIZES[name]), DCGANDiscriminator(SIZES[name]["width"]))
    batch = {
        "image": jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32),
        "index": jax.ShapeDtypeStruct((2,), jnp.int32),
    }
    rngs = {"params": jax.random.key(0), "example": jax.random.key(1)}
    shapes = jax.eval_shape(nn.init(discriminator_loss, networks), rngs, batch)["params"]
    counts = {name: sum(x.size for x in jax.tree.leaves(tree)) for name, tree in shapes.items()}
    assert counts == {"generator": generator, "discriminator": discriminator}


@pytest.mark.parametrize("size", [8, 28, 32, 64])
def test_image_sizes(size):
    generator = DCGANGenerator(size, 1, 4, 5)
    z = jax.ShapeDtypeStruct((2, 5), jnp.float32)
    images, _ = jax.eval_shape(generator.init_with_output, jax.random.key(0), z)
    assert images.shape == (2, size, size, 1)
    logits, _ = jax.eval_shape(DCGANDiscriminator(4).init_with_output, jax.random.key(0), images)
    assert logits.shape == (2,)


@pytest.mark.parametrize("size", [4, 7, 9, 30, 33])
def test_impossible_image_sizes_are_refused(size):
    with pytest.raises(GenaxError, match=f"{size}x{size}"):
        resolutions(size)


def test_transposed_convolution_has_the_gradient_that_jax_derives():
    x = jax.random.normal(jax.random.key(0), (2, 3, 5, 4))
    kernel = jax.random.normal(jax.random.key(1), (4, 4, 4, 3))
    target = jax.random.normal(jax.random.key(2), (2, 6, 10, 3))

    def derived(x, kernel):
        return lax.conv_transpose(x, kernel[::-1, ::-1], (2, 2), "SAME")

    def loss(function):
        return lambda x, kernel: (jnp.square(function(x, kernel)) * target).sum()

    def curvature(function):
        """A gradient's gradient, as a penalty on gradients takes it."""
        return lambda x, kernel: jnp.square(jax.grad(loss(function))(x, kernel)).sum()

    for made in (loss, curvature):
        ours = jax.jit(jax.value_and_grad(made(transposed_convolution), (0, 1)))(x, kernel)
        expected = jax.jit(jax.value_and_grad(made(derived), (0, 1)))(x, kernel)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-2), ours, expected
        )


def tiny_state_and_batch():
    networks = Networks(DCGANGenerator(8, 1, 4, 5), DCGANDiscriminator(4))
    image = np.random.default_rng(0).uniform(-1, 1, (6, 8, 8, 1)).astype(np.float32)
    batch = {"image": jnp.asarray(image), "index": jnp.arange(6)}
    rngs = {"params": jax.random.key(0), "example": jax.random.key(1)}
    return networks, jax.jit(nn.init(discriminator_loss, networks))(rngs, batch), batch


def test_discriminator_phase_sends_no_gradient_to_the_generator():
    networks, state, batch = tiny_state_and_batch()

    @jax.jit
    def gradient(params):
        apply = nn.apply(discriminator_loss, networks)
        rngs = {"example": jax.random.key(2)}
        return apply({**state, "params": params}, batch, rngs=rngs).values.sum()

    grads = jax.grad(gradient)(state["params"])
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(grads["generator"]))
    assert all((leaf != 0).any() for leaf in jax.tree.leaves(grads["discriminator"]))


@pytest.mark.parametrize("loss", [discriminator_loss, generator_loss])
def test_fakes_belong_to_their_element_and_change_with_the_key(loss):
    networks, state, batch = tiny_state_and_batch()

    @jax.jit
    def values(key):
        return nn.apply(loss, networks, mutable=["batch_stats"])(
            state, batch, rngs={"example": key}
        )

    first, statistics = values(jax.random.key(2))
    assert first.values.shape == (6,)
    assert (first.values != values(jax.random.key(3))[0].values).any()
    moved = statistics["batch_stats"]["generator"]["norm_0"]["mean"]
    assert (moved != state["batch_stats"]["generator"]["norm_0"]["mean"]).any()


def test_bfloat16_computes_over_float32_parameters():
    generator = DCGANGenerator(8, 1, 4, 5, jnp.bfloat16)
    images, state = generator.init_with_output(jax.random.key(0), jnp.ones((2, 5)))
    logits, other = DCGANDiscriminator(4, jnp.bfloat16).init_with_output(jax.random.key(0), images)
    for leaf in jax.tree.leaves((images, logits, state, other)):
        assert leaf.dtype == jnp.float32


@pytest.mark.long
def test_experiment_runs_on_the_digits():
    module = load("experiments/gan/dcgan.py")
    config = config_of(module, "digits")
    experiment = module.build(config)
    state = jax.jit(lambda: init_state(experiment.task, 0, experiment.data.element))()
    step = jax.jit(make_step(experiment.task))
    data = experiment.data.train(config.batch_size, 0, Shard())
    for _ in range(20):
        batch = next(data)
        batch.pop("id")
        state, metrics = step(state, batch)
    assert metrics["discriminator/finite"]
    assert metrics["generator/finite"]
    sampler = experiment.task.samplers["images"]
    drawn = sample(experiment.task, sampler, variables(state), 4)
    assert drawn.shape == (4, 8, 8, 1)
    sampler.render(drawn, {}, None)
    scores = evaluate(experiment.task, variables(state), experiment.evaluation, 100, None)
    assert 1 <= scores["classes/classes_of_100"] <= 10
    assert scores["classes/classifier_accuracy"] > 0.9


@pytest.mark.parametrize("variant", ["cpu", "celeba64", "lsun64", "digits"])
def test_every_variant_has_settings(variant):
    module = load("experiments/gan/dcgan.py")
    assert variant in module.VARIANTS
    assert config_of(module, variant).steps > 0
