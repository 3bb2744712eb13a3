"""Peebles & Xie 2023, Scalable diffusion models with Transformers (DiT, arXiv:2212.09748).

A Transformer over patches predicts the noise of 1000 linear steps and their variances. Time and
class modulate its norms and gate its blocks (adaLN-Zero); two other ways of the paper are settings
too. Samples of a class are guided (Ho & Salimans 2022, arXiv:2207.12598) and drawn by a shorter
chain.

    genax train experiments/diffusion/dit.py --workdir runs/dit
    genax train experiments/diffusion/dit.py:digits --workdir runs/digits
    genax train experiments/diffusion/dit.py:xl2 --workdir runs/xl2 --config.dataset=npz:PATH

digits: 3,000 steps in 2 min 33 s of processor time (5 min 13 s on busy cores), one grid and the
scores; test bits per dimension 2.75 (17 levels), squared error of the noise 0.0805; all of 60
samples are nearest (5 neighbours) to digits of the class that was asked for.
The paper's sizes train on latents of ImageNet: arrays "latent" [n, 32, 32, 4], those of Stable
Diffusion's autoencoder times 0.18215, and "label" [n], made elsewhere. Their samples are latents
too. The paper's FID of 50,000 samples after 400,000 steps without guidance: 68.4 (s2), 43.5 (b2),
23.3 (l2), 19.5 (xl2); xl2 after 7,000,000 steps: 9.62, with a guidance of 1.5 2.27. None of them
was run here.
"""

import dataclasses
import io
from functools import partial

import numpy as np

from genax.core import GenaxError
from genax.core.task import Rendered
from genax.data.latent_files import LatentFiles
from genax.diffusion.dit import CONDITIONINGS, DIT_PRESETS, PARTITION_RULES, DiT
from genax.diffusion.learned_chain import NUM_TIMESTEPS
from genax.diffusion.losses import denoising_loss
from genax.diffusion.predictions import EPSILON, V, with_variance
from genax.diffusion.process import DiscreteProcess, fixed_large, learned_range
from genax.diffusion.respacing import in_sections
from genax.diffusion.schedules import linear_betas
from genax.diffusion.settings import CHAIN, COMPARISON
from genax.diffusion.settings import DEFAULTS as SHARED
from genax.diffusion.settings import DIGITS as DIGITS_RUN
from genax.diffusion.settings import RANGES as SHARED_RANGES
from genax.diffusion.solvers import ancestral
from genax.diffusion.tasks import chain_bound, image_experiment
from genax.diffusion.variational_losses import hybrid_loss
from genax.evaluation.pictures import image_grid
from genax.settings import NetworkSettings, Variant, from_config, start_from
from genax.settings.ranges import AMOUNT, COUNT, POSITIVE, Range

PREDICTIONS = {"noise": EPSILON, "v": V}
DEFAULTS = {
    **(SHARED | CHAIN),
    # What the weights start from, an import or another run; "" is nothing.
    "pretrained": "",
    # Channels of latents, which dataset="npz:PATH" has in place of images; 0 is images.
    "latent_channels": 0,
    "patch_size": 4,
    "hidden_size": 72,
    "num_layers": 7,
    "num_heads": 4,
    "conditioning": "adaln_zero",
    # 0 as in the paper's code; diffusers, for `genax export`, has 1.
    "frequency_shift": 0,
    "feed_forward_epsilon": 1e-6,
    "scan_layers": False,
    "attention": "auto",
    "num_classes": 10,
    "label_dropout": 0.1,
    "guidance": 1.5,
    # What the network predicts, and whether it learns the variances of the steps too.
    "prediction": "noise",
    "learn_variance": True,
    # The evenly spaced timesteps of the chain that samples are drawn by.
    "sampling_steps": 100,
}
DIGITS = DIGITS_RUN | {
    "patch_size": 2,
    "hidden_size": 64,
    "num_layers": 3,
    "num_levels": 17,
    # More steps than a U-Net needs: a Transformer has to learn what neighbours are.
    "learning_rate": 2e-3,
    "steps": 3_000,
    "checkpoint_every": 1_000,
    "sample_every": 1_000,
}
PAPER = {
    "dataset": "npz:latents",
    "test_split": "",
    "latent_channels": 4,
    "size": 32,
    "num_classes": 1000,
    "guidance": 4.0,
    "learning_rate": 1e-4,
    "warmup_steps": 0,
    "gradient_clip": 0.0,
    "ema_decay": 0.9999,
    "sampling_steps": 250,
    "batch_size": 256,
    "steps": 400_000,
    "log_every": 100,
    "checkpoint_every": 10_000,
    "sample_every": 50_000,
    "scan_layers": True,
    "remat": "full",
    "dtype": "bfloat16",
}
SLICES = {"s": "v5e:2x2", "b": "v5e:2x4", "l": "v5e:4x4", "x": "v5e:4x8"}


