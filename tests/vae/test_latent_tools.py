"""Samplers of a latent space: what their rows are, at every number of dimensions."""

from __future__ import annotations

from functools import partial
from statistics import NormalDist

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core.data import Shard
from genax.data import ImageData
from genax.evaluation.charts import COLOURS, point_chart
from genax.nn.conditions import on_label
from genax.vae.active_units import posterior_means
from genax.vae.autoencoders import MLPSize
from genax.vae.latent_tools import draw_map, latent_grid, latent_tools
from genax.vae.objectives import elbo_loss

DIGITS = ImageData("digits", "test", range=(0, 1))
RNGS = {"params": jax.random.key(0), "example": jax.random.key(1)}


class Latents:
    """An untrained autoencoder of digits, and its samplers."""

    def __init__(self, size):
        self.networks = MLPSize((8, 8, 1), (8,), size, nn.tanh).networks()
        batch = next(iter(DIGITS.evaluate(4, Shard())))
        batch = {"image": jnp.asarray(batch["image"]), "index": jnp.arange(4)}
        self.variables = jax.jit(nn.init(elbo_loss, self.networks))(RNGS, batch)
        self.tools = latent_tools(DIGITS, size)

    def call(self, function, batch):
        numbers = {name: jnp.asarray(value) for name, value in batch.items()}
        return np.array(jax.jit(nn.apply(function, self.networks))(self.variables, numbers))

    def decoded(self, z):
        return 2 * self.call(lambda nets, batch: nets.decoder(batch["z"]).mean, {"z": z}) - 1

    def drawn(self, name, num):
        tool = self.tools[name]
        batch = {"index": np.arange(num), **tool.condition(num, None)}
        return batch, self.call(tool.function, batch), partial(tool.render, workdir=None)


@pytest.fixture(scope="module")
def of_size():
    kept = {}
    return lambda size: kept.setdefault(size, Latents(size))


def test_a_way_begins_and_ends_with_images_and_is_straight(of_size):
    latents = of_size(5)
    batch, found, render = latents.drawn("interpolation", 3)
    assert found.shape == (3, 11, 8, 8, 1)
    np.testing.assert_allclose(found[:, 0], 2 * batch["image"] - 1, atol=1e-6)
    np.testing.assert_allclose(found[:, -1], 2 * np.roll(batch["image"], -1, 0) - 1, atol=1e-6)
    means = latents.call(posterior_means, batch)
    for place, share in ((1, 0.0), (5, 0.5), (9, 1.0)):
        z = (1 - share) * means + share * np.roll(means, -1, 0)
        np.testing.assert_allclose(found[:, place], latents.decoded(z), atol=1e-5)
    assert render(found, batch).size == (11 * 66 + 2, 3 * 66 + 2)


def test_a_way_between_classes_changes_the_class_in_the_middle():
    """Each end is encoded and decoded by its own label."""
    networks = MLPSize((8, 8, 1), (8,), 3, nn.tanh, num_classes=10).networks()
    tool = latent_tools(DIGITS, 3, on_label, labelled=True)["interpolation"]
    batch = {name: jnp.asarray(x) for name, x in tool.condition(3, None).items()}
    assert set(batch) >= {"image", "label", "other", "other_label"}
    assert len(set(batch["label"].tolist())) == 3

    def expected(nets, batch):
        start = nets.encoder(batch["image"], label=batch["label"]).mean
        end = nets.encoder(batch["other"], label=batch["other_label"]).mean
        middle = nets.decoder(((start + end) / 2)[:, None], label=batch["label"]).mean
        return [2 * nets.decoder(end[:, None], label=batch["other_label"]).mean - 1, 2 * middle - 1]

    start = {**batch, "index": jnp.arange(3)}
    weights = jax.jit(nn.init(partial(elbo_loss, condition=on_label), networks))(RNGS, start)
    found = jax.jit(nn.apply(tool.function, networks))(weights, batch)
    last, middle = jax.jit(nn.apply(expected, networks))(weights, batch)
    np.testing.assert_allclose(found[:, 9], last[:, 0], atol=1e-5)
    np.testing.assert_allclose(found[:, 5], middle[:, 0], atol=1e-5)


@pytest.mark.parametrize("size", [1, 5])
def test_a_traversal_changes_one_dimension(of_size, size):
    latents = of_size(size)
    batch, found, render = latents.drawn("traversal", 2)
    assert found.shape == (2, size, 9, 8, 8, 1)

    def posterior(nets, batch):
        return nets.encoder(batch["image"]).kl_to_standard()

    order = np.argsort(-latents.call(posterior, batch), axis=-1, kind="stable")
    means = latents.call(posterior_means, batch)
    for row in range(size):
        for column, value in ((0, -3.0), (4, 0.0), (8, 3.0)):
            z = means.copy()
            z[np.arange(2), order[:, row]] = value
            np.testing.assert_allclose(found[:, row, column], latents.decoded(z), atol=1e-5)
    assert render(found, batch).size == (9 * 66 + 2, 2 * size * 66 + 2)


def test_only_some_dimensions_of_many_are_shown(of_size):
    _, found, _ = of_size(12).drawn("traversal", 1)
    assert found.shape == (1, 8, 9, 8, 8, 1)


@pytest.mark.parametrize("size", [1, 2, 12])
def test_a_map_has_a_colour_for_each_class(of_size, size):
    batch, found, render = of_size(size).drawn("latent_map", 60)
    assert found.shape == (60, size)
    assert set(batch["label"].tolist()) == set(range(10))
    colours = {colour for _, colour in render(found, batch).getcolors(1_000)}
    assert len(colours) >= len(COLOURS) + 2
    found[3] = np.nan
    draw_map(found, {})


def test_a_map_of_many_dimensions_shows_the_two_of_most_variance(monkeypatch):
    latents = np.random.default_rng(0).normal(size=(200, 4)) * (0.1, 5.0, 0.2, 20.0)
    label = np.zeros(200, np.int32)
    seen = {}

    def chart(points, *others, **named):
        seen["points"] = points
        return point_chart(points, *others, **named)

    monkeypatch.setattr("genax.vae.latent_tools.point_chart", chart)
    draw_map(latents, {"label": label})
    for place, dimension in ((0, 3), (1, 1)):
        found = np.corrcoef(seen["points"][:, place], latents[:, dimension])[0, 1]
        assert abs(found) > 0.99


def test_a_manifold_is_even_in_the_prior(of_size):
    grid = latent_grid(11, None, 2)["latent"]
    assert grid.shape == (9, 2)
    shares = [[NormalDist().cdf(float(value)) for value in row] for row in grid]
    expected = [[x / 6, y / 6] for x in (1, 3, 5) for y in (1, 3, 5)]
    np.testing.assert_allclose(shares, expected, atol=1e-6)
    assert latent_grid(7, None, 1)["latent"].shape == (7, 1)
    for size in (1, 2):
        batch, found, render = of_size(size).drawn("manifold", 9)
        np.testing.assert_allclose(found, of_size(size).decoded(batch["latent"]), atol=1e-5)
        render(found, batch)
    assert "manifold" not in of_size(5).tools
