"""StyleGAN's generator against gan-lab's by copied weights, its sizes, styles and mean style."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.gan.style_gan import SIZES, StyleGANGenerator
from genax.gan.style_inputs import noise_of
from genax.interop.conversion import Conversion, convolution, dense, flat
from tests.gan import gan_lab
from tests.gan.gan_lab import (
    BATCH,
    GROWTHS,
    LATENT,
    WIDTHS,
    agree,
    copied,
    image_of,
    nchw,
    nhwc,
    randomised,
    share_of,
)
from tests.parity import compare, require

RNG = np.random.default_rng(0)
LAYERS = 3


def image_layer(sizes, name):
    return convolution(f"synthesis/to_image_{4 * 2 ** (sizes - 1)}", name)


def conversions_of(sizes, share):
    found = image_layer(sizes, "torgb.conv2d")
    if share is not None:
        found += image_layer(sizes - 1, "prev_torgb.conv2d")
    for number in range(LAYERS):
        found += dense(f"mapping/dense_{number}", f"z_to_w.fc_mapping_model.fc_{number}.linear")
    found.append(
        Conversion(
            "params/synthesis/block_4/constant",
            ("const_input",),
            lambda found, shape: found[0][0].transpose(1, 2, 0),
            lambda x: [x],
        )
    )
    for layer in range(2 * sizes):
        block, name = f"synthesis/block_{4 * 2 ** (layer // 2)}", f"gen_layers.{layer}"
        path = f"{block}/modulation_{layer % 2}"
        found += dense(f"{path}/style", f"{name}.3.linear")
        found.append(flat(f"params/{path}/noise", f"{name}.1.noise_weight"))
        found.append(flat(f"params/{path}/bias", f"{name}.2.0.bias"))
        if layer:
            kind = "conv" if layer % 2 else "upsample"
            place = "0.conv2d" if layer == 1 else "0.0.conv2d" if layer % 2 else "0.1.conv2d"
            found.append(convolution(f"{block}/{kind}", f"{name}.{place}")[0])
    return found


@pytest.mark.long
@pytest.mark.parametrize(("sizes", "share"), GROWTHS)
def test_the_generator_is_that_of_gan_lab(sizes, share):
    torch, theirs = require("torch")[0], gan_lab.networks("stylegan")
    torch.manual_seed(0)
    make = partial(
        theirs.StyleGenerator,
        final_res=16,
        len_latent=LATENT,
        len_dlatent=LATENT,
        mapping_num_fcs=LAYERS,
        blur_type="binomial",
        truncation_trick_params={"beta": 0.995, "psi": 0.7, "cutoff_stage": None},
    )
    network = gan_lab.grown(make, sizes, share)
    network.eval()
    ours = StyleGANGenerator(16, 3, LATENT, LATENT, LAYERS, **WIDTHS)
    z = jnp.asarray(RNG.normal(size=(BATCH, LATENT)), jnp.float32)
    keys = jax.random.split(jax.random.key(1), BATCH)
    variables = jax.jit(ours.init)(jax.random.key(0), z)
    conversions = conversions_of(sizes, share)
    params = copied(randomised(network), variables["params"], conversions)
    size = 4 * 2 ** (sizes - 1)
    weights = image_of(size)

    def loss(params):
        images = ours.apply({**variables, "params": params}, z, size, share_of(share), keys)
        return (images * weights).mean(), [images]

    noise = [
        nchw(noise_of(keys, layer, (4 * 2 ** (layer // 2),) * 2 + (1,)))
        for layer in range(2 * sizes)
    ]
    images = network(torch.tensor(np.array(z)), noise=noise)
    expected = (images * nchw(weights)).mean()
    agree(compare(loss, params, conversions, network, expected, [nhwc(images)]))


def test_published_parameter_count():
    """The official print-out of G_style at 1024x1024."""
    z = jnp.zeros((2, 512))
    shapes = jax.eval_shape(StyleGANGenerator(**SIZES["paper"]).init, jax.random.key(0), z)
    assert sum(x.size for x in jax.tree.leaves(shapes["params"])) == 26_219_627


@pytest.fixture(scope="module")
def small():
    generator = StyleGANGenerator(16, 1, 6, 5, 2, 32, 8)
    z = jnp.asarray(RNG.normal(size=(4, 6)), jnp.float32)
    variables = jax.jit(generator.init)(jax.random.key(0), z)
    # Strengths of noise begin at 0, and would hide it.
    params = jax.tree.map(lambda x: x + 0.1, variables["params"])
    return generator, {**variables, "params": params}, z


def test_a_style_is_mixed_from_a_layer_on(small):
    generator, variables, z = small
    second = z[::-1]
    crossover = jnp.array([1, 2, 5, 6])
    styles = partial(generator.apply, variables, method="styles")
    found = styles(z, second, crossover)
    first, other = styles(z), styles(second)
    assert found.shape == (4, generator.num_styles, 5) == (4, 6, 5)
    for image, place in enumerate(crossover):
        np.testing.assert_array_equal(found[image, :place], first[image, :place])
        np.testing.assert_array_equal(found[image, place:], other[image, place:])


def test_truncation_draws_styles_of_some_layers_near_the_mean(small):
    generator, variables, z = small
    mean = jnp.asarray(RNG.normal(size=5), jnp.float32)
    variables = {**variables, "mean_style": {"mean": mean}}
    style = generator.apply(variables, z, method="styles")
    near = (mean + 0.7 * (style - mean)).at[:, 4:].set(style[:, 4:])
    expected = generator.apply(variables, near, None, method="synthesise")
    found = generator.apply(variables, z, truncation=0.7, truncated_layers=4)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert np.abs(found - generator.apply(variables, z)).max() > 1e-3


def test_the_mean_style_moves_in_training_alone(small):
    generator, variables, z = small
    style = generator.apply(variables, z, method="styles")[:, 0]
    # The second latents of mixed styles do not move it.
    arguments = (z, 8, None, None, z[::-1], jnp.full(4, 2))
    call = partial(generator.apply, variables, *arguments, mutable=["mean_style"])
    _, moved = call(train=True)
    np.testing.assert_allclose(moved["mean_style"]["mean"], 0.005 * style.mean(0), rtol=1e-4)
    _, kept = call(train=False)
    np.testing.assert_array_equal(kept["mean_style"]["mean"], 0.0)
    generator.apply(variables, z, 8, train=True)


def test_noise_belongs_to_its_image_and_layer(small):
    generator, variables, z = small
    keys = jax.random.split(jax.random.key(1), 4)
    same = jnp.broadcast_to(z[:1], z.shape)
    images = generator.apply(variables, same, 8, None, keys)
    assert np.abs(images[0] - images[1]).max() > 1e-3
    swapped = generator.apply(variables, same, 8, None, keys[::-1])
    np.testing.assert_allclose(swapped, images[::-1], rtol=1e-4, atol=1e-5)
    assert np.abs(images - generator.apply(variables, same, 8)).max() > 1e-3
    noise = [noise_of(keys, layer, (4, 4, 1)) for layer in (0, 1)]
    assert np.abs(noise[0] - noise[1]).min() > 0


def test_bfloat16_computes_over_float32_parameters():
    generator = StyleGANGenerator(8, 1, 6, 5, 2, 32, 8, dtype=jnp.bfloat16)
    images, state = jax.eval_shape(generator.init_with_output, jax.random.key(0), jnp.ones((2, 6)))
    for leaf in jax.tree.leaves((images, state)):
        assert leaf.dtype == jnp.float32
