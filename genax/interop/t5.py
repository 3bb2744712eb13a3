"""T5 and T5 1.1."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
from jaxtyping import Array, Int

from genax.core.errors import GenaxError
from genax.interop.architecture import Architecture, Config, Exporter, Family, Leaves, token_inputs
from genax.interop.configuration import MOST_LAYERS, Configuration, activation_name
from genax.interop.conversion import Conversion, attention, dense, embedding, norm
from genax.interop.outputs import BaseModelOutput
from genax.interop.seq2seq_lm import Seq2SeqLM, inputs
from genax.nn.activations import ACTIVATIONS
from genax.transformer.t5 import T5


class T5ForConditionalGeneration(Seq2SeqLM):
    """T5."""


class T5EncoderModel(nn.Module):
    """T5's encoder alone, which reads texts for other models."""

    transformer: T5

    def __call__(
        self,
        input_ids: Int[Array, "b t"],
        attention_mask: Int[Array, "b t"] | None = None,
        train: bool = False,
    ) -> BaseModelOutput:
        """Return the hidden states."""
        mask = None if attention_mask is None else attention_mask > 0
        return BaseModelOutput(self.transformer.encode(input_ids, mask, train))


def build(architecture: str, config: Configuration, names: set[str]) -> nn.Module:
    """Build T5 or T5 1.1 with both stacks."""
    config.require(is_encoder_decoder=True)
    network, last = _build_network(config, names), config.need("vocab_size") - 1
    pad = config.size("pad_token_id", 0, 0, last)
    start = config.size("decoder_start_token_id", pad, 0, last)
    return T5ForConditionalGeneration(network, start_token=start, pad_token=pad)


def build_encoder(architecture: str, config: Configuration, names: set[str]) -> nn.Module:
    """Build the encoder of T5 or T5 1.1, whose settings may be those of both stacks."""
    for name in ("is_encoder_decoder", "pad_token_id"):
        config.get(name)
    return T5EncoderModel(_build_network(config, names))


