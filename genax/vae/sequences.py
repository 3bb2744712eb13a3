"""The ELBO of rows of tokens (Bowman et al. 2016), and rows that a decoder writes."""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from genax.core.nets import example_keys, per_example, pure
from genax.core.task import Batch, Loss
from genax.data.text.lines import BEGIN, END, PAD
from genax.vae.objectives import Weight, per_sample, weight_at

# What no row has after its beginning.
_NEVER = jnp.array([PAD, BEGIN])


def sequence_elbo_loss(
    nets: nn.Module,
    batch: Batch,
    beta: Weight = 1.0,
    word_dropout: float = 0.0,
    train: bool = True,
) -> Loss:
    """Loss -ELBO of each row, in nats.

    -sum_t log p(x_t | x_<t, z) + beta KL(q(z|x) || N(0, I)) with one draw of z. Metrics:
    "reconstruction" and "kl", the two terms, unweighted.

    batch["tokens"]: [b, t], from BEGIN to END, then PAD, which does not count.
    beta: factor of the KL, or one by the step, such as a warm-up.
    word_dropout: share of the tokens that the decoder does not see, so that it needs the latent
      (Bowman et al. 2016, section 3.1).
    """
    tokens = batch["tokens"]
    posterior = nets.encoder(tokens, train=train)
    z = posterior.transform(per_example(jax.random.normal, nets, batch, posterior.mean.shape[1:]))
    read, targets = tokens[:, :-1], tokens[:, 1:]
    if word_dropout and train:
        hidden = per_example(jax.random.bernoulli, nets, batch, word_dropout, read.shape[1:])
        read = jnp.where(hidden & (read != BEGIN), PAD, read)
    logits = nets.decoder(z, read, train=train)
    log_probs = jnp.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], -1)[..., 0]
    reconstruction = -jnp.where(targets == PAD, 0.0, log_probs).sum(-1)
    kl = per_sample(posterior.kl_to_standard(), 1)
    aux = {"reconstruction": reconstruction, "kl": kl}
    return Loss(reconstruction + weight_at(beta, batch) * kl, aux=aux)


def sequence_elbo(nets: nn.Module, batch: Batch) -> Loss:
    """ELBO of each row in nats, as a score: higher is better."""
    loss = sequence_elbo_loss(nets, batch, train=False)
    return Loss(-loss.values, aux=loss.aux)


def write_rows(
    nets: nn.Module,
    batch: Batch,
    z: Float[Array, "b z"],
    length: int,
    temperature: float = 1.0,
) -> Int[Array, "b t"]:
    """Return rows of `length` tokens after BEGIN, each drawn from what follows those before it.

    temperature: what logits are divided by. 0 takes the likeliest token.
    """
    keys = example_keys(nets, batch)
    first = jnp.full(len(z), BEGIN)
    begin = pure(nets.decoder, z, method="begin")
    state = begin(z)
    step = pure(nets.decoder, state, first, z, method="step")

    def write(carry, place):
        state, token = carry
        state, logits = step(state, token, z)
        logits = logits.at[:, _NEVER].set(-jnp.inf)
        if temperature:
            own = jax.vmap(partial(jax.random.fold_in, data=place))(keys)
            drawn = jax.vmap(jax.random.categorical)(own, logits / temperature)
        else:
            drawn = logits.argmax(-1)
        after = jnp.where((token == END) | (token == PAD), PAD, drawn)
        return (state, after), after

    _, rows = jax.lax.scan(write, (state, first), jnp.arange(length))
    return rows.T


def sample_rows(
    nets: nn.Module, batch: Batch, length: int, temperature: float = 1.0
) -> Int[Array, "b t"]:
    """Return rows of latents from the prior, one for each element of batch["index"]."""
    z = per_example(jax.random.normal, nets, batch, (nets.encoder.latent_size,))
    return write_rows(nets, batch, z, length, temperature)


def reconstruct_rows(nets: nn.Module, batch: Batch) -> Int[Array, "b t"]:
    """Return the likeliest rows of the posteriors' means, token by token."""
    tokens = batch["tokens"]
    z = nets.encoder(tokens).mean
    return write_rows(nets, batch, z, tokens.shape[1] - 1, temperature=0.0)


def right_rows(nets: nn.Module, batch: Batch) -> Loss:
    """Score of rows whose reconstruction is the row itself: 1 each, and their right tokens."""
    targets = batch["tokens"][:, 1:]
    same = reconstruct_rows(nets, batch) == targets
    tokens = Loss(same.astype(jnp.float32), (targets != PAD).astype(jnp.float32))
    return Loss(same.all(-1).astype(jnp.float32), aux={"tokens": tokens})


def interpolate_rows(nets: nn.Module, batch: Batch, steps: int = 6) -> Int[Array, "b k t"]:
    """Return the likeliest rows of latents on the line from each row's to another's.

    batch["tokens"], batch["other"]: [b, t].
    steps: number of latents, both ends included.
    """
    start, end = (nets.encoder(batch[name]).mean for name in ("tokens", "other"))
    length = batch["tokens"].shape[1] - 1
    shares = jnp.linspace(0.0, 1.0, steps)[:, None]
    z = start[:, None] + shares * (end - start)[:, None]
    index = jnp.repeat(batch["index"], steps)
    flat = write_rows(nets, {"index": index}, z.reshape(-1, z.shape[-1]), length, temperature=0.0)
    return flat.reshape(len(start), steps, length)
