"""DiffAugment against the official operations, and what a discriminator sees of both players."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from genax.gan.augmentation import (
    POLICIES,
    augment_by,
    color,
    cutout,
    differentiable_augmentation,
    flip,
    translation,
)
from genax.gan.game import play
from tests.parity import require

SIZE, BATCH = 12, 5
RNG = np.random.default_rng(0)
IMAGES = np.float32(RNG.normal(size=(BATCH, SIZE, SIZE, 3)))


def changed(operation, *uniform):
    """The images after an operation that draws these numbers."""
    numbers = iter(uniform)
    change = operation(lambda distribution, shape: jnp.asarray(next(numbers)))
    return np.asarray(change(jnp.asarray(IMAGES)))


def test_color_is_brightness_saturation_contrast():
    [torch] = require("torch")
    shift, saturation, contrast = RNG.uniform(size=(3, BATCH, 1, 1, 1)).astype(np.float32)
    x = torch.tensor(IMAGES.transpose(0, 3, 1, 2)) + torch.tensor(shift) - 0.5
    mean = x.mean(1, keepdim=True)
    x = (x - mean) * torch.tensor(saturation) * 2 + mean
    mean = x.mean((1, 2, 3), keepdim=True)
    x = (x - mean) * (torch.tensor(contrast) + 0.5) + mean
    found = changed(color, shift, saturation, contrast)
    np.testing.assert_allclose(found, x.numpy().transpose(0, 2, 3, 1), rtol=1e-5, atol=1e-5)


def test_translation_shifts_by_an_eighth_at_most():
    """Pixels come from shift pixels away, and from outside comes 0."""
    most = int(SIZE / 8 + 0.5)
    uniform = np.float32([[0.0, 0.999], [0.5, 0.5], [0.999, 0.0], [0.999, 0.999], [0.2, 0.4]])
    found = changed(translation, uniform)
    for image, number, new in zip(IMAGES, uniform, found, strict=True):
        down, right = (int(min(-most + np.floor(n * (2 * most + 1)), most)) for n in number)
        padded = np.pad(image, ((most, most), (most, most), (0, 0)))
        expected = padded[most + down :, most + right :][:SIZE, :SIZE]
        np.testing.assert_array_equal(new, expected)


def test_cutout_is_a_square_of_half_the_size():
    uniform = np.float32([[0.0, 0.0], [0.999, 0.999], [0.5, 0.5], [0.0, 0.999], [0.3, 0.7]])
    found = changed(cutout, uniform)
    half = int(SIZE / 2 + 0.5)
    for image, number, new in zip(IMAGES, uniform, found, strict=True):
        mask = np.ones((SIZE, SIZE, 1), np.float32)
        start = [int(np.floor(n * (SIZE - half % 2 + 1))) - half // 2 for n in number]
        rows, columns = (np.clip(np.arange(s, s + half), 0, SIZE - 1) for s in start)
        mask[np.ix_(rows, columns)] = 0
        np.testing.assert_array_equal(new, image * mask)
    assert not found[2, half, half].any()


def test_flip_mirrors_half():
    found = changed(flip, np.float32([0.1, 0.9, 0.4, 0.6, 0.5]).reshape(-1, 1, 1, 1))
    mirrored = [(new == old[:, ::-1]).all() for new, old in zip(found, IMAGES, strict=True)]
    assert mirrored == [True, False, True, False, False]


class Players(nn.Module):
    """A generator that makes one image, a discriminator that says the mean."""

    def setup(self):
        self.generator, self.discriminator = _Same(), _Mean()


class _Same(nn.Module):
    latent_size: int = 2

    @nn.compact
    def __call__(self, z, train=False):
        level = self.param("level", nn.initializers.ones, ())
        return jnp.broadcast_to(level, (len(z), SIZE, SIZE, 1))


class _Mean(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        return self.param("weight", nn.initializers.ones, ()) * x.mean((1, 2, 3))


def test_both_players_see_augmented_images_and_penalties_the_augmented_discriminator():
    batch = {"image": jnp.ones((BATCH, SIZE, SIZE, 1)), "index": jnp.arange(BATCH)}
    rngs = {"params": jax.random.key(0), "example": jax.random.key(1)}

    def play_(nets, batch):
        return play(nets, batch, augment=augment_by("translation"), moves="generator")

    variables = jax.jit(nn.init(play_, Players()))(rngs, batch)
    found = nn.apply(play_, Players())(variables, batch, rngs=rngs)
    # Zeros come in, by numbers of each element's own.
    assert len(set(np.asarray(found.fake).tolist())) > 1
    assert (found.real != found.fake).any()
    assert (found.score(batch["image"]) < 1).any()
    # An element's numbers do not depend on its neighbours.
    part = {"image": batch["image"][2:4], "index": batch["index"][2:4]}
    again = nn.apply(play_, Players())(variables, part, rngs=rngs)
    np.testing.assert_array_equal(again.fake, found.fake[2:4])

    def total(params):
        return nn.apply(play_, Players())({"params": params}, batch, rngs=rngs).fake.sum()

    slope = jax.grad(total)(variables["params"])["generator"]["level"]
    np.testing.assert_allclose(slope, found.fake.sum(), rtol=1e-5)


def test_policies_keep_shapes():
    for operations in POLICIES.values():
        nets = Players()
        view = lambda nets, batch, operations=operations: differentiable_augmentation(  # noqa: E731
            nets, batch, operations
        )(jnp.asarray(IMAGES))
        batch = {"index": jnp.arange(BATCH)}
        found = nn.apply(view, nets)({}, batch, rngs={"example": jax.random.key(0)})
        assert found.shape == IMAGES.shape
        assert jnp.isfinite(found).all()
