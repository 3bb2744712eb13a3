"""The Decision Transformer."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from genax.interop.architecture import Architecture, Family
from genax.interop.configuration import Configuration
from genax.interop.conversion import Conversion, dense, embedding, flat, norm
from genax.interop.gpt import block_conversions, inverse_layer_scaling
from genax.transformer.decision_transformer import DecisionTransformer
from genax.transformer.token_range import check_range


@struct.dataclass
class DecisionTransformerOutput:
    """Actions predicted from states, and states and returns predicted from actions."""

    state_preds: Float[Array, "b k s"]
    action_preds: Float[Array, "b k a"]
    return_preds: Float[Array, "b k 1"]


class DecisionTransformerModel(nn.Module):
    """A Decision Transformer under the names that Hugging Face gives its inputs and outputs."""

    agent: DecisionTransformer

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
        """Return the predicted states, actions and returns.

        rewards: not read, as in transformers.
        """
        mask = None if attention_mask is None else attention_mask > 0
        timesteps = check_range("timesteps", timesteps, self.agent.max_steps)
        found = self.agent(returns_to_go, states, actions, timesteps, mask, train)
        return DecisionTransformerOutput(*found)


def inputs(model: DecisionTransformerModel) -> dict[str, jax.Array]:
    """Return example inputs."""
    net = model.agent
    return {
        "states": jnp.zeros((1, 1, net.state_size)),
        "actions": jnp.zeros((1, 1, net.action_size)),
        "returns_to_go": jnp.zeros((1, 1, 1)),
        "timesteps": jnp.zeros((1, 1), jnp.int32),
    }


def build(architecture: str, config: Configuration, names: set[str]) -> nn.Module:
    """Build the model, with the tables of tokens and positions that its GPT-2 trunk has."""
    return DecisionTransformerModel(
        DecisionTransformer(
            state_size=config.need("state_dim"),
            action_size=config.need("act_dim"),
            hidden_size=config.need("hidden_size"),
            num_layers=config.layers("n_layer"),
            num_heads=config.need("n_head"),
            max_steps=config.need("max_ep_len"),
            mlp_size=config.optional("n_inner"),
            activation=config.activation("activation_function", "relu"),
            tanh_actions=config.get("action_tanh", True),
            trunk_tables=(config.size("vocab_size", 1), config.size("n_positions", 1024)),
            dropout=config.real("resid_pdrop", 0.1),
            epsilon=config.real("layer_norm_epsilon", 1e-5),
            inverse_layer_scaling=inverse_layer_scaling(config, "decision_transformer"),
        )
    )


def conversions(model: DecisionTransformerModel) -> list[Conversion]:
    """Return the tensors of each variable."""
    found = [
        embedding("agent/time_embedding", "embed_timestep"),
        flat("params/agent/trunk_tokens", "encoder.wte.weight"),
        flat("params/agent/trunk_positions", "encoder.wpe.weight"),
        *dense("agent/embed_return", "embed_return"),
        *dense("agent/embed_state", "embed_state"),
        *dense("agent/embed_action", "embed_action"),
        *norm("agent/embedding_norm", "embed_ln"),
        *norm("agent/final_norm", "encoder.ln_f"),
        *dense("agent/predict_return", "predict_return"),
        *dense("agent/predict_state", "predict_state"),
        *dense("agent/predict_action", "predict_action.0"),
    ]
    for number in range(model.agent.num_layers):
        found += block_conversions(f"agent/blocks_{number}", f"encoder.h.{number}")
    return found


FAMILY = Family(
    {
        "DecisionTransformerModel": Architecture(
            build,
            conversions,
            inputs,
            buffers=(r"encoder\.h\.\d+\.attn\.(masked_)?bias",),
        )
    }
)
