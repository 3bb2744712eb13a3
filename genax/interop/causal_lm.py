"""A decoder under the names that Hugging Face gives its inputs and outputs."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Int

from genax.interop.outputs import LMOutput, shifted_loss
from genax.transformer.decoder import Decoder
from genax.transformer.gpt import GPT
from genax.transformer.token_range import check_range

Tokens = Int[Array, "b t"]


class CausalLM(nn.Module):
    """A left-to-right language model."""

    decoder: Decoder

    def __call__(
        self,
        input_ids: Tokens,
        attention_mask: Tokens | None = None,
        position_ids: Tokens | None = None,
        labels: Tokens | None = None,
        train: bool = False,
    ) -> LMOutput:
        """Return the logits of the token after each one.

        position_ids: None counts padding too.
        Raises GenaxError for positions that a GPT has not learned.
        """
        mask = None if attention_mask is None else attention_mask > 0
        positions = jnp.arange(input_ids.shape[1])[None] if position_ids is None else position_ids
        if isinstance(self.decoder, GPT) and position_ids is not None:
            positions = check_range("position_ids", positions, self.decoder.context)
        logits = self.decoder(input_ids, mask, train, positions=positions)
        return LMOutput(logits, shifted_loss(logits, labels))
