"""The augmentations of StyleGAN2-ADA against PyTorch, and the probability that follows scores."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genax.core import GenaxError, Loss, init_state, make_step
from genax.core.task import Phase, Stage, Task
from genax.gan.adaptive_augmentation import AdaptiveAugmentation, adaptive_loss
from genax.gan.augmentation_pipeline import (
    FILTER,
    colour_matrix,
    geometric_matrix,
    pipeline,
    recoloured,
    warped,
)
from tests.parity import require

SIZE, BATCH = 8, 6


def matrices(probability=1.0, batch=BATCH):
    keys = jax.random.split(jax.random.key(4), batch)
    geometry = jax.vmap(lambda key: geometric_matrix(key, (SIZE, SIZE), probability))(keys)
    return geometry, jax.vmap(lambda key: colour_matrix(key, probability))(keys)


def images(channels=3):
    x = np.random.default_rng(0).uniform(-1, 1, (BATCH, SIZE, SIZE, channels))
    return jnp.asarray(x, jnp.float32)


def official_warp(torch, image, inverse):
    """The official execution of geometry: padding by what is needed, filters, a sampling grid."""
    F = torch.nn.functional
    taps = torch.tensor(FILTER, dtype=torch.float32)
    height = width = image.shape[2]
    centre = (width - 1) / 2
    ends = torch.tensor([[-1.0, -1], [1, -1], [1, 1], [-1, 1]]) * centre
    corners = inverse @ torch.cat([ends, torch.ones(4, 1)], 1).T
    margin = corners[:, :2].permute(1, 0, 2).flatten(1)
    margin = torch.cat([-margin, margin]).max(dim=1).values + (6 - centre)
    left, top, right, bottom = margin.clamp(0, width - 1).ceil().int().tolist()
    image = F.pad(image, [left, right, top, bottom], mode="reflect")

    def move(x, y):
        return torch.tensor([[1, 0, x], [0, 1, y], [0, 0, 1]], dtype=torch.float32)

    def scale(x, y):
        return torch.diag(torch.tensor([x, y, 1], dtype=torch.float32))

    inverse = move((left - right) / 2, (top - bottom) / 2) @ inverse
    b, c, h, w = image.shape

    def filtered(x, kernel):
        x = x.reshape(-1, 1, *x.shape[2:])
        x = F.conv2d(F.conv2d(x, kernel[None, None, None]), kernel[None, None, :, None])
        return x.reshape(b, c, *x.shape[2:])

    spread = torch.zeros(b, c, 2 * h, 2 * w)
    spread[:, :, ::2, ::2] = image
    image = filtered(F.pad(spread, [6, 5, 6, 5]), 2 * taps.flip(0))
    inverse = scale(2, 2) @ inverse @ scale(0.5, 0.5)
    inverse = move(-0.5, -0.5) @ inverse @ move(0.5, 0.5)
    shape = [b, c, (height + 6) * 2, (width + 6) * 2]
    inverse = (
        scale(2 / image.shape[3], 2 / image.shape[2]) @ inverse @ scale(shape[3] / 2, shape[2] / 2)
    )
    grid = F.affine_grid(inverse[:, :2], shape, align_corners=False)
    image = F.grid_sample(image, grid, padding_mode="zeros", align_corners=False)
    return filtered(image[:, :, 1:-1, 1:-1], taps)[:, :, ::2, ::2]


def test_geometry_is_that_of_the_official_code():
    """Its padding is as wide as a batch needs; ours is always the widest."""
    [torch] = require("torch")
    geometry, _ = matrices()
    image = images()
    found = jax.jit(warped)(image, geometry)
    expected = official_warp(
        torch,
        torch.tensor(np.array(image).transpose(0, 3, 1, 2)),
        torch.tensor(np.array(geometry)),
    )
    np.testing.assert_allclose(found, expected.numpy().transpose(0, 2, 3, 1), rtol=1e-5, atol=1e-5)


def test_nothing_happens_at_probability_0():
    geometry, colour = matrices(0.0)
    np.testing.assert_array_equal(geometry, np.broadcast_to(np.eye(3), geometry.shape))
    np.testing.assert_array_equal(colour, np.broadcast_to(np.eye(4), colour.shape))
    # The two filters of 12 taps undo each other nearly.
    np.testing.assert_allclose(warped(images(), geometry), images(), atol=0.1)
    np.testing.assert_array_equal(recoloured(images(), colour), images())


def test_matrices_are_products_of_known_transformations():
    geometry, colour = (np.array(x) for x in matrices(batch=64))
    np.testing.assert_array_equal(geometry[:, 2], np.broadcast_to([0, 0, 1], (64, 3)))
    # A scaling of the area by 2^(-2 s), s normal of deviation 0.2; a flip changes its sign.
    areas = np.linalg.det(geometry[:, :2, :2])
    assert 0.2 < np.log2(np.abs(areas)).std() < 0.6
    assert 0 < (areas < 0).mean() < 1
    # The axis of greys stays one: what changes along it is contrast and the luma's sign.
    grey = np.ones(3) / np.sqrt(3)
    turned = colour[:, :3, :3] @ grey
    lengths = turned @ grey
    np.testing.assert_allclose(turned, lengths[:, None] * grey, atol=1e-5)
    assert 0.2 < np.log2(np.abs(lengths)).std() < 0.8
    assert 0 < (lengths < 0).mean() < 1


def test_grey_images_have_the_mean_of_colours():
    _, colour = matrices()
    grey = images(channels=1)
    found = recoloured(grey, colour)
    expected = recoloured(jnp.repeat(grey, 3, axis=-1), colour).mean(-1, keepdims=True)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(GenaxError, match="2 channels"):
        recoloured(images(channels=2), colour)


class Scorer(nn.Module):
    """A discriminator whose scores of real images have one sign."""

    @nn.compact
    def __call__(self, image, train=False):
        return image.mean((1, 2, 3)) * self.param("scale", nn.initializers.ones, ())


class Networks(nn.Module):
    discriminator: nn.Module


AUGMENTATION = AdaptiveAugmentation(batch_size=BATCH, images=10 * BATCH, every=2)


def loss_of(nets, batch):
    def game(nets, batch):
        seen = AUGMENTATION(nets, batch)(batch["image"])
        return Loss(seen.mean((1, 2, 3)), aux={"real_score": nets.discriminator(batch["image"])})

    return adaptive_loss(nets, batch, game, AUGMENTATION)


def test_the_probability_follows_the_mean_sign():
    phase = Phase("discriminator", loss_of, ("discriminator",), optax.sgd(0.0))
    task = Task(Networks(Scorer()), [Stage([phase])])
    element = {"image": jax.ShapeDtypeStruct((SIZE, SIZE, 1), jnp.float32)}
    state = jax.jit(lambda: init_state(task, 0, element))()
    step = jax.jit(make_step(task))
    seen = []
    # All scores of the first four steps are positive, then half of them.
    for number in range(8):
        image = np.ones((BATCH, SIZE, SIZE, 1), np.float32)
        image[: BATCH // 2] = 1.0 if number < 4 else -1.0
        state, metrics = step(state, {"image": image})
        seen.append(float(metrics["discriminator/augmented"]))
        assert metrics["discriminator/real_sign"] == (1.0 if number < 4 else 0.0)
    # Each two steps move it by 2 batches of 10.
    np.testing.assert_allclose(seen, [0, 0, 0.2, 0.2, 0.4, 0.4, 0.2, 0.2], atol=1e-6)


def test_the_pipeline_changes_images_one_by_one():
    batch = {"image": images(), "index": jnp.arange(BATCH)}
    apply = jax.jit(
        lambda index: nn.apply(
            lambda nets: pipeline(nets, {**batch, "index": index}, 0.8)(images()),
            Networks(Scorer()),
        )({}, rngs={"example": jax.random.key(0)})
    )
    order = jnp.array([3, 1, 0, 2, 5, 4])
    first, other = apply(batch["index"]), apply(order)
    changed = np.abs(np.array(first - images())).max((1, 2, 3))
    assert (changed > 0.2).all()
    # The second image has the same number in both, all others another.
    same = np.isclose(first, other, atol=1e-5).all((1, 2, 3))
    np.testing.assert_array_equal(same, [False, True, False, False, False, False])
