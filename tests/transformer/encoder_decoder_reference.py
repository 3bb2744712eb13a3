"""Vaswani et al. 2017 out of torch.nn's layers, which know no embeddings, positions or head."""

from __future__ import annotations

import math
from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from genax.core import tree
from genax.core.gradients import sums_of
from genax.data.text.text_pairs import PAD, START
from genax.interop.conversion import Conversion, dense, embedding, norm
from genax.nn.sinusoids import sinusoids
from genax.transformer.encoder_decoder import EncoderDecoder
from genax.transformer.tasks.translation import Networks, target_loss
from tests.parity import compare, converted, require

CONTEXT, SMOOTHING = 9, 0.1


@dataclass(frozen=True)
class Size:
    vocab_size: int
    hidden_size: int
    num_layers: tuple[int, int]
    num_heads: int
    mlp_size: int


SIZES = (
    Size(41, 24, (2, 1), 3, 40),
    Size(23, 20, (1, 2), 5, 20),
    Size(30, 16, (1, 1), 1, 64),
)


def make_reference(size: Size):
    """A torch.nn.Module: (source, target so far) -> logits; no weight is at its initial value."""
    [torch] = require("torch")
    torch.manual_seed(0)

    class Transformer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            shape = (size.hidden_size, size.num_heads, size.mlp_size)
            layer = {"dropout": 0.0, "batch_first": True}
            stacks = torch.nn.TransformerEncoder, torch.nn.TransformerDecoder
            layers = torch.nn.TransformerEncoderLayer, torch.nn.TransformerDecoderLayer
            self.embedding = torch.nn.Embedding(size.vocab_size, size.hidden_size)
            # The paper has no norm behind either stack.
            self.encoder, self.decoder = (
                stack(one(*shape, **layer), number, norm=None)
                for stack, one, number in zip(stacks, layers, size.num_layers, strict=True)
            )

        def embed(self, tokens):
            table = torch.from_numpy(sinusoids(CONTEXT, size.hidden_size))
            return self.embedding(tokens) * math.sqrt(size.hidden_size) + table[: tokens.shape[1]]

        def forward(self, source, target):
            padding = source == PAD
            future = torch.ones(target.shape[1], target.shape[1]).triu(1).bool()
            memory = self.encoder(self.embed(source), src_key_padding_mask=padding)
            hidden = self.decoder(
                self.embed(target),
                memory,
                tgt_mask=future,
                memory_key_padding_mask=padding,
            )
            return hidden @ self.embedding.weight.T

    model = Transformer()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def make_conversions(size: Size) -> list[Conversion]:
    conversions = [embedding("transformer/token_embedding", "embedding")]
    for side, ours, number in zip(
        ("encoder", "decoder"), ("encoder_blocks", "blocks"), size.num_layers, strict=True
    ):
        for layer in range(number):
            path, name = f"transformer/{ours}_{layer}", f"{side}.layers.{layer}"
            conversions += _attention(f"{path}/attention", f"{name}.self_attn", {"qkv": (0, 3)})
            if side == "decoder":
                split = {"query": (0, 1), "key_value": (1, 3)}
                conversions += _attention(
                    f"{path}/cross_attention", f"{name}.multihead_attn", split
                )
            conversions += dense(f"{path}/feed_forward/expand", f"{name}.linear1")
            conversions += dense(f"{path}/feed_forward/output", f"{name}.linear2")
            norms = ("attention", "cross_attention", "feed_forward")
            norms = norms if side == "decoder" else norms[::2]
            for place, part in enumerate(norms, start=1):
                conversions += norm(f"{path}/{part}_norm", f"{name}.norm{place}")
    return conversions


def _attention(path: str, name: str, split: dict[str, tuple[int, int]]) -> list[Conversion]:
    """split: which of query, key and value, stacked there, each projection of ours holds."""

    def kernel(first, last):
        def read(found, shape):
            parts = np.split(found[0], 3)[first:last]
            return np.stack([part.T for part in parts], axis=1).reshape(shape)

        return read

    def bias(first, last):
        return lambda found, shape: np.stack(np.split(found[0], 3)[first:last]).reshape(shape)

    conversions = dense(f"{path}/output", f"{name}.out_proj", num_in=2)
    for part, places in split.items():
        conversions += [
            Conversion(
                f"params/{path}/{part}/kernel",
                (f"{name}.in_proj_weight",),
                kernel(*places),
                _only_read,
            ),
            Conversion(
                f"params/{path}/{part}/bias", (f"{name}.in_proj_bias",), bias(*places), _only_read
            ),
        ]
    return conversions


def _only_read(ours):
    raise TypeError("These tensors are only read.")


def make_batch(size: Size) -> dict[str, np.ndarray]:
    """Sources and targets of several lengths, which end in padding."""
    rng = np.random.default_rng(1)

    def rows(lengths, width):
        real = np.arange(width) < np.array(lengths)[:, None]
        return np.where(real, rng.integers(PAD + 1, size.vocab_size, real.shape), PAD)

    target = rows([6, 9, 3], CONTEXT)
    target[:, 0] = START
    return {"source": rows([CONTEXT, 4, 6], CONTEXT), "target": target}


def errors(size: Size) -> dict[str, float]:
    """Of the Transformer, with smoothed labels: see `compare`."""
    [torch] = require("torch")
    model, batch, conversions = make_reference(size), make_batch(size), make_conversions(size)
    transformer = EncoderDecoder(
        size.vocab_size,
        CONTEXT,
        size.hidden_size,
        size.num_layers[1],
        size.num_heads,
        size.mlp_size,
        num_encoder_layers=size.num_layers[0],
    )
    networks, arrays = Networks(transformer), jax.tree.map(jnp.asarray, batch)
    source, fed, labels = batch["source"], batch["target"][:, :-1], batch["target"][:, 1:]

    def outputs(nets, batch):
        net, real = nets.transformer, batch["source"] != PAD
        memory = net.encode(batch["source"], real)
        logits = net(batch["target"][:, :-1], memory=memory, memory_mask=real)
        loss = sums_of(target_loss(nets, batch, SMOOTHING, train=False))["loss"]
        return loss.total / loss.weight, (logits,)

    shapes = jax.eval_shape(nn.init(outputs, networks), jax.random.key(0), arrays)["params"]
    params = converted(conversions, dict(model.named_parameters()), tree.flatten(shapes))
    assert sorted(params) == sorted(tree.flatten(shapes))
    apply = nn.apply(outputs, networks)
    logits = model(torch.from_numpy(source), torch.from_numpy(fed))
    loss = torch.nn.functional.cross_entropy(
        logits.transpose(1, 2),
        torch.from_numpy(labels),
        ignore_index=PAD,
        label_smoothing=SMOOTHING,
    )
    real = labels != PAD
    return compare(
        lambda params: apply({"params": params}, arrays),
        # A copy, as PyTorch's step writes over its tensors.
        jax.tree.map(jnp.array, tree.unflatten(params, shapes)),
        conversions,
        model,
        loss,
        (logits.detach().numpy(),),
        lambda output: np.asarray(output)[real],
    )
