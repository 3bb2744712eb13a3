"""The VAE against PyTorch: outputs, loss, gradients and one optimizer step, on the same noise."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genax.core.nets import per_example
from genax.vae.autoencoders import BernoulliDecoder, GaussianDecoder, MLPSize
from genax.vae.objectives import elbo_loss, importance_weighted_bound
from tests.parity import require, stepped

[torch] = require("torch")
F = torch.nn.functional

SHAPE, BATCH, HIDDEN, LATENT, SAMPLES = (6, 5, 1), 7, 16, 4, 3
PIXELS = 30
BERNOULLI = MLPSize(SHAPE, (HIDDEN,), LATENT, nn.tanh, BernoulliDecoder)
GAUSSIAN = MLPSize(SHAPE, (HIDDEN,), LATENT, nn.relu, GaussianDecoder)


class Reference(torch.nn.Module):
    """Kingma & Welling 2014, appendix C, written with torch.nn.Linear."""

    def __init__(self, size):
        super().__init__()
        self.gaussian = size.decoder is GaussianDecoder
        self.activation = torch.tanh if size.activation is nn.tanh else torch.relu
        self.hidden = torch.nn.Linear(PIXELS, HIDDEN)
        self.mean = torch.nn.Linear(HIDDEN, LATENT)
        self.log_variance = torch.nn.Linear(HIDDEN, LATENT)
        self.decode = torch.nn.Linear(LATENT, HIDDEN)
        names = ("mean", "log_variance") if self.gaussian else ("logits",)
        self.heads = torch.nn.ModuleDict({name: torch.nn.Linear(HIDDEN, PIXELS) for name in names})

    def log_prob(self, x, z):
        h = self.activation(self.decode(z))
        if self.gaussian:
            scale = torch.exp(0.5 * self.heads["log_variance"](h))
            return torch.distributions.Normal(torch.sigmoid(self.heads["mean"](h)), scale).log_prob(
                x
            )
        logits = self.heads["logits"](h)
        return -F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none")

    def posterior(self, x):
        h = self.activation(self.hidden(x))
        return torch.distributions.Normal(self.mean(h), torch.exp(0.5 * self.log_variance(h)))

    def negative_elbo(self, x, noise, beta):
        q = self.posterior(x)
        z = q.loc[:, None] + q.scale[:, None] * noise
        prior = torch.distributions.Normal(torch.zeros(LATENT), torch.ones(LATENT))
        kl = torch.distributions.kl_divergence(q, prior).sum(-1)
        return -self.log_prob(x[:, None], z).sum(-1).mean(1) + beta * kl

    def importance_weighted_bound(self, x, noise):
        q = self.posterior(x)
        q = torch.distributions.Normal(q.loc[:, None], q.scale[:, None])
        z = q.loc + q.scale * noise
        prior = torch.distributions.Normal(torch.zeros(LATENT), torch.ones(LATENT))
        weights = self.log_prob(x[:, None], z).sum(-1)
        weights = weights + prior.log_prob(z).sum(-1) - q.log_prob(z).sum(-1)
        return torch.logsumexp(weights, 1) - np.log(noise.shape[1])


def tree(reference, value=lambda parameter: parameter):
    """A reference's parameters (or their gradients) in Linen's order."""

    def dense(layer):
        weight, bias = value(layer.weight), value(layer.bias)
        return {"kernel": weight.detach().numpy().T, "bias": bias.detach().numpy()}

    encoder = {
        "hidden_0": dense(reference.hidden),
        "mean": dense(reference.mean),
        "log_variance": dense(reference.log_variance),
    }
    decoder = {"hidden_0": dense(reference.decode)}
    decoder |= {name: dense(head) for name, head in reference.heads.items()}
    return {"encoder": {"MLP_0": encoder}, "decoder": {"MLP_0": decoder}}


def setup(size):
    torch.manual_seed(0)
    reference = Reference(size)
    image = np.random.default_rng(0).random((BATCH, *SHAPE), np.float32)
    batch = {"image": jnp.asarray(image), "index": jnp.arange(BATCH)}
    networks = size.networks()
    params = jax.tree.map(jnp.asarray, tree(reference))

    def call(function, params, *args, **kwargs):
        apply = nn.apply(lambda nets: function(nets, batch, *args, **kwargs), networks)
        return apply({"params": params}, rngs={"example": jax.random.key(3)})

    noise = call(
        lambda nets, batch: per_example(jax.random.normal, nets, batch, (SAMPLES, LATENT)), params
    )
    inputs = torch.from_numpy(image.reshape(BATCH, -1)), torch.from_numpy(np.array(noise))
    return reference, params, call, inputs


@pytest.mark.parametrize("size", [BERNOULLI, GAUSSIAN], ids=["bernoulli", "gaussian"])
@pytest.mark.parametrize("beta", [1.0, 4.0])
def test_elbo_gradients_and_optimizer_step(size, beta):
    reference, params, call, inputs = setup(size)

    def loss(params):
        result = call(elbo_loss, params, samples=SAMPLES, beta=beta)
        return result.values.mean(), result

    gradient, result = jax.jit(jax.grad(loss, has_aux=True))(params)
    optimizer = torch.optim.Adam(reference.parameters(), lr=1e-2)
    expected = reference.negative_elbo(*inputs, beta)
    expected.mean().backward()

    np.testing.assert_allclose(result.values, expected.detach().numpy(), rtol=1e-5)
    terms = result.aux["reconstruction"] + beta * result.aux["kl"]
    np.testing.assert_allclose(terms, result.values, rtol=1e-6)
    compare(gradient, tree(reference, lambda parameter: parameter.grad), 1e-4)

    optimizer.step()
    compare(stepped(optax.adam(1e-2), gradient, params), tree(reference), 1e-4)


@pytest.mark.parametrize("size", [BERNOULLI, GAUSSIAN], ids=["bernoulli", "gaussian"])
def test_importance_weighted_bound(size):
    reference, params, call, inputs = setup(size)
    result = jax.jit(lambda p: call(importance_weighted_bound, p, samples=SAMPLES))(params)
    expected = reference.importance_weighted_bound(*inputs).detach().numpy()
    np.testing.assert_allclose(result.values, expected, rtol=1e-5)


def compare(ours, expected, rtol):
    """Relative to the largest element of each array."""
    assert jax.tree.structure(ours) == jax.tree.structure(expected)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max()),
        ours,
        expected,
    )
