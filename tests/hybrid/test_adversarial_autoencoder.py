"""Losses of the KL autoencoder against the public code's, in PyTorch, on the same weights."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import tree
from genax.core.nets import per_example
from genax.gan.patch_discriminator import PatchDiscriminator
from genax.hybrid.adaptive_weight import adaptive_weight, kernel_gradients, linearised
from genax.hybrid.adversarial_autoencoder import (
    LogVariance,
    Networks,
    adversarial_loss,
    autoencoder_rows,
    discriminator_loss,
    reconstruction_loss,
)
from genax.nn.convolution import Conv
from genax.vae.distributions import Gaussian
from tests.parity import difference, require

SIDE, BATCH, CHANNELS, LATENT, WIDTH = 8, 3, 2, 3, 4
KL_WEIGHT, FELT, ADVERSARY = 0.3, 0.7, 0.5


class Autoencoder(nn.Module):
    """Two convolutions each way."""

    def setup(self):
        self.down = Conv(2 * LATENT, strides=(2, 2), padding=((1, 1), (1, 1)))
        self.up = Conv(4 * WIDTH)
        self.last = Conv(CHANNELS)

    def encode(self, image, train=False):
        return Gaussian(*jnp.split(self.down(image), 2, axis=-1))

    def decode(self, z, train=False, with_features=False):
        # Channels become 2x2 pixels.
        h = jnp.tanh(self.up(z)).reshape(*z.shape[:3], 2, 2, WIDTH)
        h = h.transpose(0, 1, 3, 2, 4, 5).reshape(len(z), SIDE, SIDE, WIDTH)
        image = self.last(h)
        return (image, h) if with_features else image


class Distance(nn.Module):
    """Squares of the difference of the features of a convolution."""

    @nn.compact
    def __call__(self, x, y, train=False):
        conv = Conv(3, name="conv")
        return jnp.square(jnp.tanh(conv(x)) - jnp.tanh(conv(y))).mean((1, 2, 3))


NETWORKS = Networks(
    Autoencoder(), Distance(), PatchDiscriminator(WIDTH, num_layers=1), LogVariance()
)
RNGS = {"example": jax.random.key(3)}
BATCH_OF = {
    "image": jnp.asarray(
        np.random.default_rng(0).uniform(-1, 1, (BATCH, SIDE, SIDE, CHANNELS)), jnp.float32
    ),
    "index": jnp.arange(BATCH),
}


def embedded(nets, batch):
    rows = autoencoder_rows(nets, batch, perceptual_weight=FELT)
    loss = adversarial_loss(nets, batch, rows, KL_WEIGHT, ADVERSARY)
    return {"values": loss.values.mean(), **loss.aux}


def alone(nets, batch):
    return reconstruction_loss(nets, batch, KL_WEIGHT, FELT).values.mean()


def judged(nets, batch):
    return discriminator_loss(nets, batch).values.mean(0).mean()


def call(function, params, collections=None):
    apply = nn.apply(lambda nets: function(nets, BATCH_OF), NETWORKS, mutable=["batch_stats"])
    return apply({"params": params, **STATS}, rngs=RNGS)[0]


def initial():
    def everything(nets):
        return embedded(nets, BATCH_OF), judged(nets, BATCH_OF)

    variables = jax.jit(nn.init(everything, NETWORKS))({"params": jax.random.key(0), **RNGS})
    rng = np.random.default_rng(1)
    shapes = tree.flatten(variables["params"])
    params = {
        path: jnp.asarray(0.3 * rng.normal(size=leaf.shape), jnp.float32)
        for path, leaf in shapes.items()
    }
    return tree.unflatten(params, variables["params"]), {"batch_stats": variables["batch_stats"]}


PARAMS, STATS = initial()


@pytest.fixture(scope="module")
def ours():
    """Values and gradients of the three losses, by one program."""

    @jax.jit
    def measured(params):
        found = {"rows": call(embedded, params)}
        for name, function in (("adversary", embedded), ("alone", alone), ("judge", judged)):

            def total(params, function=function):
                value = call(function, params)
                return value["values"] if isinstance(value, dict) else value

            found[name] = jax.value_and_grad(total)(params)
        noise = call(
            lambda nets, batch: per_example(
                jax.random.normal, nets, batch, (SIDE // 2, SIDE // 2, LATENT)
            ),
            params,
        )
        return found, noise

    return measured(PARAMS)


class Reference:
    """The public code's `AutoencoderKL` and `LPIPSWithDiscriminator`, on functional layers."""

    def __init__(self, noise):
        [self.torch] = require("torch")
        self.F = self.torch.nn.functional
        self.leaves = {}
        for path, leaf in tree.flatten(PARAMS).items():
            array = np.asarray(leaf)
            array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array
            self.leaves[path] = self.torch.tensor(array.copy(), requires_grad=True)
        self.noise = self.images(noise)
        self.real = self.images(BATCH_OF["image"])

    def images(self, array):
        return self.torch.tensor(np.asarray(array).transpose(0, 3, 1, 2))

    def conv(self, x, name, **how):
        bias = self.leaves.get(f"{name}/bias")
        return self.F.conv2d(x, self.leaves[f"{name}/kernel"], bias, **how)

    def reconstructions(self):
        moments = self.conv(self.real, "autoencoder/down", stride=2, padding=1)
        mean, logvar = self.torch.chunk(moments, 2, dim=1)
        z = mean + self.torch.exp(0.5 * logvar) * self.noise
        h = self.torch.tanh(self.conv(z, "autoencoder/up", padding=1))
        b, _, height, width = h.shape
        h = h.reshape(b, 2, 2, WIDTH, height, width).permute(0, 3, 4, 1, 5, 2)
        h = h.reshape(b, WIDTH, 2 * height, 2 * width)
        kl = 0.5 * self.torch.sum(mean**2 + self.torch.exp(logvar) - 1 - logvar, dim=[1, 2, 3])
        return self.conv(h, "autoencoder/last", padding=1), kl

    def discriminator(self, x):
        F, name = self.F, "discriminator"
        x = F.leaky_relu(self.conv(x, f"{name}/conv_0", stride=2, padding=1), 0.2)
        x = self.conv(x, f"{name}/conv_1", padding=1)
        scale, bias = (self.leaves[f"{name}/norm_1/{part}"] for part in ("scale", "bias"))
        x = F.leaky_relu(F.batch_norm(x, None, None, scale, bias, True, eps=1e-5), 0.2)
        return self.conv(x, f"{name}/score", padding=1)

    def nll(self, images):
        rec = self.torch.abs(self.real - images)
        features = [
            self.torch.tanh(self.conv(x, "perceptual/conv", padding=1)) for x in (self.real, images)
        ]
        p_loss = ((features[0] - features[1]) ** 2).mean((1, 2, 3), keepdim=True)
        logvar = self.leaves["log_variance/value"]
        rec = rec + FELT * p_loss
        return self.torch.sum(rec / self.torch.exp(logvar) + logvar) / BATCH

    def generator(self, adversary):
        images, kl = self.reconstructions()
        nll = self.nll(images)
        loss = nll + KL_WEIGHT * self.torch.sum(kl) / BATCH
        if not adversary:
            return loss, None
        g_loss = -self.torch.mean(self.discriminator(images))
        last = self.leaves["autoencoder/last/kernel"]
        grads = [self.torch.autograd.grad(one, last, retain_graph=True)[0] for one in (nll, g_loss)]
        weight = self.torch.norm(grads[0]) / (self.torch.norm(grads[1]) + 1e-4)
        weight = self.torch.clamp(weight, 0.0, 1e4).detach()
        return loss + ADVERSARY * weight * g_loss, weight

    def judge(self):
        images = self.reconstructions()[0].detach()
        real, fake = self.discriminator(self.real), self.discriminator(images)
        relu = self.F.relu
        return 0.5 * (self.torch.mean(relu(1.0 - real)) + self.torch.mean(relu(1.0 + fake)))

    def gradients(self, loss, *tops):
        """Return those of the parameters of some networks, by path and in Linen's order."""
        for leaf in self.leaves.values():
            leaf.grad = None
        loss.backward()
        found = {}
        for path, leaf in self.leaves.items():
            if path.split("/")[0] in tops:
                grad = leaf.grad.numpy()
                found[path] = grad.transpose(2, 3, 1, 0) if grad.ndim == 4 else grad
        return found