def _build_network(config: Configuration, names: set[str]) -> T5:
    name = config.get("feed_forward_proj", "relu")
    gated = name.startswith("gated-")
    activation = "gelu_new" if name == "gated-gelu" else name.removeprefix("gated-")
    config.require(is_gated_act=gated, dense_act_fn=activation)
    config.require(model_type="t5", is_decoder=False)
    if activation not in ACTIVATIONS:
        raise GenaxError(f"{config.source} has feed_forward_proj={name!r}, which is not supported.")
    # T5 1.1 neither ties nor scales. Newer files say that it ties, whether or not it has a head.
    ties = config.get("tie_word_embeddings", True)
    scale = config.get("scale_decoder_outputs", ties)
    config.get("n_positions")  # Positions are relative: there is no last one.
    layers = config.layers("num_layers")
    buckets = config.size("relative_attention_num_buckets", 32, least=4)
    return T5(
        vocab_size=config.need("vocab_size"),
        context=1 << 20,
        hidden_size=config.need("d_model"),
        num_layers=config.size("num_decoder_layers", layers, most=MOST_LAYERS),
        num_heads=config.need("num_heads"),
        mlp_size=config.need("d_ff"),
        dropout=config.real("dropout_rate", 0.1),
        epsilon=config.real("layer_norm_epsilon", 1e-6),
        tied_head=(ties and scale) or not any("head" in name for name in names),
        num_encoder_layers=layers,
        head_dim=config.need("d_kv"),
        num_buckets=buckets,
        # Buckets of one distance each come first; the others grow up to this distance.
        max_distance=config.size("relative_attention_max_distance", 128, buckets // 2 + 1),
        activation=ACTIVATIONS[activation],
        gated=gated,
        scale_logits=scale,
    )


def conversions(model: T5ForConditionalGeneration | T5EncoderModel) -> list[Conversion]:
    """Return the tensors of each variable."""
    t5, whole = model.transformer, isinstance(model, T5ForConditionalGeneration)
    assert isinstance(t5, T5)
    found = [embedding("transformer/token_embedding", "shared")]
    stacks = [("encoder", "encoder_blocks", t5.encoder_layers)]
    if whole:
        stacks.append(("decoder", "blocks", t5.num_layers))
    for side, blocks, layers in stacks:
        first = f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias"
        last = "encoder_norm" if side == "encoder" else "final_norm"
        found.append(embedding(f"transformer/{side}_distances", first))
        found += norm(f"transformer/{last}", f"{side}.final_layer_norm", bias=False)
        for number in range(layers):
            ours, theirs = f"transformer/{blocks}_{number}", f"{side}.block.{number}.layer"
            parts = [("attention", "SelfAttention")]
            if side == "decoder":
                parts.append(("cross_attention", "EncDecAttention"))
            for place, (path, name) in enumerate(parts):
                found += attention(
                    f"{ours}/{path}",
                    [f"{theirs}.{place}.{name}.{part}" for part in "qkvo"],
                    joint=path == "attention",
                    bias=False,
                )
                found += norm(f"{ours}/{path}_norm", f"{theirs}.{place}.layer_norm", bias=False)
            inside = f"{theirs}.{len(parts)}"
            names = {"expand": "wi", "output": "wo"}
            if t5.gated:
                names = {"gate": "wi_0", "expand": "wi_1", "output": "wo"}
            for path, name in names.items():
                found += dense(
                    f"{ours}/feed_forward/{path}", f"{inside}.DenseReluDense.{name}", bias=False
                )
            found += norm(f"{ours}/feed_forward_norm", f"{inside}.layer_norm", bias=False)
    if whole and not t5.tied_head:
        found.append(embedding("transformer/head", "lm_head"))
    return found


def experiment(model: T5ForConditionalGeneration) -> tuple[str, dict[str, Any]]:
    """Return the experiment that trains T5."""
    return "experiments/transformer/t5.py:cpu", {}


def _config(networks: Any, leaves: Leaves) -> Config:
    # Reading a directory needs no package for data, which these numbers' module imports.
    from genax.data.text.text_pairs import END, PAD, START

    t5: T5 = networks.transformer
    name = activation_name(t5)
    if t5.gated and name == "gelu":
        raise GenaxError(
            'a gated T5 with the exact gelu cannot be exported: there it is "gelu_new".'
        )
    proj = f"gated-{name}" if t5.gated else name
    # As the published files name the tanh form.
    proj = "gated-gelu" if proj == "gated-gelu_new" else proj
    return {
        "architectures": ["T5ForConditionalGeneration"],
        "model_type": "t5",
        "vocab_size": t5.vocab_size,
        "n_positions": t5.context,
        "d_model": t5.hidden_size,
        "d_kv": t5.cache_heads[1],
        "d_ff": t5.mlp_size or 4 * t5.hidden_size,
        "num_layers": t5.encoder_layers,
        "num_decoder_layers": t5.num_layers,
        "num_heads": t5.num_heads,
        "relative_attention_num_buckets": t5.num_buckets,
        "relative_attention_max_distance": t5.max_distance,
        "dropout_rate": t5.dropout,
        "layer_norm_epsilon": t5.epsilon,
        "feed_forward_proj": proj,
        "tie_word_embeddings": t5.tied_head,
        "scale_decoder_outputs": t5.scale_logits,
        "pad_token_id": PAD,
        "decoder_start_token_id": START,
        "eos_token_id": END,
    }


FAMILY = Family(
    {
        "T5ForConditionalGeneration": Architecture(
            build,
            conversions,
            inputs,
            copies={
                "encoder.embed_tokens.weight": "shared.weight",
                "decoder.embed_tokens.weight": "shared.weight",
                "lm_head.weight": "shared.weight",
            },
            buffers=(
                r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",
            ),
            experiment=experiment,
        ),
        "T5EncoderModel": Architecture(
            build_encoder,
            conversions,
            token_inputs,
            copies={"encoder.embed_tokens.weight": "shared.weight"},
            unread=(r"decoder\..*", r"lm_head\.weight"),
        ),
    },
    Exporter("transformer", T5, _config),
)
