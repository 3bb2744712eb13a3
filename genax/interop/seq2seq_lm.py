"""An encoder-decoder under the names that Hugging Face gives its inputs and outputs."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from genax.core.errors import GenaxError
from genax.interop.architecture import token_inputs
from genax.interop.outputs import IGNORED, LMOutput, label_loss
from genax.transformer.encoder_decoder import EncoderDecoder
from genax.transformer.t5 import T5

Tokens = Int[Array, "b t"]


class Seq2SeqLM(nn.Module):
    """A language model that reads a source and writes a target."""

    transformer: EncoderDecoder | T5
    start_token: int
    pad_token: int

    def __call__(
        self,
        input_ids: Int[Array, "b s"],
        attention_mask: Int[Array, "b s"] | None = None,
        decoder_input_ids: Tokens | None = None,
        decoder_attention_mask: Tokens | None = None,
        labels: Tokens | None = None,
        train: bool = False,
    ) -> LMOutput:
        """Return the logits of the token after each of the decoder's.

        decoder_input_ids: None is the labels, shifted by one.
        Raises GenaxError if there are neither decoder_input_ids nor labels.
        """
        if decoder_input_ids is None:
            if labels is None:
                raise GenaxError("give decoder_input_ids, or labels that they follow from.")
            decoder_input_ids = self.shift(labels)
        mask = None if attention_mask is None else attention_mask > 0
        own = None if decoder_attention_mask is None else decoder_attention_mask > 0
        memory = self.transformer.encode(input_ids, mask, train)
        places = jnp.arange(decoder_input_ids.shape[1])[None]
        logits = self.transformer(
            decoder_input_ids, own, train, None, memory, mask, positions=places
        )
        return LMOutput(logits, label_loss(logits, labels), memory)

    def shift(self, labels: Tokens) -> Tokens:
        """Return the start token and all labels but the last; ignored labels become padding."""
        shifted = jnp.pad(labels[:, :-1], ((0, 0), (1, 0)), constant_values=self.start_token)
        return jnp.where(shifted == IGNORED, self.pad_token, shifted)


def inputs(model: Seq2SeqLM) -> dict[str, jax.Array]:
    """Return example inputs."""
    tokens = token_inputs(model)
    return {**tokens, "decoder_input_ids": tokens["input_ids"]}
