"""The VAE against PyTorch: outputs, loss, gradients and one optimizer step, on the same noise."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genax.core.nets import example_keys, per_example
from genax.vae.autoencoders import MLPSize
from genax.vae.importance import importance_weighted_bound, iwae_loss, numbered_noise
from genax.vae.likelihoods import BERNOULLI as BINARY
from genax.vae.likelihoods import LEARNED_GAUSSIAN
from genax.vae.objectives import elbo_loss
from tests.parity import require, stepped

[torch] = require("torch")
F = torch.nn.functional

SHAPE, BATCH, HIDDEN, LATENT, SAMPLES = (6, 5, 1), 7, 16, 4, 3
PIXELS = 30
BERNOULLI = MLPSize(SHAPE, (HIDDEN,), LATENT, nn.tanh, BINARY)
GAUSSIAN = MLPSize(SHAPE, (HIDDEN,), LATENT, nn.relu, LEARNED_GAUSSIAN)


class Reference(torch.nn.Module):
    """Kingma & Welling 2014, appendix C, written with torch.nn.Linear."""

    def __init__(self, size):
        super().__init__()
        self.gaussian = size.likelihood is LEARNED_GAUSSIAN
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

    def importance_weighted_bound(self, x, noise, doubly_reparameterised=False):
        """The official code of DReG scales the gradient of a latent on its way back."""
        q = self.posterior(x)
        q = torch.distributions.Normal(q.loc[:, None], q.scale[:, None])
        z = q.loc + q.scale * noise
        if doubly_reparameterised:
            q = torch.distributions.Normal(q.loc.detach(), q.scale.detach())
        prior = torch.distributions.Normal(torch.zeros(LATENT), torch.ones(LATENT))
        weights = self.log_prob(x[:, None], z).sum(-1)
        weights = weights + prior.log_prob(z).sum(-1) - q.log_prob(z).sum(-1)
        if doubly_reparameterised:
            shares = torch.softmax(weights, 1).detach()
            z.register_hook(lambda gradient: shares[..., None] * gradient)
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
    numbered = call(
        lambda nets, batch: numbered_noise(example_keys(nets, batch), jnp.arange(SAMPLES), LATENT),
        params,
    )
    inputs = (image.reshape(BATCH, -1), noise, numbered)
    return reference, params, call, [torch.from_numpy(np.array(x)) for x in inputs]


@pytest.mark.parametrize("size", [BERNOULLI, GAUSSIAN], ids=["bernoulli", "gaussian"])
@pytest.mark.parametrize("beta", [1.0, 4.0])
def test_elbo_gradients_and_optimizer_step(size, beta):
    reference, params, call, (image, noise, _) = setup(size)

    def loss(params):
        result = call(elbo_loss, params, samples=SAMPLES, beta=beta)
        return result.values.mean(), result

    gradient, result = jax.jit(jax.grad(loss, has_aux=True))(params)
    optimizer = torch.optim.Adam(reference.parameters(), lr=1e-2)
    expected = reference.negative_elbo(image, noise, beta)
    expected.mean().backward()

    np.testing.assert_allclose(result.values, expected.detach().numpy(), rtol=1e-5)
    terms = result.aux["reconstruction"] + beta * result.aux["kl"]
    np.testing.assert_allclose(terms, result.values, rtol=1e-6)
    compare(gradient, tree(reference, lambda parameter: parameter.grad), 1e-4)

    optimizer.step()
    compare(stepped(optax.adam(1e-2), gradient, params), tree(reference), 1e-4)


@pytest.mark.parametrize("size", [BERNOULLI, GAUSSIAN], ids=["bernoulli", "gaussian"])
def test_importance_weighted_bound(size):
    reference, params, call, (image, _, noise) = setup(size)
    bound = jax.jit(lambda p: call(importance_weighted_bound, p, samples=SAMPLES, chunk=2))
    result = bound(params)
    expected = reference.importance_weighted_bound(image, noise).detach().numpy()
    np.testing.assert_allclose(result.values, expected, rtol=1e-5)


@pytest.mark.parametrize("doubly_reparameterised", [False, True], ids=["plain", "dreg"])
def test_iwae_and_its_gradient(doubly_reparameterised):
    reference, params, call, (image, noise, _) = setup(BERNOULLI)

    def loss(params):
        found = call(
            iwae_loss, params, samples=SAMPLES, doubly_reparameterised=doubly_reparameterised
        )
        return found.values.mean(), found

    gradient, found = jax.jit(jax.grad(loss, has_aux=True))(params)
    expected = -reference.importance_weighted_bound(image, noise, doubly_reparameterised)
    expected.mean().backward()
    np.testing.assert_allclose(found.values, expected.detach().numpy(), rtol=1e-5)
    compare(gradient, tree(reference, lambda parameter: parameter.grad), 1e-4)


def compare(ours, expected, rtol):
    """Relative to the largest element of each array."""
    assert jax.tree.structure(ours) == jax.tree.structure(expected)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max()),
        ours,
        expected,
    )