def check(found, expected):
    gradient = tree.flatten(found[1])
    assert difference(found[0], expected[0]) < 1e-5
    largest = max(np.abs(leaf).max() for leaf in expected[1].values())
    for path, leaf in expected[1].items():
        assert difference(gradient[path], leaf, floor=1e-2 * largest) < 1e-4, path


def test_the_autoencoder_against_its_opponent(ours):
    found, noise = ours
    reference = Reference(noise)
    loss, weight = reference.generator(adversary=True)
    expected = reference.gradients(loss, "autoencoder", "log_variance")
    check(found["adversary"], (loss, expected))
    assert difference(found["rows"]["weight"], weight) < 1e-5
    assert weight > 1.5  # neither of the ends of its range, nor 1


def test_the_autoencoder_alone(ours):
    found, noise = ours
    reference = Reference(noise)
    loss, _ = reference.generator(adversary=False)
    check(found["alone"], (loss, reference.gradients(loss, "autoencoder", "log_variance")))


def test_the_opponent(ours):
    found, noise = ours
    reference = Reference(noise)
    loss = reference.judge()
    check(found["judge"], (loss, reference.gradients(loss, "discriminator")))
    others = tree.flatten(found["judge"][1]["autoencoder"])
    assert not any(np.asarray(leaf).any() for leaf in others.values())