def published_dit(name, preset):
    """Return a size of the paper."""
    sizes = {key: value for key, value in dataclasses.asdict(preset).items() if key != "params"}
    parallel = {"topology": SLICES[name[0]], "mesh": "fsdp=-1"}
    about = f"latents of ImageNet at 256x256, {preset.params / 1e6:.1f} M parameters"
    return Variant(about, PAPER | sizes | {"parallel": parallel})


VARIANTS = {
    "cpu": Variant("Fashion-MNIST at 28x28 by class, in minutes on two cores, 0.7 M parameters"),
    "comparison": Variant("the protocol by which this chapter's models are compared", COMPARISON),
    "digits": Variant("8x8 digits, embedded, by class: in minutes on two cores", DIGITS),
    "digits-cross-attention": Variant(
        "digits; time and class are read by a further attention of each block",
        DIGITS | {"conditioning": "cross_attention"},
    ),
    **{name: published_dit(name, preset) for name, preset in DIT_PRESETS.items()},
    "xl2-512": Variant(
        "latents of ImageNet at 512x512, 674.8 M parameters",
        published_dit("xl2", DIT_PRESETS["xl2"]).settings | {"size": 64},
    ),
}
RANGES = SHARED_RANGES | {
    "latent_channels": AMOUNT,
    **dict.fromkeys(("patch_size", "hidden_size", "num_layers", "num_heads"), COUNT),
    "conditioning": CONDITIONINGS,
    "frequency_shift": Range(least=0, most=1, whole=True),
    "feed_forward_epsilon": POSITIVE,
    "attention": ("auto", "xla", "cudnn", "splash"),
    "prediction": tuple(PREDICTIONS),
    "num_timesteps": NUM_TIMESTEPS,
}
NETWORK = NetworkSettings(
    "denoiser", DiT, {"image_size": "size"}, own=("null_class", "out_channels", "two_times")
)


def as_arrays(samples, batch, workdir) -> Rendered:
    """Return latents as a file of arrays, which a decoder elsewhere makes images of."""
    file = io.BytesIO()
    labels = {"label": np.asarray(batch["label"])} if "label" in batch else {}
    np.savez(file, latent=np.asarray(samples), **labels)
    return Rendered(file.getvalue(), ".npz")


def latents(config):
    """Return the latents of the training and, if there is a test split, of the test images."""
    sizes = config.size, config.latent_channels
    make = partial(LatentFiles, config.dataset, *sizes, classes=config.num_classes or None)
    train = make(split=config.train_split)
    return train, make(split=config.test_split) if config.test_split else None


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    if config.latent_channels and config.fidelity != "none":
        raise GenaxError(
            f"config.fidelity={config.fidelity} compares images, and "
            f"config.latent_channels={config.latent_channels} makes latents: set "
            "config.fidelity=none, and score what a decoder makes of the samples."
        )
    process = DiscreteProcess(linear_betas(config.num_timesteps, scaled=True))
    prediction = PREDICTIONS[config.prediction]
    loss, variance = denoising_loss, fixed_large
    if config.learn_variance:
        prediction, variance = with_variance(prediction), learned_range
        # One term of the bound, and not as many as there are timesteps.
        loss = partial(hybrid_loss, factor=1 / config.num_timesteps, num_levels=config.num_levels)
    common = {"process": process, "prediction": prediction}
    scores = {"mse": partial(denoising_loss, **common, train=False)}
    if not config.latent_channels:
        bound = chain_bound(config, process)
        scores["bits_per_dim"] = partial(bound, prediction=prediction, variance=variance)
    steps = in_sections(config.num_timesteps, [config.sampling_steps])
    experiment = image_experiment(
        config,
        data,
        network=partial(from_config, DiT, config, image_size=config.size),
        loss=partial(loss, **common),
        solvers={"images": ancestral(process, variance, steps)},
        said={"images": {"solver": "ancestral", "steps": config.sampling_steps}},
        scores=scores,
        clip_denoised=not config.latent_channels,
        render=as_arrays if config.latent_channels else image_grid,
        own=latents if config.latent_channels else None,
        **common,
    )
    return dataclasses.replace(
        experiment,
        task=dataclasses.replace(experiment.task, rules=PARTITION_RULES),
        pretrained=start_from(config, "denoiser"),
    )
