"""DCGAN against PyTorch: outputs, losses, gradients, statistics and one step of both players."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genax.core import init_state, make_step
from genax.gan.dcgan import DCGANDiscriminator, DCGANGenerator, resolutions
from genax.gan.game import latents
from genax.gan.losses import discriminator_loss, generator_loss
from genax.gan.networks import Networks
from genax.gan.settings import PLAYERS
from genax.gan.tasks import play_out
from genax.settings import base_config
from tests.gan.draws import draws_of
from tests.parity import require, stepped

[torch] = require("torch")
F = torch.nn.functional

WIDTH, LATENT, BATCH = 8, 10, 6


def generator_reference(size, channels, width=WIDTH, latent=LATENT):
    """The layers of PyTorch's example, for any image size."""
    sizes = resolutions(size)
    widths = [width * 2**level for level in reversed(range(len(sizes) - 1))]
    layers = [torch.nn.ConvTranspose2d(latent, widths[0], sizes[0], 1, 0, bias=False)]
    for wide, narrow in zip(widths, [*widths[1:], channels], strict=True):
        layers += [torch.nn.BatchNorm2d(wide), torch.nn.ReLU()]
        layers += [torch.nn.ConvTranspose2d(wide, narrow, 4, 2, 1, bias=False)]
    return torch.nn.Sequential(*layers, torch.nn.Tanh())


def discriminator_reference(size, channels, width=WIDTH):
    sizes = resolutions(size)
    widths = [width * 2**level for level in range(len(sizes) - 1)]
    layers = []
    for level, (before, after) in enumerate(zip([channels, *widths], widths, strict=False)):
        layers += [torch.nn.Conv2d(before, after, 4, 2, 1, bias=False)]
        layers += [torch.nn.BatchNorm2d(after)] if level else []
        layers += [torch.nn.LeakyReLU(0.2)]
    return torch.nn.Sequential(*layers, torch.nn.Conv2d(widths[-1], 1, sizes[0], 1, 0, bias=False))


def randomise(network):
    """PyTorch's own scale of weights; DCGAN's small one would hide differences."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.weight, 1.0, 0.3)
            torch.nn.init.normal_(module.bias, 0.0, 0.3)
    return network


def generator_tree(network, value):
    """Parameters (or gradients) in Linen's order; PyTorch's kernels are [in, out, h, w]."""
    convolutions = [m for m in network if isinstance(m, torch.nn.ConvTranspose2d)]
    kernels = [value(m.weight).detach().numpy().transpose(2, 3, 0, 1) for m in convolutions]
    tree = {"project": kernels[0]}
    tree |= {f"upsample_{level}": {"kernel": kernel} for level, kernel in enumerate(kernels[1:])}
    return tree | norms(network, value, 0)


def discriminator_tree(network, value):
    """The same for the discriminator; PyTorch's kernels are [out, in, h, w]."""
    convolutions = [m for m in network if isinstance(m, torch.nn.Conv2d)]
    kernels = [value(m.weight).detach().numpy().transpose(2, 3, 1, 0) for m in convolutions]
    tree = {f"downsample_{level}": {"kernel": kernel} for level, kernel in enumerate(kernels[:-1])}
    return tree | {"score": kernels[-1]} | norms(network, value, 1)


def norms(network, value, first):
    layers = [m for m in network if isinstance(m, torch.nn.BatchNorm2d)]
    return {
        f"norm_{level}": {
            "scale": value(m.weight).detach().numpy(),
            "bias": value(m.bias).detach().numpy(),
        }
        for level, m in enumerate(layers, first)
    }


def statistics(network, first):
    layers = [m for m in network if isinstance(m, torch.nn.BatchNorm2d)]
    return {
        f"norm_{level}": {
            "mean": m.running_mean.numpy().copy(),
            "var": m.running_var.numpy().copy(),
        }
        for level, m in enumerate(layers, first)
    }


def parameters(generator, discriminator, value=lambda parameter: parameter):
    return jax.tree.map(
        np.array,
        {
            "generator": generator_tree(generator, value),
            "discriminator": discriminator_tree(discriminator, value),
        },
    )


