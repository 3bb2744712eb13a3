"""Left-to-right language models: OpenAI GPT, GPT-2 and LLaMA."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Int

from genax.core.errors import GenaxError
from genax.interop.configuration import Fields
from genax.interop.conversion import Link, attention, dense, flat, norm
from genax.interop.outputs import LMOutput, shifted_loss
from genax.nn.rotary import LongContext
from genax.transformer.decoder import Decoder
from genax.transformer.gpt import GPT
from genax.transformer.llama import LLaMA
from genax.transformer.token_range import check_range

Tokens = Int[Array, "b t"]


class CausalLM(nn.Module):
    """A decoder under the inputs' Hugging Face names."""

    decoder: Decoder

    def __call__(
        self,
        input_ids: Tokens,
        attention_mask: Tokens | None = None,
        position_ids: Tokens | None = None,
        labels: Tokens | None = None,
        train: bool = False,
    ) -> LMOutput:
        """Logits of the token after each one. position_ids: None counts padding too.

        Raises GenaxError for positions that GPT has not learned.
        """
        mask = None if attention_mask is None else attention_mask > 0
        positions = jnp.arange(input_ids.shape[1])[None] if position_ids is None else position_ids
        if isinstance(self.decoder, GPT) and position_ids is not None:
            positions = check_range("position_ids", positions, self.decoder.context)
        logits = self.decoder(input_ids, mask, train, positions=positions)
        return LMOutput(logits, shifted_loss(logits, labels))


class OpenAIGPTLMHeadModel(CausalLM):
    """GPT-1."""


class GPT2LMHeadModel(CausalLM):
    """GPT-2."""


class LlamaForCausalLM(CausalLM):
    """LLaMA."""


def build_gpt1(architecture: str, fields: Fields, names: set[str]) -> nn.Module:
    """OpenAI GPT, whose "gelu" is the one by tanh."""
    fields.require(model_type="openai-gpt", afn="gelu", tie_word_embeddings=True)
    fields.require(predict_special_tokens=True, n_special=0)
    fields.get("pad_token_id")
    return OpenAIGPTLMHeadModel(
        GPT(
            vocab_size=fields.need("vocab_size"),
            context=fields.need("n_positions"),
            hidden_size=fields.need("n_embd"),
            num_layers=fields.layers("n_layer"),
            num_heads=fields.need("n_head"),
            dropout=fields.real("resid_pdrop", 0.1),
            epsilon=fields.real("layer_norm_epsilon", 1e-5),
            post_norm=True,
        )
    )


def build_gpt2(architecture: str, fields: Fields, names: set[str]) -> nn.Module:
    """GPT-2 with a tied or an untied head."""
    require_plain_gpt2(fields, "gpt2")
    return GPT2LMHeadModel(
        GPT(
            vocab_size=fields.need("vocab_size"),
            context=fields.need("n_positions"),
            hidden_size=fields.need("n_embd"),
            num_layers=fields.layers("n_layer"),
            num_heads=fields.need("n_head"),
            mlp_size=fields.optional("n_inner"),
            dropout=fields.real("resid_pdrop", 0.1),
            epsilon=fields.real("layer_norm_epsilon", 1e-5),
            tied_head=fields.get("tie_word_embeddings", True),
            activation=fields.activation("activation_function", "gelu_new"),
        )
    )


def require_plain_gpt2(fields: Fields, kind: str) -> None:
    """Raises GenaxError for the variations of GPT-2's attention that are not supported."""
    fields.require(
        model_type=kind,
        add_cross_attention=False,
        scale_attn_weights=True,
        scale_attn_by_inverse_layer_idx=False,
        reorder_and_upcast_attn=False,
    )
    fields.get("pad_token_id")


def build_llama(architecture: str, fields: Fields, names: set[str]) -> nn.Module:
    """LLaMA with its rotary scaling, if any."""
    fields.require(model_type="llama", mlp_bias=False, attention_bias=False, hidden_act="silu")
    fields.get("pad_token_id")
    theta, scaling = _rotary(fields)
    return LlamaForCausalLM(
        LLaMA(
            vocab_size=fields.need("vocab_size"),
            context=fields.need("max_position_embeddings"),
            hidden_size=fields.need("hidden_size"),
            num_layers=fields.layers("num_hidden_layers"),
            num_heads=fields.need("num_attention_heads"),
            mlp_size=fields.need("intermediate_size"),
            epsilon=fields.real("rms_norm_eps", 1e-6),
            tied_head=fields.get("tie_word_embeddings", False),
            num_kv_heads=fields.optional("num_key_value_heads"),
            head_dim=fields.optional("head_dim"),
            theta=theta,
            scaling=scaling,
        )
    )


_SCALING = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
# Bases and factors beyond any in use, which float32 still holds with their powers.
_MOST_BASE, _MOST_FACTOR = 1e30, 1e6


