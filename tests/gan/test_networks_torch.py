"""The chapter's networks against PyTorch: outputs, losses, gradients and a whole training step."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genax.core import init_state, make_step
from genax.core.nets import per_example
from genax.gan.game import latents
from genax.gan.losses import generator_loss, with_more_fakes
from genax.gan.maxout import MaxoutDiscriminator, PerceptronGenerator
from genax.gan.networks import Networks
from genax.gan.r3gan import R3GANDiscriminator, R3GANGenerator
from genax.gan.residual import ResidualCritic, ResidualGenerator
from genax.gan.settings import PLAYERS, UNIT_SLOPE
from genax.gan.tasks import play_out
from genax.settings import base_config
from tests.gan.draws import draws_of
from tests.parity import difference, require

[torch] = require("torch")
from tests.gan import torch_networks as theirs  # noqa: E402

BATCH, CLASSES = 6, 3
RNG = np.random.default_rng(0)
LABEL = np.array([0, 2, 1, 1, 0, 2], np.int32)


def randomised(tree, seed=0):
    """Parameters of a size at which every layer counts; none of them is 0 or 1."""
    leaves, structure = jax.tree.flatten(tree)
    draw = np.random.default_rng(seed)
    new = []
    for leaf in leaves:
        fan_in = int(np.prod(leaf.shape[:-1])) or 1
        noise = draw.normal(size=leaf.shape) / np.sqrt(fan_in if leaf.ndim > 1 else 4)
        new.append(np.float32(noise + (leaf.ndim == 1)))
    return jax.tree.unflatten(structure, new)


def plain(tree):
    """Linen's variables as nested dicts of numpy arrays."""
    return jax.tree.map(np.asarray, jax.tree.map(lambda x: x, dict(tree)))


def variables_of(network, *args, **kwargs):
    args, kwargs = jax.tree.map(jnp.asarray, (args, kwargs))
    found = dict(jax.jit(network.init)({"params": jax.random.key(0)}, *args, **kwargs))
    return jax.tree.map(jnp.asarray, {**found, "params": randomised(found["params"])})


def agree(ours, expected, tolerance=1e-5):
    assert difference(ours, expected) < tolerance


def agrees(network, variables, reference, inputs, label=None, mutable=()):
    """Outputs, the mean square of the outputs, and its gradients by parameters and inputs."""
    given = {} if label is None else {"label": jnp.asarray(label)}

    def outputs(params, x):
        call = partial(network.apply, {**variables, "params": params}, train=bool(mutable))
        return call(x, **given, mutable=list(mutable))[0] if mutable else call(x, **given)

    def loss(params, x):
        found = outputs(params, x)
        return jnp.square(found).mean(), found

    gradient = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
    (value, found), (slopes, x_slopes) = gradient(variables["params"], jnp.asarray(inputs))
    params, x = theirs.tensors(variables["params"]), torch.tensor(inputs, requires_grad=True)
    expected = reference(params, x)
    agree(found, expected)
    expected = expected.pow(2).mean()
    expected.backward()
    agree(value, expected)
    agree(x_slopes, x.grad, 1e-4)
    # A bias before BatchNorm has no gradient but rounding.
    largest = max(float(other.grad.abs().max()) for other in theirs.leaves(params))
    for mine, other in zip(jax.tree.leaves(slopes), theirs.leaves(params), strict=True):
        assert difference(mine, other.grad, floor=1e-2 * largest) < 1e-4


Z = np.float32(RNG.normal(size=(BATCH, 5)))


@pytest.mark.parametrize("label", [None, LABEL])
def test_the_residual_generator(label):
    classes = None if label is None else CLASSES
    network = ResidualGenerator(8, 3, 8, 5, num_classes=classes)
    given = {} if label is None else {"label": label}
    variables = variables_of(network, Z, **given)
    statistics = theirs.tensors(variables["batch_stats"])

    def reference(params, z):
        return theirs.residual_generator(params, statistics, z, label)

    agrees(network, variables, reference, Z, label, mutable=["batch_stats"])


@pytest.mark.parametrize("classify", [False, True])
def test_the_residual_critic(classify):
    network = ResidualCritic(8, num_classes=CLASSES)
    images = np.float32(RNG.normal(size=(BATCH, 8, 8, 3)))
    variables = variables_of(network, images, LABEL)
    params = theirs.tensors(variables["params"])
    arguments = jnp.asarray(images), jnp.asarray(LABEL)
    found = network.apply(variables, *arguments, classify=classify)
    agree(found, theirs.residual_critic(params, torch.tensor(images), classify))