@pytest.mark.parametrize(
    ("size", "channels"), [(28, 1), pytest.param(32, 3, marks=pytest.mark.long)]
)
def test_game_agrees(size, channels):
    torch.manual_seed(0)
    theirs = (
        randomise(generator_reference(size, channels)),
        randomise(discriminator_reference(size, channels)),
    )
    networks = Networks(DCGANGenerator(size, channels, WIDTH, LATENT), DCGANDiscriminator(WIDTH))
    params = parameters(*theirs)
    stats = {
        "generator": statistics(theirs[0], 0),
        "discriminator": statistics(theirs[1], 1),
    }
    image = np.random.default_rng(0).uniform(-1, 1, (BATCH, size, size, channels))
    image = image.astype(np.float32)
    batch = {"image": jnp.asarray(image), "index": jnp.arange(BATCH)}
    rngs = {"example": jax.random.key(1)}
    variables = {"params": params, "batch_stats": stats}
    z = torch.from_numpy(np.array(nn.apply(latents, networks)(variables, batch, rngs=rngs)))
    z = z[:, :, None, None]

    def reward(network, images, real):
        logits = network(images).flatten()
        return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))

    def discriminator_reward():
        real = torch.from_numpy(image.transpose(0, 3, 1, 2))
        with torch.no_grad():
            fake = theirs[0](z)
        return reward(theirs[1], real, True) + reward(theirs[1], fake, False)

    def generator_reward():
        return reward(theirs[1], theirs[0](z), True)

    games = (
        ("discriminator", discriminator_loss, discriminator_reward),
        ("generator", generator_loss, generator_reward),
    )
    for (player, loss, expected), network in zip(games, reversed(theirs), strict=True):

        @jax.jit
        def gradient_of(trained, params, stats, player=player, loss=loss):
            def total(trained):
                variables = {"params": params | {player: trained}, "batch_stats": stats}
                apply = nn.apply(loss, networks, mutable=["batch_stats"])
                result, new = apply(variables, batch, rngs=rngs)
                return result.values.mean(), new["batch_stats"]

            return jax.value_and_grad(total, has_aux=True)(trained)

        (value, stats), gradient = gradient_of(params[player], params, stats)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        for other in theirs:
            other.zero_grad()
        wanted = expected()
        wanted.backward()
        np.testing.assert_allclose(value, wanted.item(), rtol=1e-5)
        gradients = parameters(*theirs, lambda p: torch.zeros_like(p) if p.grad is None else p.grad)
        compare(gradient, gradients[player], 1e-4)
        compare(stats["generator"], statistics(theirs[0], 0), 1e-5)
        compare(stats["discriminator"], statistics(theirs[1], 1), 1e-5)

        optimizer.step()
        # Not Adam, whose first step is the gradient's sign, even where that is rounding.
        moved = parameters(*theirs)
        compare(stepped(optax.sgd(0.1), gradient, params[player]), moved[player], 1e-5)
        params = moved

    for network in theirs:
        network.eval()
    variables = jax.tree.map(jnp.asarray, {"params": params, "batch_stats": stats})
    images = nn.apply(lambda nets: nets.generator(jnp.asarray(z[:, :, 0, 0].numpy())), networks)(
        variables
    )
    expected = theirs[0](z).detach().numpy()
    np.testing.assert_allclose(images, expected.transpose(0, 2, 3, 1), atol=1e-5)
    logits = nn.apply(lambda nets: nets.discriminator(images), networks)(variables)
    expected = theirs[1](torch.from_numpy(expected)).detach().numpy().flatten()
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


def test_a_whole_step_agrees():
    """The step of the task moves both players by their Adams."""
    torch.manual_seed(1)
    size, rate, epsilon = 16, 1e-3, 1e-3
    theirs = (randomise(generator_reference(size, 1)), randomise(discriminator_reference(size, 1)))
    networks = Networks(DCGANGenerator(size, 1, WIDTH, LATENT), DCGANDiscriminator(WIDTH))
    adam = optax.adam(rate, b1=0.5, eps=epsilon)
    config = base_config(**PLAYERS)
    task = play_out(config, networks, optimizers={"generator": adam, "discriminator": adam})
    state = init_state(task, 0, {"image": jax.ShapeDtypeStruct((size, size, 1), jnp.float32)})
    state = state.replace(params=jax.tree.map(jnp.asarray, parameters(*theirs)))
    image = np.random.default_rng(0).uniform(-1, 1, (BATCH, size, size, 1)).astype(np.float32)
    batch = {"image": jnp.asarray(image), "index": jnp.arange(BATCH)}
    of_critic, of_maker = (draws_of(task, state, batch, phase, latents)[0] for phase in (0, 1))
    optimizers = [torch.optim.Adam(one.parameters(), rate, (0.5, 0.999), epsilon) for one in theirs]
    generator, discriminator = theirs

    def reward(images, real):
        logits = discriminator(images).flatten()
        return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))

    def fakes(z):
        return generator(torch.from_numpy(np.array(z))[:, :, None, None])

    optimizers[1].zero_grad()
    loss = reward(torch.from_numpy(image.transpose(0, 3, 1, 2)), real=True)
    (loss + reward(fakes(of_critic).detach(), real=False)).backward()
    optimizers[1].step()
    optimizers[0].zero_grad()
    reward(fakes(of_maker), real=True).backward()
    optimizers[0].step()

    moved, _ = jax.jit(make_step(task))(state, batch)
    compare(jax.tree.map(np.array, moved.params), parameters(*theirs), 1e-5)
    stats = moved.collections["batch_stats"]
    compare(dict(stats["generator"]), statistics(generator, 0), 1e-5)
    compare(dict(stats["discriminator"]), statistics(discriminator, 1), 1e-5)


def compare(ours, expected, rtol):
    """Relative to the largest element of each array."""
    assert jax.tree.structure(ours) == jax.tree.structure(expected)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max()),
        ours,
        expected,
    )
