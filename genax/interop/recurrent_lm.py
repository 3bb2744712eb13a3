"""A recurrent language model under Hugging Face's names, and what Mamba and Mamba-2 share."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
from jaxtyping import Array, Int

from genax.core.errors import GenaxError
from genax.hybrid.recurrent_decoder import RecurrentDecoder
from genax.interop.architecture import Config
from genax.interop.configuration import Configuration
from genax.interop.conversion import Conversion, dense, embedding, flat, norm
from genax.interop.outputs import LMOutput, shifted_loss

Tokens = Int[Array, "b t"]


class RecurrentLM(nn.Module):
    """A language model of recurrent blocks."""

    decoder: RecurrentDecoder

    def __call__(
        self,
        input_ids: Tokens,
        attention_mask: Tokens | None = None,
        labels: Tokens | None = None,
        train: bool = False,
    ) -> LMOutput:
        """Return the logits of the token after each one.

        Padding leaves the state alone. In transformers the biases of `use_bias` reach the state
        from padding on the left, so there the first tokens after it have other logits.
        """
        mask = None if attention_mask is None else attention_mask > 0
        logits = self.decoder(input_ids, mask, train)
        return LMOutput(logits, shifted_loss(logits, labels))


def shared_sizes(config: Configuration, kind: str, tied: bool) -> dict[str, Any]:
    """Return the arguments of a `RecurrentDecoder` that both generations name alike.

    kind: the model_type.
    tied: whether the head is tied if the file does not say it.
    """
    config.require(model_type=kind, hidden_act="silu", rms_norm=True)
    for name in ("pad_token_id", *_INITIAL, *_HOW, *_UNREAD):
        config.get(name)
    expand = config.size("expand", 2)
    width = config.need("hidden_size")
    inner = config.optional("intermediate_size")
    if inner not in (None, expand * width):
        raise GenaxError(
            f"{config.source} has intermediate_size={inner}, which is not expand={expand} times "
            f"hidden_size={width}."
        )
    return {
        "vocab_size": config.need("vocab_size"),
        "hidden_size": width,
        "num_layers": config.layers("num_hidden_layers"),
        "state_size": config.size("state_size", 16 if kind == "mamba" else 128),
        "expand": expand,
        "conv_width": config.size("conv_kernel", 4),
        "use_bias": config.get("use_bias", False),
        "conv_bias": config.get("use_conv_bias", True),
        "epsilon": config.real("layer_norm_epsilon", 1e-5),
        "wide_residual": config.get("residual_in_fp32", True),
        "tied_head": config.get("tie_word_embeddings", tied),
    }


# Settings of initial weights, and of how transformers computes the same numbers.
_INITIAL = (
    *("time_step_scale", "time_step_min", "time_step_max", "time_step_init_scheme"),
    *("time_step_floor", "rescale_prenorm_residual", "A_initializer_range"),
)
_HOW = ("use_mambapy", "use_associative_scan", "use_mem_eff_path")
# Settings of the official code that published files still have and that transformers does not read,
# `norm_before_gate` among them: its gate always comes first.
_UNREAD = (
    *("d_model", "d_inner", "n_layer", "fused_add_norm", "pad_vocab_size_multiple", "ssm_cfg"),
    "norm_before_gate",
)


def shared_config(decoder: Any, architecture: str, kind: str) -> Config:
    """Return the settings of a config.json that both generations name alike."""
    return {
        "architectures": [architecture],
        "model_type": kind,
        "vocab_size": decoder.vocab_size,
        "hidden_size": decoder.hidden_size,
        "num_hidden_layers": decoder.num_layers,
        "state_size": decoder.state_size,
        "expand": decoder.expand,
        "conv_kernel": decoder.conv_width,
        "use_bias": decoder.use_bias,
        "use_conv_bias": decoder.conv_bias,
        "layer_norm_epsilon": decoder.epsilon,
        "residual_in_fp32": decoder.wide_residual,
        "tie_word_embeddings": decoder.tied_head,
        "pad_token_id": None,
        "bos_token_id": None,
        "eos_token_id": None,
    }


def shared_conversions(decoder: Any) -> list[Conversion]:
    """Return the tensors of each variable that both generations have, those of mixers apart."""
    found = [
        embedding("decoder/token_embedding", "backbone.embeddings"),
        *norm("decoder/final_norm", "backbone.norm_f", bias=False),
    ]
    for number in range(decoder.num_layers):
        ours, theirs = mixer_paths(number)
        found += [
            *norm(f"decoder/blocks_{number}/norm", f"backbone.layers.{number}.norm", bias=False),
            _taps(f"params/{ours}/convolution/kernel", f"{theirs}.conv1d.weight"),
            flat(f"params/{ours}/A_log", f"{theirs}.A_log"),
            flat(f"params/{ours}/D", f"{theirs}.D"),
            *dense(f"{ours}/output", f"{theirs}.out_proj", bias=decoder.use_bias),
        ]
        if decoder.conv_bias:
            found.append(flat(f"params/{ours}/convolution/bias", f"{theirs}.conv1d.bias"))
    if not decoder.tied_head:
        found.append(embedding("decoder/head", "lm_head"))
    return found


def mixer_paths(number: int) -> tuple[str, str]:
    """Return the path of a layer's mixer, and the name that its tensors begin with."""
    return f"decoder/blocks_{number}/mixer", f"backbone.layers.{number}.mixer"


def _taps(path: str, name: str) -> Conversion:
    """Convert the weight [d, 1, width] of a depthwise convolution to a kernel [width, d]."""
    return Conversion(
        path, (name,), lambda found, shape: found[0][:, 0].T, lambda ours: (ours.T[:, None],)
    )


# Tensors that repeat another one, and names of files made before "embeddings" was in the plural.
COPIES = {"lm_head.weight": "backbone.embeddings.weight"}
RENAMES = ((r"^backbone\.embedding\.", "backbone.embeddings."),)
