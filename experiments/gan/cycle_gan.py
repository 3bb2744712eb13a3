"""Zhu et al. 2017, Unpaired image-to-image translation, CycleGAN (arXiv:1703.10593).

Two residual generators and two discriminators of patches (34x34 of small images, 70x70 in
`horse2zebra`), least squares, cycles weighted by 10 and identities by half of it, a pool of 50
fakes, Adam at 2e-4 with a linear decay.

    genax train experiments/gan/cycle_gan.py --workdir runs/cycle_gan

Variant digits in 216 seconds of processor time: of 297 test pairs the mean distance to the true
counterpart is 0.159 in colour and 0.212 in strokes. That of the source as it is would be 0.414. No
pair was seen in training.
"""

from functools import partial
from operator import itemgetter

import optax

from genax.core import Experiment, Phase, Sampler, Stage, Task
from genax.data import ImageData, Joined, given_or
from genax.data.jitter import jittered
from genax.data.selection import Selection
from genax.evaluation.examples import first_examples
from genax.evaluation.likeness import likeness
from genax.evaluation.pictures import side_by_side
from genax.gan.cycle_gan import (
    CycleNetworks,
    check_domains,
    cycle_discriminator_loss,
    cycle_generator_loss,
    to_a,
    to_b,
)
from genax.gan.image_pool import POOL, check_pool
from genax.gan.patch_discriminator import PatchDiscriminator
from genax.gan.resnet_generator import ResNetGenerator
from genax.gan.translation_settings import (
    DIGIT_PAIRS,
    IMAGES,
    PATCHES,
    PUBLISHED,
    RANGES,
    epochs,
)
from genax.nn.optimizers import constant_linear
from genax.settings import Variant, from_config

__all__ = ["RANGES"]

DEFAULTS = {
    **IMAGES,
    **PATCHES,
    "dataset": "emoji_styles",
    # Of each domain: the picture of the set, "" for the first, and the splits. Domains of one
    # training split take its records in turn, so no pair is seen and neither has more of a kind.
    "a": {"image": "twitter", "train": "train", "test": "test"},
    "b": {"image": "fluent", "train": "train", "test": "test"},
    # Whether image n of one domain's test split is the true counterpart of image n of the other's.
    "paired": True,
    "flip": True,
    "width": 32,
    "num_blocks": 3,
    "cycle_weight": 10.0,
    "identity_weight": 5.0,
    # Earlier fakes that each discriminator sees; 0 is none.
    "pool_size": 50,
    "batch_size": 4,
    **epochs(50),
}
HORSES = {
    **PUBLISHED,
    "dataset": "tfds:cycle_gan/horse2zebra",
    "a": {"image": "", "train": "trainA", "test": "testA"},
    "b": {"image": "", "train": "trainB", "test": "testB"},
    "paired": False,
    "width": 64,
    "num_blocks": 9,
    # There are more zebras than horses.
    **epochs(1_334),
}
VARIANTS = {
    "cpu": Variant("emoji of Twitter and Fluent, 32x32, on two cores"),
    "horse2zebra": Variant("the paper's horses and zebras; prepare TFDS cycle_gan", HORSES),
    "six-blocks": Variant(
        "horses and zebras of 128x128, with six residual blocks",
        HORSES | {"size": 128, "jitter": 15, "num_blocks": 6},
    ),
    "digits": Variant(
        "strokes and coloured 8x8 digits, embedded, in two minutes",
        {
            **DIGIT_PAIRS,
            "a": {"image": "strokes"},
            "b": {"image": "colour"},
            "flip": False,
            "width": 16,
            "constant_steps": 750,
            "decay_steps": 750,
            "batch_size": 8,
        },
    ),
}


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    check_pool(config.pool_size, config.batch_size)
    train, test = given_or(data, lambda: domains(config))
    channels = check_domains(train, config.identity_weight)
    judge = from_config(
        PatchDiscriminator, config, width=config.discriminator_width, norm="instance"
    )
    generator = partial(from_config, ResNetGenerator, config)
    rate = constant_linear(config.learning_rate, config.constant_steps, config.decay_steps)
    adam = optax.adam(rate, b1=config.b1)
    generators = partial(
        cycle_generator_loss,
        cycle_weight=config.cycle_weight,
        identity_weight=config.identity_weight,
    )
    discriminators = partial(cycle_discriminator_loss, pool_size=config.pool_size)
    phases = [
        Phase("generators", generators, ("to_a", "to_b"), adam),
        Phase("discriminators", discriminators, ("discriminator_a", "discriminator_b"), adam),
    ]
    return Experiment(
        Task(
            CycleNetworks(
                to_a=generator(channels=channels["a"]),
                to_b=generator(channels=channels["b"]),
                discriminator_a=judge,
                discriminator_b=judge.clone(),
            ),
            [Stage(phases, together=True)],
            samplers={
                "to_b": sampler(to_b, test, "a_image", config.paired and "b_image"),
                "to_a": sampler(to_a, test, "b_image", config.paired and "a_image"),
            },
            evaluators=scores() if config.paired else {},
            summed=(POOL,) if config.pool_size else (),
        ),
        train,
        test,
    )


def domains(config):
    """Return the training and the test images of both domains that the settings name."""
    images = partial(ImageData, config.dataset, size=config.size, damaged=config.damaged)
    jitter = partial(jittered, margin=config.jitter) if config.jitter else None

    first = Selection(every=2) if config.a.train == config.b.train else None
    halves = {"a": first, "b": first and first.validation}

    def domain(name, split, **changes):
        return images(split=config[name][split], image=config[name].image or None, **changes)

    changes = {"flip": config.flip, "transform": jitter}
    train = {name: domain(name, "train", select=half, **changes) for name, half in halves.items()}
    test = {name: domain(name, "test") for name in halves}
    return Joined(paired=False, **train), Joined(paired=config.paired, **test)


def sampler(function, test, source, real):
    """Return the sampler of translations of test images, drawn beside them and what is true."""
    render = partial(
        side_by_side, before=itemgetter(source), after=itemgetter(real) if real else None
    )
    names = ("a_image", "b_image")
    return Sampler(function, render, partial(first_examples, test, names=names))


def scores():
    """Return the distances of translations to their true counterparts."""
    return {
        name: likeness(function, itemgetter(source), what="the source", real=real)
        for name, function, source, real in (
            ("to_b", to_b, "a_image", "b_image"),
            ("to_a", to_a, "b_image", "a_image"),
        )
    }
