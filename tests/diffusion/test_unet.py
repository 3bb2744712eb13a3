"""The U-Net's sizes, ADM's networks, and what they refuse.

The U-Net is compared with diffusers' UNet2DModel in tests/interop.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError
from genax.diffusion.noisy_classifier import PRESETS as CLASSIFIERS
from genax.diffusion.noisy_classifier import NoisyClassifier
from genax.diffusion.unet import PRESETS, UNet, UpsamplingUNet
from tests.parity import require


def inputs():
    """Images and times."""
    x = np.random.default_rng(0).normal(size=(3, 4, 4, 3)).astype(np.float32)
    return jnp.asarray(x), jnp.array([0, 517, 999])


def count(network, size, **conditions):
    """Number of parameters, of a network for images of three channels."""
    x, times = jnp.zeros((1, size, size, 3)), jnp.zeros(1)
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), x, times, **conditions))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))


@pytest.mark.parametrize(
    ("preset", "size", "expected"),
    [
        ("cifar10", 32, 35_746_307),
        pytest.param("image256", 256, 113_673_219, marks=pytest.mark.long),
    ],
)
def test_published_parameter_counts(preset, size, expected):
    assert count(UNet(**PRESETS[preset]), size) == expected


@pytest.mark.long
@pytest.mark.parametrize(
    ("preset", "size", "expected"),
    [
        ("adm64", 64, 295_904_454),
        ("adm128", 128, 421_529_606),
        ("adm256", 256, 553_838_086),
        ("adm512", 512, 558_997_638),
    ],
)
def test_published_parameter_counts_of_adm(preset, size, expected):
    unet = UNet(**PRESETS[preset], out_channels=6, num_classes=1000)
    assert count(unet, size, label=jnp.zeros(1, int)) == expected


@pytest.mark.long
def test_published_parameter_counts_of_adms_upsampler_and_classifier():
    unet = UNet(**PRESETS["adm64-256"], out_channels=6, num_classes=1000)
    given = {"label": jnp.zeros(1, int), "low_resolution": jnp.zeros((1, 64, 64, 3))}
    assert count(UpsamplingUNet(unet), 256, **given) == 311_795_910
    assert count(NoisyClassifier(**CLASSIFIERS["adm256"]), 256) == 54_096_360


TINY = UNet(8, (1,), 1, (4,), num_groups=4)


def random_params(unet: UNet, *args, **conditions):
    """Parameters without compiling an initialisation, none of them zero."""
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(lambda: unet.init(jax.random.key(0), *args, **conditions))
    return jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s.shape, scale=0.2), s.dtype), shapes)


@pytest.mark.long
def test_remat_changes_no_number_and_dropout_is_for_training_only():
    x, timesteps = inputs()
    params = random_params(TINY, x, timesteps)

    def gradient(unet, key):
        def loss(params):
            y = unet.apply(params, x, timesteps, train=True, rngs={"dropout": key})
            return jnp.square(y - x).mean(), y

        return jax.jit(jax.grad(loss, has_aux=True))(params)

    plain = gradient(TINY.clone(dropout=0.5), jax.random.key(1))
    remat = gradient(TINY.clone(dropout=0.5, remat="full"), jax.random.key(1))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), plain, remat)
    calm = jax.jit(TINY.clone(dropout=0.5).apply)(params, x, timesteps)
    assert not np.allclose(calm, plain[1], atol=1e-2)
    np.testing.assert_allclose(calm, jax.jit(TINY.apply)(params, x, timesteps), atol=1e-6)


def test_dtype_is_of_the_computation_only():
    x, timesteps = inputs()
    half = TINY.clone(dtype=jnp.bfloat16)
    params = jax.eval_shape(half.init, jax.random.key(0), x, timesteps)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    assert jax.eval_shape(half.apply, params, x, timesteps).dtype == jnp.float32
    convolutions = [
        equation.outvars[0].aval.dtype
        for equation in jax.make_jaxpr(half.apply)(params, x, timesteps).eqns
        if equation.primitive.name == "conv_general_dilated"
    ]
    assert set(convolutions) <= {jnp.dtype("bfloat16")}


@pytest.mark.long
def test_starts_as_good_as_zero():
    x, timesteps = inputs()
    y, params = jax.jit(TINY.init_with_output)(jax.random.key(0), x, timesteps)
    assert np.abs(y).max() < 1e-3
    kernel = params["params"]["up_0_residual_0"]["conv_0"]["kernel"]
    assert np.var(kernel) == pytest.approx(1 / (9 * (16 + 8) / 2), rel=0.1)


@pytest.mark.parametrize(
    ("unet", "shape", "label", "message"),
    [
        (UNet(32, (1, 1, 1)), (2, 10, 10, 3), None, "multiples of 4"),
        (UNet(32, (1,), num_classes=3), (2, 8, 8, 3), None, "without a label"),
        (UNet(32, (1,)), (2, 8, 8, 3), jnp.zeros(2, int), "with a label"),
        (UNet(24, (1,), num_groups=32), (2, 8, 8, 3), None, "do not divide into 32 groups"),
        (UNet(32, (1,), head_dim=5), (2, 8, 8, 3), None, "heads of 5"),
        (UNet(31, (1,)), (2, 8, 8, 3), None, "even number"),
    ],
)
def test_refusals(unet, shape, label, message):
    with pytest.raises(GenaxError, match=message):
        jax.eval_shape(
            lambda: unet.init(jax.random.key(0), jnp.zeros(shape), jnp.zeros(2, int), label=label)
        )


@pytest.mark.long
def test_the_null_label_has_a_row_of_its_own():
    unet = UNet(8, (1,), 1, (), num_groups=4, num_classes=3, null_class=True)
    assert unet.null_label == 3
    x, timesteps, label = jnp.ones((2, 4, 4, 1)), jnp.array([3, 900]), jnp.array([3, 0])
    variables = unet.init(jax.random.key(0), x, timesteps, label=label)
    assert variables["params"]["labels"]["embedding"].shape == (4, 32)
    # Nothing depends on the label while the last convolutions are 0.
    variables = jax.tree.map(lambda x: x + 0.1, variables)
    apply = jax.jit(lambda label: unet.apply(variables, x, timesteps, label=label))
    assert np.isfinite(apply(label)).all()
    assert not np.allclose(apply(label)[0], apply(jnp.array([2, 0]))[0])
    for number in (4, -1):
        assert np.isnan(apply(jnp.array([number, 0]))[0]).all()


@pytest.mark.parametrize("number", [-1, 3])
def test_a_label_without_a_row_is_refused(number):
    unet = UNet(8, (1,), 1, (), num_groups=4, num_classes=3)
    x, timesteps, label = jnp.ones((2, 4, 4, 1)), jnp.array([3, 900]), jnp.array([0, number])
    with pytest.raises(GenaxError, match=f"got label {number}: labels are 0 to 2"):
        unet.init(jax.random.key(0), x, timesteps, label=label)


@pytest.mark.parametrize("settings", [{"num_classes": 3}, {"null_class": True}])
def test_a_null_label_that_the_network_lacks_is_refused(settings):
    with pytest.raises(GenaxError, match="has no label for no condition"):
        UNet(**settings).null_label  # noqa: B018


@pytest.mark.parametrize(("two_times", "how"), [(True, "without"), (False, "with")])
def test_an_interval_is_given_if_and_only_if_it_is_embedded(two_times, how):
    unet = TINY.clone(two_times=two_times)
    x, timesteps, given = jnp.ones((2, 4, 4, 1)), jnp.zeros(2), None if two_times else jnp.zeros(2)
    with pytest.raises(GenaxError, match=f"called {how} an interval"):
        jax.eval_shape(lambda: unet.init(jax.random.key(0), x, timesteps, interval=given))


def test_the_interval_is_embedded_by_weights_of_its_own():
    unet = TINY.clone(two_times=True)
    x, first, second = jnp.ones((2, 4, 4, 1)), jnp.array([3.0, 900.0]), jnp.array([3.0, 0.0])
    params = random_params(unet, x, first, interval=second)
    assert set(params["params"]["interval_embedding"]) == {"dense_0", "dense_1"}
    apply = jax.jit(lambda first, second: unet.apply(params, x, first, interval=second))
    once, swapped, other = apply(first, second), apply(second, first), apply(first, second + 7)
    assert not np.allclose(once[1], swapped[1], atol=1e-3)
    assert not np.allclose(once, other, atol=1e-3)


@pytest.mark.long
def test_the_smaller_image_is_enlarged_as_in_pytorch_and_seen():
    [torch] = require("torch")
    small = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 4, 1)), jnp.float32)
    large = torch.nn.functional.interpolate(
        torch.tensor(np.array(small)).permute(0, 3, 1, 2), (8, 8), mode="bilinear"
    )
    x, times = jnp.ones((2, 8, 8, 1)), jnp.array([3, 900])
    both = jnp.concatenate([x, jnp.asarray(large.permute(0, 2, 3, 1).numpy())], axis=-1)
    unet = TINY.clone(out_channels=1, attention_resolutions=())
    params = random_params(unet, both, times)
    found = UpsamplingUNet(unet).apply(
        {"params": {"unet": params["params"]}}, x, times, low_resolution=small
    )
    np.testing.assert_allclose(found, unet.apply(params, both, times), atol=1e-5)
    with pytest.raises(GenaxError, match="has no out_channels"):
        UpsamplingUNet(TINY).init(jax.random.key(0), x, times, low_resolution=small)
