"""Chen et al. 2020, Generative pretraining from pixels (Image GPT, ICML 2020), of raw pixels.

A Transformer that predicts the pixels of an image one after another, row by row. So its likelihood
is exact, and has no bound: the score "log_likelihood" is log p(x) in nats. One token is one channel
of `patch` x `patch` pixels, all of whose levels it tells: an image has fewer tokens and loses
nothing. The paper clusters colours instead, which makes its likelihoods those of other images.

    genax train experiments/transformer/pixel_gpt.py --workdir runs/pixels
    genax train experiments/transformer/pixel_gpt.py:digits --workdir runs/digits

On MNIST that is binarised at each reading, autoregressive models have 81 to 85 nats.
"""

from genax.core import Experiment
from genax.settings import Variant
from genax.settings.ranges import COUNT
from genax.transformer.settings import RANGES as TRANSFORMER
from genax.transformer.tasks import grids
from genax.transformer.tasks.pixels import pixel_task
from genax.vae import settings
from genax.vae.tasks import images

SHARED = ("train_split", "test_split", "size", "threshold")
# How images are made zeros and ones; none leaves them grey.
BINARY = {"dataset": "mnist", "binarisation": "dynamic"}
DEFAULTS = {name: settings.DEFAULTS[name] for name in SHARED} | grids.DEFAULTS | BINARY
DEFAULTS |= {
    # Levels of a pixel, to which it is rounded; zeros and ones are 2.
    "levels": 2,
    # Rows and columns of the pixels that one token stands for.
    "patch": 2,
}
DEFAULTS |= {"batch_size": 32, "eval_batch_size": 100, "num_samples": 16}
SLICE = {"patch": 1, "remat": "full", "parallel": {"topology": "v5e:2x4", "mesh": "fsdp=-1"}}
GREY = {"binarisation": "none", "levels": 256}
CIFAR10 = grids.LARGE | SLICE | GREY | {"dataset": "cifar10"}
DIGITS = grids.SMALL | GREY | {"dataset": "digits", "levels": 17, "patch": 1}
VARIANTS = {
    "cpu": Variant("MNIST, binarised at each reading: 196 tokens of 2x2 pixels"),
    "mnist": Variant("the same by single pixels: 784 tokens", grids.LARGE | SLICE),
    "cifar10": Variant("CIFAR-10: 3,072 tokens of 256 levels", CIFAR10),
    "digits": Variant("8x8 digits of 17 levels, embedded: minutes on two cores", DIGITS),
    "digits-conditional": Variant("the same by class", DIGITS | {"num_classes": 10}),
}
RANGES = TRANSFORMER | {name: settings.RANGES[name] for name in ("size", "threshold", "levels")}
RANGES |= {name: settings.RANGES[name] for name in ("binarisation", "num_classes")}
RANGES |= {"patch": COUNT}


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    train, test = images(config, data)
    return Experiment(pixel_task(config, train, scored=test is not None), train, test)
