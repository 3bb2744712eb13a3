"""StyleGAN2 against PyTorch: outputs, and a whole step of both players with its lazy penalties."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genax.core import tree
from genax.core.nets import per_example
from genax.core.step import init_state, make_step
from genax.core.task import Phase, Stage, Task
from genax.gan.game import latents
from genax.gan.losses import discriminator_loss, generator_loss, penalty_loss
from genax.gan.modulated import modulated_convolution
from genax.gan.networks import Networks
from genax.gan.path_length import path_length_loss, style_lengths
from genax.gan.penalties import r1
from genax.gan.style_gan2 import StyleGAN2Discriminator, StyleGAN2Generator
from genax.gan.style_inputs import mixed
from tests.contracts.harness import quick_compilation
from tests.parity import require

[torch] = require("torch")
from tests.gan import style_gan2_reference as reference  # noqa: E402

SIZE, BATCH = 8, 4
GENERATOR = {
    "image_size": SIZE,
    "latent_size": 6,
    "style_size": 5,
    "mapping_layers": 2,
    "width": 32,
    "max_width": 8,
}
DISCRIMINATOR = {"width": 32, "max_width": 8, "label_layers": 2}


def random(params, seed=0):
    """Parameters without zeros, which would hide what they multiply."""
    rng = np.random.default_rng(seed)

    def changed(path, leaf):
        noise = 0.3 * rng.normal(size=leaf.shape)
        return jnp.asarray(leaf + (noise if path.endswith(("bias", "noise")) else 0), jnp.float32)

    return tree.map_by_path(changed, params)


def initial(network, *inputs):
    """Parameters of a network."""
    with quick_compilation():
        return jax.jit(network.init)(jax.random.key(0), *inputs)["params"]


def as_torch(params):
    """Nested dicts of tensors."""
    return jax.tree.map(lambda x: torch.tensor(np.array(x), requires_grad=True), params)


def image_of(array):
    """Images as PyTorch has them."""
    return torch.tensor(np.array(array).transpose(0, 3, 1, 2))


def noise_of(keys, layers):
    """The noise of each layer, of a key for each image."""
    found = []
    for number in range(layers - 1):
        size = 4 * 2 ** ((number + 1) // 2)
        draw = jax.vmap(
            lambda key, number=number, size=size: jax.random.normal(
                jax.random.fold_in(key, number), (size, size, 1)
            )
        )
        found.append(image_of(draw(keys)))
    return found


def close(ours, theirs, tolerance=1e-5):
    """Relative to the largest number."""
    ours, theirs = np.asarray(ours), theirs.detach().numpy()
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= tolerance * np.abs(theirs).max()


@pytest.mark.parametrize(
    "architecture",
    ["skip", *(pytest.param(name, marks=pytest.mark.long) for name in ("residual", "plain"))],
)
def test_networks_agree(architecture):
    labels = 3
    generator = StyleGAN2Generator(**GENERATOR, num_classes=labels, architecture=architecture)
    discriminator = StyleGAN2Discriminator(
        **DISCRIMINATOR, num_classes=labels, architecture=architecture
    )
    rng = np.random.default_rng(0)
    z, second = jnp.asarray(rng.normal(size=(2, BATCH, 6)), jnp.float32)
    label, crossover = jnp.arange(BATCH) % labels, jnp.arange(BATCH) + 1
    keys = jax.random.split(jax.random.key(3), BATCH)
    params = random(initial(generator, z, label))
    mean = np.float32(rng.normal(size=5))
    made = {"params": params, "mean_style": {"mean": mean}}
    with quick_compilation():
        images = jax.jit(generator.apply)(made, z, label, keys, second, crossover, truncation=0.7)
    theirs = as_torch(params)
    one_hot = torch.nn.functional.one_hot(torch.tensor(np.array(label)).long(), labels).float()
    styles = reference.mapping(theirs["mapping"], torch.tensor(np.array(z)), one_hot)[:, None]
    others = reference.mapping(theirs["mapping"], torch.tensor(np.array(second)), one_hot)[:, None]
    layers = generator.num_styles
    first = torch.arange(layers)[None] < torch.tensor(np.array(crossover))[:, None]
    styles = torch.where(first[..., None], styles, others)
    styles = torch.tensor(mean).lerp(styles, 0.7)
    expected = reference.synthesis(
        theirs["synthesis"], styles, noise_of(keys, layers), architecture
    )
    close(images.transpose(0, 3, 1, 2), expected)

    params = random(initial(discriminator, images, label), 1)
    with quick_compilation():
        scores = jax.jit(discriminator.apply)({"params": params}, images, label)
    expected = reference.discriminator(as_torch(params), image_of(images), one_hot, architecture)
    close(scores, expected)


def test_modulated_convolution_is_one_kernel_for_each_image():
    rng = np.random.default_rng(0)
    x, scales = np.float32(rng.normal(size=(3, 5, 5, 4))), np.float32(rng.normal(size=(3, 4)))
    kernel = np.float32(rng.normal(size=(3, 3, 4, 6)))
    found = modulated_convolution(*map(jnp.asarray, (x, kernel, scales)))
    for image, scale, ours in zip(x, scales, found, strict=True):
        own = kernel * scale[:, None]
        own = own / np.sqrt(np.square(own).sum((0, 1, 2)) + 1e-8)
        weight = torch.tensor(own.transpose(3, 2, 0, 1))
        expected = torch.nn.functional.conv2d(image_of(image[None]), weight, padding=1)
        close(ours.transpose(2, 0, 1)[None], expected)


# Lazy penalties move on the first of these steps, and one of them again later.
R1_EVERY, PATH_EVERY, STEPS = 3, 2, 3
RATE, BETAS = 2e-3, (0.0, 0.99)
GAMMA = 0.8


def lazy(every):
    share = every / (every + 1)
    return RATE * share, [beta**share for beta in BETAS]


def task():
    networks = Networks(StyleGAN2Generator(**GENERATOR), StyleGAN2Discriminator(**DISCRIMINATOR))

    def adam(every):
        rate, betas = lazy(every)
        # Not 1e-8: the first step of Adam is nearly a sign, of rounding where the slope is 0.
        return optax.adam(rate, *betas, eps=1e-3)

    phases = [
        Phase("generator", partial(generator_loss, inputs=mixed), ("generator",), adam(PATH_EVERY)),
        Phase(
            "path_length",
            partial(path_length_loss, every=PATH_EVERY),
            ("generator",),
            "generator",
            PATH_EVERY,
            partial(style_lengths, inputs=mixed),
        ),
        Phase(
            "discriminator",
            partial(discriminator_loss, inputs=mixed),
            ("discriminator",),
            adam(R1_EVERY),
        ),
        Phase(
            "r1",
            partial(
                penalty_loss,
                penalty=partial(r1, weight=GAMMA),
                every=R1_EVERY,
                of_score=True,
            ),
            ("discriminator",),
            "discriminator",
            R1_EVERY,
        ),
    ]
    return Task(networks, [Stage(phases)])


@pytest.mark.long
def test_a_whole_step_agrees():
    """The step has lazy penalties, one Adam for each player and running means."""
    ours = task()
    element = {"image": jax.ShapeDtypeStruct((SIZE, SIZE, 3), jnp.float32)}
    with quick_compilation():
        state = jax.jit(lambda: init_state(ours, 0, element))()
    state = state.replace(params=random(state.params))
    theirs = as_torch(state.params)
    players = {name: list(jax.tree.leaves(theirs[name])) for name in ("generator", "discriminator")}
    adams = {}
    for name, every in (("generator", PATH_EVERY), ("discriminator", R1_EVERY)):
        rate, betas = lazy(every)
        adams[name] = torch.optim.Adam(players[name], rate, betas, eps=1e-3)
    running = {"style": torch.zeros(5), "path": torch.tensor(0.0)}
    step = jax.jit(make_step(ours))

    def drawn(function, number, embed=False, of=slice(None)):
        """What a phase draws in this step, as its loss does."""
        key = jax.random.fold_in(jax.random.wrap_key_data(state.rng), state.step)
        key = jax.random.fold_in(key, number)
        key = jax.random.split(key)[0] if embed else key
        variables = {"params": state.params, **state.collections}
        batch = {"index": jnp.arange(BATCH)[of]}
        rngs = {"example": jax.random.fold_in(key, 0)}
        return nn.apply(function, ours.networks)(variables, batch, rngs=rngs)

    def fakes(inputs, z):
        p = theirs["generator"]
        style = reference.mapping(p["mapping"], torch.tensor(np.array(z)))
        running["style"] = style.detach().mean(0).lerp(running["style"], 0.995)
        other = reference.mapping(p["mapping"], torch.tensor(np.array(inputs["second"])))
        layers = ours.networks.generator.num_styles
        first = torch.arange(layers) < torch.tensor(np.array(inputs["crossover"]))[:, None]
        styles = torch.where(first[..., None], style[:, None], other[:, None])
        return styles, reference.synthesis(
            p["synthesis"], styles, noise_of(inputs["noise"], layers)
        )

    def draws(nets, batch):
        inputs = mixed(nets, batch)
        return inputs, latents(nets, batch)

    def moved(player, loss):
        adams[player].zero_grad()
        slopes = torch.autograd.grad(loss, players[player], allow_unused=True)
        for one, gradient in zip(players[player], slopes, strict=True):
            one.grad = torch.zeros_like(one) if gradient is None else gradient
        adams[player].step()

    softplus = torch.nn.functional.softplus
    score = lambda images: reference.discriminator(theirs["discriminator"], images)  # noqa: E731
    for number in range(STEPS):
        rng = np.random.default_rng(number)
        image = np.float32(rng.uniform(-1, 1, (BATCH, SIZE, SIZE, 3)))
        moved("generator", softplus(-score(fakes(*drawn(draws, 0))[1])).mean())
        if number % PATH_EVERY == 0:
            half = slice(None, None, 2)
            inputs, z, directions = drawn(
                lambda nets, batch: (
                    *draws(nets, batch),
                    per_example(jax.random.normal, nets, batch, (SIZE, SIZE, 3)),
                ),
                1,
                embed=True,
                of=half,
            )
            styles, made = fakes(inputs, z)
            scaled = image_of(directions) / np.sqrt(SIZE * SIZE)
            [slopes] = torch.autograd.grad((made * scaled).sum(), [styles], create_graph=True)
            lengths = slopes.square().sum(2).mean(1).sqrt()
            mean = running["path"].lerp(lengths.mean(), 0.01)
            running["path"] = mean.detach()
            moved("generator", (lengths - mean).square().mean() * 2 * PATH_EVERY)
        with torch.no_grad():
            made = fakes(*drawn(draws, 2))[1]
        moved(
            "discriminator", softplus(-score(image_of(image))).mean() + softplus(score(made)).mean()
        )
        if number % R1_EVERY == 0:
            real = image_of(image).requires_grad_()
            [slopes] = torch.autograd.grad(score(real).sum(), [real], create_graph=True)
            penalty = slopes.square().sum((1, 2, 3)) * (GAMMA / 2)
            moved("discriminator", penalty.mean() * R1_EVERY)
        with quick_compilation():
            state, _ = step(state, {"image": jnp.asarray(image)})
        for path, leaf in tree.flatten(state.params).items():
            close(leaf, tree.flatten(theirs)[path])
        close(state.collections["mean_style"]["generator"]["mean"], running["style"])
        close(state.collections["path_length"]["mean"], running["path"])
