"""A GAN of images from settings: what it refuses, and what the settings choose."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from genax.core import GenaxError, init_state, make_step
from genax.data import ImageData
from genax.gan.game import latents
from genax.gan.losses import generator_loss, with_more_fakes
from genax.gan.settings import PENALTIES
from genax.running.run import stage_data
from genax.running.sampling import rehearse, sampling_batch, variables
from genax.settings.overrides import override
from tests.cli.command import succeed, train
from tests.experiments import ROOT, config_of, load


def built(name, variant="digits", data=None, **settings):
    module = load(f"experiments/gan/{name}.py")
    texts = {key: str(value) for key, value in settings.items()}
    return module.build(override(config_of(module, variant), texts), data)


def shapes(experiment):
    """Those of the state, which a run traces before its first step."""
    return jax.eval_shape(partial(init_state, experiment.task, 0, experiment.data.element))


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("dcgan", {"pack": 3}, r"config.batch_size=32 does not divide into packs of config.pack=3"),
        ("gan", {"num_classes": 10}, "PerceptronGenerator takes no labels; choose networks that"),
        ("dcgan", {"image_size": 30}, "images of 30x30 cannot be made by doubling"),
        ("wgan_gp", {"image_size": 30}, "images of 30x30 cannot be made"),
        ("r3gan", {"widths": "(48, 48, 48)"}, r"config.widths=\(48, 48, 48\) must be one for each"),
        ("r3gan", {"group_size": 7}, "must divide into groups of config.group_size=7"),
    ],
)
def test_settings_that_do_not_fit_are_refused(name, settings, said):
    with pytest.raises(GenaxError, match=said):
        shapes(built(name, **settings))


def test_images_of_another_range_are_refused():
    with pytest.raises(GenaxError, match=r"digits have the range \(0\.0, 1\.0\), but networks"):
        built("dcgan", data=ImageData("digits", range=(0.0, 1.0)))


def test_labels_out_of_range_are_refused():
    """The data refuses it before the first step, and a network does outside of a program."""
    experiment = built("dcgan", num_classes=4)
    with pytest.raises(GenaxError, match="digits"):
        experiment.data.fingerprint()
    generator = experiment.task.networks.generator
    with pytest.raises(GenaxError, match="got label 4: labels are 0 to 3"):
        generator.init(jax.random.key(0), jnp.zeros((1, 16)), jnp.array([4]))
    call = partial(generator.init_with_output, jax.random.key(0), jnp.ones((2, 16)))
    images, _ = jax.jit(call)(jnp.array([0, 4]))
    assert jnp.isfinite(images[0]).all()
    assert jnp.isnan(images[1]).all()


class Unlabelled:
    """Digits without their labels."""

    def __init__(self):
        self.digits = ImageData("digits")
        self.element = {"image": self.digits.element["image"]}

    def fingerprint(self):
        return self.digits.fingerprint()

    def train(self, batch_size, seed, shard):
        return self.digits.train(batch_size, seed, shard)

    def evaluate(self, batch_size, shard):
        return self.digits.evaluate(batch_size, shard)


def test_classes_need_labelled_data():
    with pytest.raises(GenaxError, match=r"examples of .* have no label"):
        built("dcgan", data=Unlabelled(), num_classes=10)


def test_every_penalty_is_chosen_by_a_word():
    for word, terms in PENALTIES.items():
        experiment = built("dcgan", penalty=word, penalty_weight=2.0)
        state = shapes(experiment)
        chosen = experiment.task.stages[0].phases[0].loss.keywords["penalties"]
        assert chosen.keys() == terms.keys()
        assert ("running" in state.collections) == (word == "le_cam")


@pytest.mark.parametrize("word", PENALTIES)
def test_every_penalty_takes_a_discriminator_with_dropout(word):
    experiment = built("gan", penalty=word)
    element = experiment.data.element
    batch = {name: jax.ShapeDtypeStruct((4, *x.shape), x.dtype) for name, x in element.items()}
    state, metrics = jax.eval_shape(make_step(experiment.task), shapes(experiment), batch)
    assert jax.tree.map(jnp.shape, state) == jax.tree.map(jnp.shape, shapes(experiment))
    assert {f"discriminator/{name}" for name in PENALTIES[word]} <= metrics.keys()


@pytest.mark.parametrize("name", ["dcgan", "big_gan", "pro_gan", "style_gan", "style_gan2"])
def test_every_tool_draws(name):
    """At the end; networks that grow refuse before."""
    experiment = built(name, tools=True)
    task, stages = experiment.task, len(experiment.task.stages)
    assert len(task.samplers) > 4
    elements = tuple(data.element for data in stage_data(experiment))
    state = jax.eval_shape(partial(init_state, task, 0, elements))
    for label, sampler in task.samplers.items():
        batch = sampling_batch(task, sampler, 2, None, step=10**9)
        assert batch["stage"] == stages - 1
        rehearse(task, sampler, variables(state, averaged=False), batch)
        if stages > 1 and label != "images":
            with pytest.raises(GenaxError, match="wholly grown, but here it is at stage 0"):
                rehearse(task, sampler, variables(state, averaged=False), {**batch, "stage": 0})


def test_an_average_moves_when_the_generator_does():
    decay = built("wgan", critic_steps=5, ema=0.9).task.ema["generator"]
    plain = built("dcgan", ema=0.9).task.ema["generator"]
    assert [float(decay(step)) for step in range(3, 10)] == pytest.approx(
        [1, float(plain(0)), 1, 1, 1, 1, float(plain(1))]
    )


def test_classes_are_drawn_in_turn_and_told_by_the_critic():
    experiment = built("wgan_gp", num_classes=10)
    [critic, generator] = experiment.task.stages[0].phases
    assert {"slope", "classes"} == critic.loss.keywords["penalties"].keys()
    assert generator.loss.keywords["penalties"].keys() == {"classes"}
    sampler = experiment.task.samplers["images"]
    np.testing.assert_array_equal(sampler.condition(12, None)["label"], np.arange(12) % 10)


def test_more_fakes_have_latents_of_their_own():
    networks = built("wgan_gp", width=4, latent_size=3).task.networks
    batch = {"image": jnp.zeros((2, 8, 8, 1)), "index": jnp.array([5, 6]), "step": jnp.int32(0)}
    rngs = {"params": jax.random.key(0), "example": jax.random.key(1)}
    seen = []

    def loss(nets, larger):
        seen.append((latents(nets, larger), larger["index"], larger["step"].shape))
        return generator_loss(nets, larger)

    more = partial(with_more_fakes, loss=loss, fakes=3)
    values = nn.init_with_output(more, networks)(rngs, batch)[0].values
    z, index, step = seen[0]
    assert values.shape == (2, 3)
    assert len(np.unique(np.asarray(z), axis=0)) == 6
    np.testing.assert_array_equal(index, [15, 16, 17, 18, 19, 20])
    assert step == ()


@pytest.mark.long
def test_the_documented_gan_trains_as_a_file_of_ones_own(tmp_path):
    text = (ROOT / "docs/gan.md").read_text().partition("```python\n")[2].partition("```")[0]
    path = tmp_path / "hinge.py"
    path.write_text(text)
    short = {"steps": 2, "batch_size": 4, "width": 4, "coverage_samples": 0, "num_samples": 4}
    succeed(*train(f"{path}:digits", tmp_path / "run", **short, pixel_weight=0.5))
    assert "generator/dark" in (tmp_path / "run/metrics.jsonl").read_text()
