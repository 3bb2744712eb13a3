"""Van den Oord et al. 2017, Neural discrete representation learning (arXiv:1711.00937): the prior.

Section 3.3. The prior over the codes of a trained `vq_vae.py`: a Transformer (Esser et al. 2021,
arXiv:2012.09841) in place of the paper's PixelCNN. Codes of images that do not change are made once
and kept; those of images that are binarised at each reading are made as they are read. With
`num_classes` codes are drawn by class. Samples are images: codes of the prior, decoded.

    genax train experiments/vae/vq_vae.py:digits --workdir runs/vq
    genax train experiments/vae/vq_prior.py:digits --workdir runs/prior --config.pretrained=runs/vq
    genax sample runs/prior --num 64

Sizes are those of the autoencoder's run. The score "elbo" is a lower bound of log p(x) in nats: the
log-probability of an image's codes by the prior, and of the image given these by the decoder.
"""

from genax.front.trained import TrainedNetwork
from genax.hybrid.code_prior_task import code_prior
from genax.settings import NetworkSettings, Variant
from genax.transformer.settings import RANGES as TRANSFORMER
from genax.transformer.tasks import grids
from genax.vae import vq_settings
from genax.vae.vq_vae import VQVAE

# "pretrained" is the run of vq_vae.py whose codes are learned; its settings are taken.
DEFAULTS = vq_settings.DEFAULTS | grids.DEFAULTS | {"pretrained": "", "dropout": 0.1}
DIGITS = vq_settings.DIGITS | grids.SMALL | {"decay_steps": 600, "steps": 600}
BY_CLASS = {"num_classes": 10}
CIFAR10 = vq_settings.CIFAR10 | grids.LARGE | BY_CLASS | {"parallel": {"topology": "v5e:2x2"}}
VARIANTS = {
    "cpu": Variant("codes of vq_vae.py:cpu, in minutes on two cores"),
    "cifar10": Variant("codes of vq_vae.py:cifar10 by class", CIFAR10),
    "digits": Variant("codes of vq_vae.py:digits, embedded, in seconds", DIGITS),
    "digits-conditional": Variant("codes of vq_vae.py:digits by class", DIGITS | BY_CLASS),
}
RANGES = TRANSFORMER | vq_settings.RANGES
NETWORK = NetworkSettings("autoencoder", VQVAE)


def build(config, data=None):
    """Return the experiment that the settings describe, with its own images or those given."""
    return code_prior(config, data, TrainedNetwork)
