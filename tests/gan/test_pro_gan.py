"""ProGAN's networks against gan-lab's by copied weights, and their published sizes."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError, tree
from genax.gan.penalties import unit_slope
from genax.gan.pro_gan import SIZES, ProGANDiscriminator, ProGANGenerator
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
    with_official_bias,
)
from tests.parity import compare, require

RNG = np.random.default_rng(0)


def bias(path, name):
    return flat(f"params/{path}/bias", name)


def images_layer(path, new, old, sizes, share):
    """The layers beside the image: of the newest resolution, and of the one that it fades from."""
    found = convolution(f"{path}_{4 * 2 ** (sizes - 1)}", new)
    if share is not None:
        found += convolution(f"{path}_{4 * 2 ** (sizes - 2)}", old)
    return found


def generator_conversions(sizes, share):
    def read(found, shape):
        # [features of 4x4 pixels, latent] to [latent, pixels of features].
        weight = found[0].T.reshape(shape[0], -1, 4, 4)
        return weight.transpose(0, 2, 3, 1).reshape(shape)

    found = [
        Conversion(
            "params/block_4/dense/kernel", ("gen_blocks.0.0.linear.weight",), read, lambda x: [x]
        ),
        bias("block_4", "gen_blocks.0.2.bias"),
        *convolution("block_4/conv", "gen_blocks.0.5.conv2d"),
        *images_layer("to_image", "torgb.conv2d", "prev_torgb.conv2d", sizes, share),
    ]
    for number in range(1, sizes):
        block, name = f"block_{4 * 2**number}", f"gen_blocks.{number}"
        found += convolution(f"{block}/upsample", f"{name}.0.1.conv2d")
        found += convolution(f"{block}/conv", f"{name}.1.0.conv2d")
    return found


def discriminator_conversions(sizes, share, blur=False):
    last, first = f"disc_blocks.{sizes - 1}", int(blur)
    found = [
        *convolution("block_4/conv", f"{last}.1.conv2d"),
        Conversion(
            "params/block_4/dense/kernel",
            (f"{last}.3.conv2d.weight",),
            lambda found, shape: found[0].transpose(2, 3, 1, 0).reshape(shape),
            lambda x: [x],
        ),
        bias("block_4/dense", f"{last}.3.conv2d.bias"),
        *dense("block_4/score", f"{last}.6.linear"),
        *images_layer("from_image", "fromrgb.0.conv2d", "prev_fromrgb.0.conv2d", sizes, share),
    ]
    for number in range(1, sizes):
        block, name = f"block_{4 * 2**number}", f"disc_blocks.{sizes - 1 - number}"
        found += convolution(f"{block}/conv", f"{name}.0.0.conv2d")
        found += [
            convolution(f"{block}/downsample", f"{name}.1.{first}.conv2d")[0],
            bias(f"{block}/downsample", f"{name}.1.{first + 2}.bias"),
        ]
    return found


@pytest.mark.parametrize(("sizes", "share"), GROWTHS)
def test_the_generator_is_that_of_gan_lab(sizes, share):
    torch, theirs = require("torch")[0], gan_lab.networks("progan")
    torch.manual_seed(0)
    make = partial(theirs.ProGenerator, final_res=16, len_latent=LATENT)
    network = with_official_bias(gan_lab.grown(make, sizes, share), theirs)
    conversions = generator_conversions(sizes, share)
    size = 4 * 2 ** (sizes - 1)
    ours = ProGANGenerator(16, 3, latent_size=LATENT, **WIDTHS)
    z = np.float32(RNG.normal(size=(BATCH, LATENT)))
    variables = jax.jit(ours.init)(jax.random.key(0), z)
    params = copied(randomised(network), variables["params"], conversions)
    weights = image_of(size)

    def loss(params):
        images = ours.apply({"params": params}, jnp.asarray(z), size, share_of(share))
        return (images * weights).mean(), [images]

    images = network(torch.tensor(z))
    expected = (images * nchw(weights)).mean()
    assert images.shape[-1] == size
    agree(compare(loss, params, conversions, network, expected, [nhwc(images)]))


@pytest.mark.parametrize("blur", [False, True])
@pytest.mark.parametrize(("sizes", "share"), GROWTHS)
def test_the_discriminator_and_its_slope_are_those_of_gan_lab(sizes, share, blur):
    """The penalty is a gradient of a gradient, through the deviation of other images too."""
    torch, theirs = require("torch")[0], gan_lab.networks("progan")
    torch.manual_seed(0)
    make = partial(theirs.ProDiscriminator, final_res=16, blur_type="binomial" if blur else None)
    network = gan_lab.grown(make, sizes, share)
    conversions = discriminator_conversions(sizes, share, blur)
    size = 4 * 2 ** (sizes - 1)
    ours = ProGANDiscriminator(16, blur=blur, **WIDTHS)
    image = jnp.asarray(image_of(size))
    variables = jax.jit(ours.init)(jax.random.key(0), jnp.zeros((2, 16, 16, 3)))
    params = copied(randomised(network), variables["params"], conversions)

    def loss(params):
        score = partial(ours.apply, {"params": params}, size=size, share=share_of(share))
        scores, slope = score(image), unit_slope(score, image, 10.0)
        return scores.mean() + slope.mean(), [scores, slope]

    images = nchw(image).requires_grad_()
    scores = network(images)
    (slopes,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    slope = 10 * (slopes.square().sum((1, 2, 3)).sqrt() - 1) ** 2
    outputs = [scores.detach(), slope.detach()]
    agree(compare(loss, params, conversions, network, scores.mean() + slope.mean(), outputs))


def test_published_parameter_counts():
    """The official print-out of G_paper and D_paper at 1024x1024."""
    z, image = jnp.zeros((2, 512)), jnp.zeros((2, 1024, 1024, 3))
    found = (
        jax.eval_shape(ProGANGenerator(**SIZES["paper"]).init, jax.random.key(0), z),
        jax.eval_shape(ProGANDiscriminator().init, jax.random.key(0), image),
    )
    counts = [sum(x.size for x in jax.tree.leaves(one)) for one in found]
    assert counts == [23_079_115, 23_087_249]


def test_a_network_has_the_parameters_of_all_sizes_whatever_it_makes():
    """A run's state does not depend on the resolution that it begins with."""
    generator = ProGANGenerator(16, 3, 128, 16, 16)
    discriminator = ProGANDiscriminator(16, 128, 16)
    z, image = jnp.zeros((2, 16)), jnp.zeros((2, 16, 16, 3))
    paths = tree.flatten(jax.eval_shape(generator.init, jax.random.key(0), z)["params"])
    assert {"to_image_4/kernel", "to_image_8/kernel", "to_image_16/kernel"} < paths.keys()
    paths = tree.flatten(jax.eval_shape(discriminator.init, jax.random.key(0), image)["params"])
    assert {"from_image_4/kernel", "from_image_8/kernel", "from_image_16/kernel"} < paths.keys()


