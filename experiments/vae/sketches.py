"""Sohn, Lee & Yan 2015, Learning Structured Output Representation (NeurIPS 2015).

A conditional VAE from line art to colour, with a prior that is learned of the line art. A sketch
has many colourings: each latent of its prior is another one. The U-Net between them sees the sketch
at every resolution.

    genax data prepare openmoji
    genax train experiments/vae/sketches.py --workdir runs/sketches
    genax sample runs/sketches --num 16

`likeness` is that of the colouring at the prior's mean, beside that of the sketch as it is, and
`variety` that of eight colourings of each sketch.
"""

from genax.settings import Variant
from genax.vae.translation_tasks import PAIRS, RANGES, translation_experiment

__all__ = ["DEFAULTS", "RANGES", "VARIANTS", "build"]

# The picture of the set that is made, and the one that it is made of.
OPENMOJI = {"dataset": "openmoji", "image": "colour", "source": "line_art", "size": 32}
DEFAULTS = PAIRS | OPENMOJI | {"flip": True}
DIGITS = {"dataset": "digit_pairs", "source": "strokes", "size": 8, "flip": False}
DIGITS |= {"widths": (16, 32), "hidden": (64,), "latent_size": 8}
DIGITS |= {"beta_warmup_steps": 200, "steps": 1_000}
VARIANTS = {
    "cpu": Variant("line art of OpenMoji to colour, 32x32, on two cores"),
    "digits": Variant("strokes to coloured 8x8 digits, embedded, in a minute", DIGITS),
}


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    return translation_experiment(config, data)
