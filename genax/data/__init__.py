"""Data sets as frozen descriptions: TensorFlow Datasets stores them, Grain reads them."""

from genax.data.given import given_or
from genax.data.images import ImageData
from genax.data.joined import Joined
from genax.data.latents import Latents
from genax.data.series import SeriesData
from genax.data.text.text import TextData
from genax.data.text.tokenizers import load_tokenizer

__all__ = [
    "ImageData",
    "Joined",
    "Latents",
    "SeriesData",
    "TextData",
    "given_or",
    "load_tokenizer",
]
