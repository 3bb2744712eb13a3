"""A prior over codes: its bound, and the way from a run of the autoencoder to images."""

import itertools
import shutil
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import genax
from genax.cli.main import main
from genax.core import GenaxError
from genax.core.data import Shard
from genax.front.experiments import configure, load
from genax.hybrid.code_prior import Networks, code_elbo, code_loss, draw_codes
from genax.nn.conditions import on_label
from genax.transformer.grid_decoder import GridDecoder
from genax.vae.vq_vae import VQVAE

CODES, GRID, CLASSES = 3, (1, 2), 2
PRIOR = "experiments/vae/vq_prior.py"


@pytest.fixture(scope="module")
def nets():
    decoder = GridDecoder(CODES + CLASSES, 3, 16, num_layers=1, num_heads=2, num_values=CODES)
    return Networks(
        decoder, VQVAE(1, 4, 1, 4, num_codes=CODES, code_size=3, likelihood="bernoulli")
    )


def test_the_bound_is_one_term_of_the_likelihood(nets):
    """p(z) of all codes add up to 1, and log p(x) by all of them is above the bound."""
    image = jnp.asarray(np.random.default_rng(0).integers(0, 2, (1, 4, 8, 1)), jnp.float32)
    every = jnp.int32(list(itertools.product(range(CODES), repeat=2))).reshape(-1, *GRID)
    labels = jnp.ones(len(every), jnp.int32)
    codes = {"latent": every, "label": labels, "index": jnp.arange(len(every))}
    images = {"image": image, "label": labels[:1], "index": jnp.arange(1)}

    def parts(nets):
        prior = -code_loss(nets, codes, on_label, train=False).values.sum(-1)
        given = nets.autoencoder.decode(every).log_prob(image).sum((1, 2, 3))
        bound = code_elbo(nets, images, on_label)
        return prior, given, nets.autoencoder.encode(image), bound

    @jax.jit
    def found():
        params = nn.init(parts, nets)(jax.random.key(0))
        params = {**params, "params": jax.tree.map(lambda x: 5 * x, params["params"])}
        return nn.apply(parts, nets)(params)

    prior, given, index, bound = found()
    assert np.exp(prior).sum() == pytest.approx(1, rel=1e-5)
    [place] = np.flatnonzero((every == index).all((1, 2)))
    assert bound.values[0] == pytest.approx(float(prior[place] + given[place]), rel=1e-5)
    assert bound.aux["codes"][0] == pytest.approx(-float(prior[place]), rel=1e-4)
    whole = float(jax.nn.logsumexp(prior + given))
    assert bound.values[0] < whole


def test_codes_are_drawn_by_class(nets):
    batch = {"index": jnp.arange(8), "label": jnp.int32([0, 1] * 4)}
    draw = partial(draw_codes, grid=GRID, condition=on_label)

    @jax.jit
    def call():
        codes = {**batch, "latent": jnp.zeros((8, *GRID), jnp.int32)}
        params = nn.init(code_loss, nets)(jax.random.key(0), codes)
        rngs = {"example": jax.random.key(0)}
        return nn.apply(draw, nets)(jax.tree.map(lambda x: 20 * x, params), batch, rngs=rngs)

    drawn = call()
    assert drawn.shape == (8, *GRID)
    assert 0 <= drawn.min() <= drawn.max() < CODES


def test_a_prior_needs_a_run():
    loaded = load(f"{PRIOR}:digits")
    data = loaded.build(configure(loaded, {})).data
    assert data.element["latent"].shape == (2, 2)
    with pytest.raises(GenaxError, match=r"no run is named; set config.pretrained"):
        data.fingerprint()


RUN = ["--config.log_every=10", "--config.num_samples=4", "--config.sample_every=0"]
CODEBOOK = ["--config.width=8", "--config.block_width=8", "--config.num_codes=32"]
SMALL = ["--config.hidden_size=16", "--config.num_layers=1", "--config.steps=20"]


@pytest.mark.long
def test_from_an_autoencoder_to_images(tmp_path, monkeypatch):
    """Sizes are the run's; codes are made once; samples need the autoencoder's run no more."""
    monkeypatch.setenv("GENAX_DATA", str(tmp_path / "data"))
    codes, prior = tmp_path / "codes", tmp_path / "prior"
    train = ["train", "experiments/vae/vq_vae.py:digits", "--workdir", str(codes), *RUN]
    assert main([*train, *CODEBOOK, "--config.steps=120"]) == 0
    train = ["train", f"{PRIOR}:digits-conditional", "--workdir", str(prior), *RUN, *SMALL]
    assert main([*train, f"--config.pretrained={codes}"]) == 0
    assert len([path for path in (tmp_path / "data/latents").iterdir() if path.is_dir()]) == 1
    first, second = genax.open(codes), genax.open(prior)
    assert second.config.num_codes == 32
    batch = next(second.run.datas[0].train(8, 0, Shard()))
    assert batch["latent"].dtype == np.int32
    assert batch["latent"].max() < 32
    scores = [run.metrics() for run in (first, second)]
    losses = [
        found[f"{name}/loss"]
        for found, name in zip(scores, ("autoencoder", "decoder"), strict=True)
    ]
    assert losses[0][-1] < losses[0][0] - 15
    assert losses[1][-1] < losses[1][0]
    # Without revival one to three codes are used.
    assert scores[0]["eval/codes/used_codes"][-1] > 6
    assert 3 < scores[0]["eval/codes/perplexity"][-1] < 32
    of_images = [found["eval/elbo/reconstruction"][-1] for found in scores]
    assert of_images[0] == pytest.approx(of_images[1], rel=1e-5)
    assert scores[0]["eval/elbo/codes"][-1] == pytest.approx(4 * np.log(32), rel=1e-5)
    shutil.rmtree(codes)
    drawn = genax.open(prior).sample(4)
    assert drawn.arrays.shape == (4, 8, 8, 1)
    assert np.abs(drawn.arrays).max() <= 1
    assert drawn.save(tmp_path / "drawn.png").stat().length
