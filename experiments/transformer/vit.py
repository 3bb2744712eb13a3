"""Dosovitskiy et al. 2021, An image is worth 16x16 words (ViT, arXiv:2010.11929).

A Transformer encoder over image patches that names the class of an image; Ti and S are those of
Touvron et al. 2021 (DeiT, arXiv:2012.12877). Samples show what the class token attends to.

    genax train experiments/transformer/vit.py --workdir runs/vit

Variant cpu on two CPU cores that were shared: 7 minutes, test accuracy 87.6% (seed 0).
"""

from genax.settings import NetworkSettings, Variant
from genax.transformer.settings import network, published
from genax.transformer.tasks import classification
from genax.transformer.vit import VIT_PRESETS, ViT

SMALL = {"hidden_size": 64, "num_layers": 4, "num_heads": 4}
TINY = {"patch_size": 2, "hidden_size": 32, "num_layers": 2}
DEFAULTS = classification.DEFAULTS | {
    **SMALL,
    "dropout": 0.0,
    "epsilon": 1e-6,
}
# Dosovitskiy et al. 2021, table 3, ImageNet row: 300 epochs.
STEPS = 300 * 1_281_167 // 4_096
SCHEDULE = {"learning_rate": 3e-3, "warmup_steps": 10_000, "decay_steps": STEPS, "steps": STEPS}
REGULARISATION = {"weight_decay": 0.3, "dropout": 0.1}


def published_vit(preset):
    """Return a size of the paper."""
    about = f"ImageNet at 224x224, {preset.params / 1e6:.1f}M parameters; TFDS imagenet2012"
    settings = classification.IMAGENET | SCHEDULE | REGULARISATION | {"batch_size": 4_096}
    return Variant(about, settings | published(preset, topology="v5e:4x8"))


VARIANTS = {
    "cpu": Variant("Fashion-MNIST at 28x28 by attention, in minutes on two cores"),
    "digits": Variant("8x8 digits, embedded: for tests, seconds", classification.DIGITS | TINY),
    **{name: published_vit(preset) for name, preset in VIT_PRESETS.items()},
}
RANGES = classification.RANGES
NETWORK = NetworkSettings("classifier", ViT, {"image_size": "size"}, head=("num_classes",))


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    return classification.experiment(network(ViT, config, image_size=config.size), config, data)
