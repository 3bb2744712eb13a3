"""The Decision Transformer."""

from __future__ import annotations

import flax.linen as nn
from jaxtyping import Array, Float, Int

from genax.interop.configuration import Fields
from genax.interop.conversion import Link, dense, flat, norm
from genax.interop.gpt import gpt_block, require_plain_gpt2
from genax.interop.outputs import DecisionTransformerOutput
from genax.transformer.decision_transformer import DecisionTransformer
from genax.transformer.token_range import check_range


class DecisionTransformerModel(nn.Module):
    """Predictions under the inputs' Hugging Face names."""

    transformer: DecisionTransformer

    def __call__(
        self,
        states: Float[Array, "b k s"],
        actions: Float[Array, "b k a"],
        returns_to_go: Float[Array, "b k 1"],
        timesteps: Int[Array, "b k"],
        attention_mask: Int[Array, "b k"] | None = None,
        rewards: Float[Array, "b k 1"] | None = None,
        train: bool = False,
    ) -> DecisionTransformerOutput:
        """Predicted states, actions and returns; rewards are taken and not read, as there."""
        mask = None if attention_mask is None else attention_mask > 0
        timesteps = check_range("timesteps", timesteps, self.transformer.max_steps)
        found = self.transformer(returns_to_go, states, actions, timesteps, mask, train)
        return DecisionTransformerOutput(*found)


def build(architecture: str, fields: Fields, names: set[str]) -> nn.Module:
    """The model that a directory describes, with its trunk's own tables."""
    require_plain_gpt2(fields, "decision_transformer")
    return DecisionTransformerModel(
        DecisionTransformer(
            state_size=fields.need("state_dim"),
            action_size=fields.need("act_dim"),
            hidden_size=fields.need("hidden_size"),
            num_layers=fields.layers("n_layer"),
            num_heads=fields.need("n_head"),
            max_steps=fields.need("max_ep_len"),
            mlp_size=fields.optional("n_inner"),
            activation=fields.activation("activation_function", "relu"),
            tanh_actions=fields.get("action_tanh", True),
            trunk_tables=(fields.size("vocab_size", 1), fields.size("n_positions", 1024)),
            dropout=fields.real("resid_pdrop", 0.1),
            epsilon=fields.real("layer_norm_epsilon", 1e-5),
        )
    )


def links(model: DecisionTransformerModel) -> list[Link]:
    """Parameters and tensors."""
    found = [
        flat("transformer/time_embedding/embedding", "embed_timestep.weight"),
        flat("transformer/trunk_tokens", "encoder.wte.weight"),
        flat("transformer/trunk_positions", "encoder.wpe.weight"),
        *dense("transformer/embed_return", "embed_return"),
        *dense("transformer/embed_state", "embed_state"),
        *dense("transformer/embed_action", "embed_action"),
        *norm("transformer/embedding_norm", "embed_ln"),
        *norm("transformer/final_norm", "encoder.ln_f"),
        *dense("transformer/predict_return", "predict_return"),
        *dense("transformer/predict_state", "predict_state"),
        *dense("transformer/predict_action", "predict_action.0"),
    ]
    for number in range(model.transformer.num_layers):
        found += gpt_block(f"transformer/blocks_{number}", f"encoder.h.{number}")
    return found