@pytest.mark.long
@pytest.mark.parametrize("label", [LABEL, None])
def test_r3gan(label):
    widths, blocks, group_size = (16, 8), 1, 8
    sizes = {"widths": widths, "blocks": blocks, "group_size": group_size}
    classes = None if label is None else CLASSES
    one_hot = None if label is None else torch.eye(CLASSES)[torch.tensor(label).long()]
    given = {} if label is None else {"label": label}
    generator = R3GANGenerator(8, 3, **sizes, latent_size=5, num_classes=classes)

    def made(params, z):
        return theirs.r3_generator(params, z, **sizes, one_hot=one_hot)

    agrees(generator, variables_of(generator, Z, **given), made, Z, label)
    discriminator = R3GANDiscriminator(**sizes, num_classes=classes)
    images = np.float32(RNG.normal(size=(BATCH, 8, 8, 3)))

    def scored(params, x):
        return theirs.r3_discriminator(params, x, **sizes, one_hot=one_hot)

    agrees(discriminator, variables_of(discriminator, images, **given), scored, images, label)


def test_the_perceptrons():
    generator = PerceptronGenerator(4, 2, (7, 6), 5)
    shape = (4, 4, 2)
    made = partial(theirs.perceptron, shape=shape)
    agrees(generator, variables_of(generator, Z), made, Z)
    discriminator = MaxoutDiscriminator((6, 4), 3)
    images = np.float32(RNG.normal(size=(BATCH, *shape)))
    scored = partial(theirs.maxout, pieces=3)
    agrees(discriminator, variables_of(discriminator, images), scored, images)


def places_of(nets, batch):
    """Return the penalty at points between real images and fakes."""
    return per_example(jax.random.uniform, nets, batch, (1, 1, 1))


RATE = 1e-2
# Of Adam. A small one makes of its first step nearly a sign, where gradients are rounding.
EPSILON = 1e-3


@pytest.mark.long
def test_a_whole_step_of_wgan_gp():
    """Two moves of the critic and one of the generator, which makes two fakes for each image."""
    config = base_config(**PLAYERS | UNIT_SLOPE | {"critic_steps": 2, "latent_size": 5})
    adam = optax.adam(RATE, b1=0.0, b2=0.9, eps=EPSILON)
    networks = Networks(ResidualGenerator(8, 1, 6, 5), ResidualCritic(6))

    def more_fakes(nets, batch, **arguments):
        return with_more_fakes(nets, batch, partial(generator_loss, **arguments), 2)

    task = play_out(
        config,
        networks,
        generators_loss=more_fakes,
        optimizers={"discriminator": adam, "generator": adam},
        averages={},
    )
    element = {"image": jax.ShapeDtypeStruct((8, 8, 1), jnp.float32)}
    state = init_state(task, 0, element)
    state = state.replace(params=randomised(plain(state.params)))
    params = theirs.tensors(plain(state.params))
    statistics = theirs.tensors(plain(state.collections["batch_stats"]["generator"]))
    optimizers = {
        player: torch.optim.Adam(theirs.leaves(params[player]), RATE, (0.0, 0.9), EPSILON)
        for player in ("discriminator", "generator")
    }
    step = jax.jit(make_step(task))
    generator = partial(theirs.residual_generator, params["generator"], statistics)
    critic = partial(theirs.residual_critic, params["discriminator"])
    for number in range(2):
        images = np.float32(np.random.default_rng(number).uniform(-1, 1, (BATCH, 8, 8, 1)))
        batch = {"image": jnp.asarray(images), "index": jnp.arange(BATCH)}
        z, places = draws_of(task, state, batch, 0, latents, places_of)
        doubled = {"index": jnp.arange(2 * BATCH)}
        [more] = draws_of(task, state, doubled, 1, latents)
        state, metrics = step(state, batch)

        real = torch.tensor(images)
        fakes = generator(torch.tensor(np.array(z))).detach()
        points = fakes + torch.tensor(np.array(places)) * (real - fakes)
        points.requires_grad_()
        (slopes,) = torch.autograd.grad(critic(points).sum(), points, create_graph=True)
        penalty = 10 * (slopes.flatten(1).norm(dim=1) - 1).pow(2).mean()
        gap = critic(fakes).mean() - critic(real).mean()
        agree(metrics["discriminator/game"], gap, 1e-4)
        agree(metrics["discriminator/slope"], penalty)
        optimizers["discriminator"].zero_grad()
        (gap + penalty).backward()
        optimizers["discriminator"].step()
        if number == 1:
            loss = -critic(generator(torch.tensor(np.array(more)))).mean()
            agree(metrics["generator/loss"], loss, 1e-4)
            optimizers["generator"].zero_grad()
            loss.backward()
            optimizers["generator"].step()
    for player in params:
        ours = jax.tree.leaves(state.params[player])
        for mine, other in zip(ours, theirs.leaves(params[player]), strict=True):
            agree(mine, other)
    moved = jax.tree.leaves(state.collections["batch_stats"]["generator"])
    # The generator's statistics move in the critic's rounds too.
    for mine, other in zip(moved, theirs.leaves(statistics), strict=True):
        agree(mine, other)
