"""CycleGAN: a step of all four networks against PyTorch, and data that two domains cannot have."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image

import genax
from genax.core import GenaxError, Phase, Stage, Task, init_state, make_step, tree
from genax.core.data import Shard
from genax.data import ImageData, Joined
from genax.front.files import import_file
from genax.gan.cycle_gan import (
    CycleNetworks,
    check_domains,
    cycle_discriminator_loss,
    cycle_generator_loss,
)
from genax.gan.image_pool import POOL
from genax.gan.patch_discriminator import PatchDiscriminator
from genax.gan.penalties import r1
from genax.gan.resnet_generator import ResNetGenerator
from tests.experiments import ROOT, config_of, load
from tests.parity import require

SIZE, BATCH, POOL_SIZE = 12, 2, 6
SHAPE = jax.ShapeDtypeStruct((SIZE, SIZE, 3), jnp.float32)
ELEMENT = {"a_image": SHAPE, "b_image": SHAPE}
# Of Adam's first steps: biases before an instance norm have gradients of rounding errors.
RATE, EPSILON = 2e-4, 1e-3


def cycle_task(pool_size=POOL_SIZE, **discriminators) -> Task:
    def judge():
        return PatchDiscriminator(4, 1, "instance")

    networks = CycleNetworks(ResNetGenerator(3, 4, 1), ResNetGenerator(3, 4, 1), judge(), judge())
    adam = optax.adam(RATE, b1=0.5, eps=EPSILON)

    def judged(nets, batch):
        return cycle_discriminator_loss(nets, batch, pool_size=pool_size, **discriminators)

    phases = [
        Phase("generators", cycle_generator_loss, ("to_a", "to_b"), adam),
        Phase("discriminators", judged, ("discriminator_a", "discriminator_b"), adam),
    ]
    return Task(networks, [Stage(phases, together=True)], summed=(POOL,))


def batch_at(step: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(step)
    return {name: rng.uniform(-1, 1, (BATCH, *SHAPE.shape)).astype(np.float32) for name in ELEMENT}


def torch_networks():
    from tests.gan import torch_translation as theirs

    judges, generators = ("discriminator_a", "discriminator_b"), ("to_a", "to_b")
    networks = {
        name: theirs.randomised(theirs.patches(3, 4, 1, "instance"), seed)
        for seed, name in enumerate(judges)
    } | {
        name: theirs.randomised(theirs.resnet(3, 3, 4, 1), seed)
        for seed, name in enumerate(generators, 2)
    }
    layers = dict.fromkeys(judges, theirs.patch_names(1, "instance"))
    layers |= dict.fromkeys(generators, theirs.resnet_names(1))

    def params():
        return {
            f"{name}/{path}": leaf
            for name, network in networks.items()
            for path, leaf in theirs.leaves(network, layers[name]).items()
        }

    return networks, params


def torch_step(torch, networks, optimizers, batch):
    """`optimize_parameters` of the official code, with empty pools."""
    to_a, to_b, judge_a, judge_b = (
        networks[name] for name in ("to_a", "to_b", "discriminator_a", "discriminator_b")
    )
    a, b = (torch.tensor(batch[name].transpose(0, 3, 1, 2).copy()) for name in sorted(batch))

    def squares(scores, target):
        return (scores - target).square().mean()

    fake_b, fake_a = to_b(a), to_a(b)
    loss = squares(judge_b(fake_b), 1) + squares(judge_a(fake_a), 1)
    loss = loss + 10 * (to_a(fake_b) - a).abs().mean() + 10 * (to_b(fake_a) - b).abs().mean()
    loss = loss + 5 * (to_b(b) - b).abs().mean() + 5 * (to_a(a) - a).abs().mean()
    optimizers["generators"].zero_grad()
    loss.backward()
    optimizers["generators"].step()
    optimizers["discriminators"].zero_grad()
    for judge, real, fakes in ((judge_b, b, fake_b), (judge_a, a, fake_a)):
        (0.5 * (squares(judge(real), 1) + squares(judge(fakes.detach()), 0))).backward()
    optimizers["discriminators"].step()
    norms = {
        phase: torch.stack([p.grad.norm() for p in optimizer.param_groups[0]["params"]]).norm()
        for phase, optimizer in optimizers.items()
    }
    return loss.item(), norms


@pytest.mark.long
def test_steps_are_those_of_pytorch():
    [torch] = require("torch")
    networks, params = torch_networks()
    optimizers = {
        phase: torch.optim.Adam(
            [p for name in names for p in networks[name].parameters()], RATE, (0.5, 0.999), EPSILON
        )
        for phase, names in {
            "generators": ("to_a", "to_b"),
            "discriminators": ("discriminator_a", "discriminator_b"),
        }.items()
    }
    task = cycle_task()
    state = init_state(task, 0, ELEMENT).replace(params=tree.nest(params()))
    step = jax.jit(make_step(task))
    for number in range(2):
        batch = batch_at(number)
        state, metrics = step(state, batch)
        loss, norms = torch_step(torch, networks, optimizers, batch)
        np.testing.assert_allclose(metrics["generators/loss"], loss, rtol=1e-5)
        for phase, norm in norms.items():
            np.testing.assert_allclose(metrics[f"{phase}/grad_norm"], norm.item(), rtol=1e-4)
        found = tree.flatten(state.params)
        for path, leaf in params().items():
            np.testing.assert_allclose(found[path], leaf, rtol=1e-5, atol=1e-5, err_msg=path)
    assert state.collections[POOL]["fakes_a_count"] == 2 * BATCH
    assert (state.collections[POOL]["fakes_a"][: 2 * BATCH] != 0).all()


@pytest.mark.long
def test_a_penalty_joins_the_discriminators_by_domain():
    task = cycle_task(penalties={"slope": lambda *round_: r1(*round_, weight=2.0)})
    state = init_state(task, 0, ELEMENT)
    _, metrics = jax.jit(make_step(task))(state, batch_at(0))
    assert metrics["discriminators/slope_a"] > 0
    assert metrics["discriminators/slope_b"] > 0


def test_domains_of_unequal_lengths_are_joined_and_others_are_refused():
    a = ImageData("digit_pairs", image="strokes", limit=30)
    b = ImageData("digit_pairs", image="colour", limit=7)
    unequal = Joined(a=a, b=b)
    assert check_domains(unequal, 5.0) == {"a": 3, "b": 3}
    batches = unequal.train(10, 0, Shard())
    ids = np.concatenate([next(batches)["id"] for _ in range(3)])
    assert [len(set(column)) for column in ids.T] == [30, 7]
    with pytest.raises(GenaxError, match="lacks 'a_image'"):
        check_domains(a)
    with pytest.raises(GenaxError, match=r"shape \(8, 8, 3\), those of domain b \(16, 16, 3\)"):
        check_domains(Joined(a=a, b=ImageData("digit_pairs", size=16)))
    grey = Joined(a=a, b=ImageData("digits"))
    assert check_domains(grey) == {"a": 3, "b": 1}
    with pytest.raises(GenaxError, match="3 and of 1 channels have no identity"):
        check_domains(grey, 5.0)


def test_two_folders_are_domains(tmp_path, monkeypatch):
    """The example of docs/gan.md, with six pictures of each season."""
    monkeypatch.chdir(tmp_path)
    for season, shade in (("summer", 0), ("winter", 200)):
        (tmp_path / season).mkdir()
        for number in range(6):
            picture = Image.new("RGB", (20, 16), (shade + number, 0, 0))
            picture.save(tmp_path / season / f"{number}.png")
    text = (ROOT / "docs/gan.md").read_text().partition("make domains:\n\n```python\n")[2]
    monkeypatch.setattr(genax, "load", lambda path: load(path))
    Path("seasons.py").write_text(text.partition("```")[0])
    module = import_file(tmp_path / "seasons.py")
    experiment = module.build(config_of(module, "digits"))
    assert not experiment.task.evaluators
    for name, sampler in experiment.task.samplers.items():
        found = sampler.condition(2, tmp_path)
        assert {array.shape[1:] for array in found.values()} == {(8, 8, 3), ()}, name
    batch = next(experiment.data.train(4, 0, Shard()))
    assert (batch["b_image"] > 0.5).any(axis=(1, 2, 3)).all()
    assert (batch["a_image"] < 0).all()


def test_a_pool_below_the_batch_is_refused_before_anything_is_built():
    module = load("experiments/gan/cycle_gan.py")
    config = config_of(module, "digits")
    config.pool_size = 5
    with pytest.raises(GenaxError, match="a pool of 5 images holds less than a batch of 8"):
        module.build(config)


@pytest.mark.parametrize(("blocks", "count"), [(9, 11_378_179), (6, 7_837_699)])
def test_published_parameter_counts(blocks, count):
    image = jax.ShapeDtypeStruct((1, 256, 256, 3), jnp.float32)
    for network, wanted in (
        (ResNetGenerator(num_blocks=blocks), count),
        (PatchDiscriminator(norm="instance"), 2_764_737),
    ):
        shapes = jax.eval_shape(network.init, jax.random.key(0), image)["params"]
        assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == wanted


def test_sides_that_no_generator_keeps_are_refused():
    for size in (30, 4):
        with pytest.raises(GenaxError, match=f"images of {size}x{size} cannot be halved twice"):
            ResNetGenerator().init(jax.random.key(0), jnp.zeros((1, size, size, 3)))
