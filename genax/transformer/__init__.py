"""Transformers: decoders, their losses, their optimizer and decoding."""