def _rotary(fields: Fields) -> tuple[float, LongContext | None]:
    """Base and scaling, which newer files keep in one field and older ones in two.

    If a file has both, the older field counts, as in transformers.
    """
    rotary = {
        "rope_theta": fields.get("rope_theta"),
        "original_max_position_embeddings": fields.need("max_position_embeddings"),
    }
    new, old = fields.get("rope_parameters", {}), fields.get("rope_scaling", {})
    rotary |= old or new
    kind = rotary.get("rope_type", rotary.get("type", "default"))
    unknown = sorted(set(rotary) - {"rope_theta", "rope_type", "type", *_SCALING})
    if kind not in ("default", "llama3") or unknown:
        what = f"settings {', '.join(unknown)}" if unknown else f"scaling {kind!r}"
        raise GenaxError(
            f'{fields.source} has rotary {what}; "default" and "llama3" are supported.'
        )
    found = Fields(rotary, f"{fields.source}, rotary {kind!r},")
    theta = found.real("rope_theta", 10_000.0, least=1.0, most=_MOST_BASE)
    if kind == "default":
        return theta, None
    low = found.real("low_freq_factor", None, most=_MOST_FACTOR, above=True)
    scaling = LongContext(
        factor=found.real("factor", None, least=1.0, most=_MOST_FACTOR),
        low_factor=low,
        high_factor=found.real("high_freq_factor", None, low, _MOST_FACTOR, above=True),
        original_context=found.need("original_max_position_embeddings"),
    )
    return theta, scaling


def gpt_links(model: CausalLM) -> list[Link]:
    """Both GPTs, whose weights are [in, out]."""
    first = isinstance(model, OpenAIGPTLMHeadModel)
    tokens, places = ("tokens_embed", "positions_embed") if first else ("wte", "wpe")
    found = [
        flat("decoder/token_embedding/embedding", f"transformer.{tokens}.weight"),
        flat("decoder/position_embedding/embedding", f"transformer.{places}.weight"),
    ]
    for number in range(model.decoder.num_layers):
        found += gpt_block(f"decoder/blocks_{number}", f"transformer.h.{number}")
    if not first:
        found += norm("decoder/final_norm", "transformer.ln_f")
    if not model.decoder.tied_head:
        found.append(flat("decoder/head/embedding", "lm_head.weight"))
    return found


def gpt_block(ours: str, theirs: str) -> list[Link]:
    """One block of either."""
    layers = {
        "attention/qkv": "attn.c_attn",
        "attention/output": "attn.c_proj",
        "feed_forward/expand": "mlp.c_fc",
        "feed_forward/output": "mlp.c_proj",
    }
    found = norm(f"{ours}/attention_norm", f"{theirs}.ln_1")
    found += norm(f"{ours}/feed_forward_norm", f"{theirs}.ln_2")
    for path, name in layers.items():
        last = path == "attention/output"
        found.append(rows(f"{ours}/{path}/kernel", f"{theirs}.{name}.weight", 2 if last else 1))
        found.append(flat(f"{ours}/{path}/bias", f"{theirs}.{name}.bias", (-1,)))
    return found


def rows(path: str, name: str, num_in: int) -> Link:
    """A kernel [*in, *out] from a weight [in, out]."""

    def write(ours):
        size = 1
        for axis in ours.shape[:num_in]:
            size *= axis
        return (ours.reshape(size, -1),)

    return Link(path, (name,), lambda found, shape: found[0].reshape(shape), write)


def llama_links(model: LlamaForCausalLM) -> list[Link]:
    """LLaMA's."""
    decoder = model.decoder
    assert isinstance(decoder, LLaMA)
    joint = decoder.num_kv_heads in (None, decoder.num_heads)
    found = [
        flat("decoder/token_embedding/embedding", "model.embed_tokens.weight"),
        *norm("decoder/final_norm", "model.norm", bias=False),
    ]
    for number in range(decoder.num_layers):
        ours, theirs = f"decoder/blocks_{number}", f"model.layers.{number}"
        inside = f"{theirs}.self_attn"
        found += [
            *norm(f"{ours}/attention_norm", f"{theirs}.input_layernorm", bias=False),
            *attention(
                f"{ours}/attention",
                [f"{inside}.{part}_proj" for part in "qkvo"],
                joint=joint,
                bias=False,
            ),
            *norm(f"{ours}/feed_forward_norm", f"{theirs}.post_attention_layernorm", bias=False),
            *dense(f"{ours}/feed_forward/gate", f"{theirs}.mlp.gate_proj", bias=False),
            *dense(f"{ours}/feed_forward/expand", f"{theirs}.mlp.up_proj", bias=False),
            *dense(f"{ours}/feed_forward/output", f"{theirs}.mlp.down_proj", bias=False),
        ]
    if not decoder.tied_head:
        found.append(flat("decoder/head/embedding", "lm_head.weight"))
    return found
