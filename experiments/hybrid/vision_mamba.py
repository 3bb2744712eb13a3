"""Zhu et al. 2024, Vision Mamba: efficient visual representation learning (Vim, arXiv:2401.09417).

State spaces read the patches of an image as a sequence, from both of its ends, and name its class;
the class token stands in the middle. The directions have mixers of their own (the paper's share two
projections), so Mamba, Mamba-2 and S4D take each other's place by `config.model`. Samples show
which pixels the likeliest class depends on.

    genax train experiments/hybrid/vision_mamba.py --workdir runs/vision_mamba
"""

from genax.hybrid.optimizers import at_most
from genax.hybrid.settings import STATES
from genax.hybrid.vision_classifier import MIXERS, VisionClassifier, show_slopes
from genax.settings import NetworkSettings, Variant
from genax.transformer.settings import network
from genax.transformer.tasks import classification

SMALL = {"hidden_size": 48, "num_layers": 3}
TINY = {"hidden_size": 16, "num_layers": 2, "patch_size": 2, "learning_rate": 4e-3}
DEFAULTS = classification.DEFAULTS | {
    # What mixes the patches: "mamba", "mamba2" or "s4d".
    "model": "mamba",
    # States of a channel, and channels of one of Mamba-2's heads.
    "state_size": 8,
    "head_dim": 32,
    "epsilon": 1e-5,
    **SMALL,
    "decay_steps": 2_500,
    "steps": 2_500,
}
VIM = {"patch_size": 16, "state_size": 16, "hidden_size": 192, "num_layers": 24}
# Section 4.1: 300 epochs of 1,024 images a step.
SCHEDULE = {"learning_rate": 1e-3, "weight_decay": 0.1, "batch_size": 1_024, "warmup_steps": 6_255}
EPOCHS = {"decay_steps": 375_300, "steps": 375_300}
PLACE = {"scan_layers": True, "remat": "full", "dtype": "bfloat16", "steps_per_call": 1}
SLICE = {"parallel": {"topology": "v5e:4x4", "mesh": "data=-1"}}
VARIANTS = {
    "cpu": Variant("Fashion-MNIST at 28x28 by Mamba, on two cores"),
    "cpu-s4d": Variant("the same by S4D", {"model": "s4d", "state_size": 64}),
    "cpu-mamba2": Variant("the same by Mamba-2", {"model": "mamba2", "state_size": 32}),
    "digits": Variant("digits of 8x8 pixels, for tests: seconds", classification.DIGITS | TINY),
    "vim-tiny": Variant(
        "ImageNet at 224x224 in the size of Vim-Ti; TFDS imagenet2012",
        classification.IMAGENET | VIM | SCHEDULE | EPOCHS | PLACE | SLICE,
    ),
}
RANGES = classification.RANGES | {"model": MIXERS, "state_size": STATES}
NETWORK = NetworkSettings(
    "classifier", VisionClassifier, {"image_size": "size"}, head=("num_classes",)
)


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    classifier = network(VisionClassifier, config, image_size=config.size)
    pictures = {"slopes": show_slopes}
    experiment = classification.experiment(classifier, config, data, pictures, rules=())
    (phase,) = experiment.task.stages[0].phases
    slower = at_most(phase.optimizer, config.learning_rate)
    return experiment.replace(optimizers={phase.name: slower})
