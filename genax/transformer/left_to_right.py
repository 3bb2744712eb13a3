"""What left-to-right generation asks of a network, whatever it keeps of the tokens read so far."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array, Bool, Float, Int


@runtime_checkable
class Kept(Protocol):
    """What a network keeps of the tokens that each sequence of a batch has read: a pytree.

    It is as large after reading as before, so that a compiled loop may carry it.
    """

    def take(self, rows: Int[Array, " b"]) -> Kept:
        """Return what is kept of sequences, of which number i is now rows[i] of the old ones."""
        ...

    def repeat(self, times: int) -> Kept:
        """Return what is kept, with each sequence repeated `times` times in a row."""
        ...


@runtime_checkable
class LeftToRight(Protocol):
    """A bound module that reads tokens and scores the next one.

    vocab_size: number of tokens.
    `genax.transformer.decoder.Decoder` keeps keys and values (`KVCache`), and
    `genax.hybrid.recurrent_decoder.RecurrentDecoder` a state of constant size (`RecurrentState`).
    """

    vocab_size: int

    @property
    def context(self) -> int | None:
        """Tokens of a sequence at most. None is no limit."""
        ...

    def empty_cache(self, batch_size: int, slots: int) -> Kept:
        """Return what is kept of sequences without tokens.

        slots: tokens that will be read of each sequence at most, padding included.
        """
        ...

    def decode(
        self,
        tokens: Int[Array, "b t"],
        cache: Any,
        mask: Bool[Array, "b t"] | None = None,
        **memory: Any,
    ) -> tuple[Float[Array, "b vocab"], Kept]:
        """Read t further tokens: a prompt, or the token that was drawn last.

        cache: what is kept so far.
        mask: which tokens are real. None means all.
        memory: what else is read, such as an encoder's output, given in the first call only.
        Returns scores of the token after the last real one, and what is kept now.
        """
        ...

    def unbind(self) -> tuple[Any, Any]:
        """Return the module without its variables, and these, as every Linen module does."""
        ...


@runtime_checkable
class LanguageModel(LeftToRight, Protocol):
    """A network of left-to-right generation that is trained on whole sequences.

    A bound one has `head_table` besides, the table whose products with the hidden state are the
    logits.
    """

    def hidden(
        self,
        tokens: Int[Array, "b t"],
        mask: Bool[Array, "b t"] | None = None,
        train: bool = False,
        segments: Int[Array, "b t"] | None = None,
    ) -> Float[Array, "b t d"]:
        """Return the head's input at each position.

        segments: numbers of the documents packed into a sequence, which do not see each other.
        """
        ...

    def __call__(
        self,
        tokens: Int[Array, "b t"],
        mask: Bool[Array, "b t"] | None = None,
        train: bool = False,
        segments: Int[Array, "b t"] | None = None,
    ) -> Float[Array, "b t vocab"]:
        """Return scores of the token after each position."""
        ...