def test_a_linearised_loss_has_the_value_and_the_slope_of_the_loss():
    x = jnp.asarray(np.random.default_rng(2).normal(size=(3, 4, 4, 2)), jnp.float32)

    def measure(x):
        # Of the whole batch, as with BatchNorm.
        return jnp.square(x - x.mean(0)).sum((1, 2, 3)) ** 1.5

    def total(x):
        values, slope = linearised(measure, x)
        return (jnp.arange(3.0) * 0 + values).sum(), slope

    (value, slope), gradient = jax.value_and_grad(total, has_aux=True)(x)
    expected = jax.grad(lambda x: measure(x).sum())(x)
    assert value == measure(x).sum()
    np.testing.assert_allclose(gradient, expected, rtol=1e-6)
    np.testing.assert_allclose(slope, expected, rtol=1e-6)


def test_rows_of_gradients_are_those_of_each_example():
    rng = np.random.default_rng(3)
    features, slopes, kernel = (
        jnp.asarray(rng.normal(size=shape), jnp.float32)
        for shape in ((3, 5, 6, 4), (3, 5, 6, 2), (3, 3, 4, 2))
    )

    def of_one(features, slopes):
        conv = lambda kernel: jax.lax.conv_general_dilated(  # noqa: E731
            features[None], kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return jax.vjp(conv, kernel)[1](slopes[None])[0]

    expected = jnp.stack(list(map(of_one, features, slopes)))
    np.testing.assert_allclose(kernel_gradients(features, slopes), expected, rtol=1e-4, atol=1e-5)


def test_the_weight_is_that_of_means_and_has_an_end():
    one = jnp.stack([jnp.ones((3, 3, 1, 1)), -jnp.ones((3, 3, 1, 1))])
    assert adaptive_weight(one + 2.0, one) == pytest.approx(6 / 1e-4 if 6 / 1e-4 < 1e4 else 1e4)
    assert float(adaptive_weight(one + 2.0, one + 1.0)) == pytest.approx(6 / (3 + 1e-4))
    assert adaptive_weight(jnp.zeros_like(one), one) == 0