def test_a_size_fades_in_from_the_one_before():
    generator = ProGANGenerator(8, 3, 128, 16, 16)
    z = jnp.asarray(RNG.normal(size=(4, 16)), jnp.float32)
    variables = jax.jit(generator.init)(jax.random.key(0), z)
    small = generator.apply(variables, z, 4)
    none, half, whole = (generator.apply(variables, z, 8, jnp.float32(s)) for s in (0, 0.5, 1))
    np.testing.assert_allclose(none, np.repeat(np.repeat(small, 2, 1), 2, 2), rtol=1e-6)
    np.testing.assert_allclose(whole, generator.apply(variables, z, 8), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(half, (none + whole) / 2, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [0, 2, 6, 28, 48])
def test_a_size_that_no_doubling_of_four_reaches(size):
    with pytest.raises(GenaxError, match=f"{size}x{size} do not grow from 4x4"):
        jax.eval_shape(ProGANGenerator(size).init, jax.random.key(0), jnp.zeros((2, 512)))


def test_bfloat16_computes_over_float32_parameters():
    generator = ProGANGenerator(8, 3, 128, 16, 16, jnp.bfloat16)
    images, state = jax.eval_shape(generator.init_with_output, jax.random.key(0), jnp.ones((2, 16)))
    discriminator = ProGANDiscriminator(8, 128, 16, dtype=jnp.bfloat16)
    scores, other = jax.eval_shape(discriminator.init_with_output, jax.random.key(0), images)
    for leaf in jax.tree.leaves((images, scores, state, other)):
        assert leaf.dtype == jnp.float32
