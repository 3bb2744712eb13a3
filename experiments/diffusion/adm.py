"""Dhariwal & Nichol 2021, Diffusion models beat GANs on image synthesis (arXiv:2105.05233).

ADM: a U-Net that learns variances, conditioned on the class, and a classifier of noisy images whose
gradient guides the samples. The classifier is trained after the denoiser, in the last part of a
run. With a `factor` above 1 the network makes images larger: samples are test images, made smaller
and enlarged again. A run that was stopped early may guide samples too, as the worse network of
autoguidance (Karras et al. 2024, arXiv:2406.02507).

    genax train experiments/diffusion/adm.py --workdir runs/adm
    genax train experiments/diffusion/adm.py:digits --workdir runs/digits
    genax train experiments/diffusion/adm.py:digits --workdir runs/guided --config.worse=runs/digits

Sizes are those of the paper's code. The paper's FID with guidance: 2.07 (64x64), 2.97 (128x128),
4.59 (256x256) and 7.72 (512x512); none was run here. Steps, batches and rates of the denoisers are
the paper's, but were not read there again. Steps, rate and decay of the classifiers are the ones
that its code states for 128x128.
"""

from dataclasses import replace
from functools import partial

from genax.core import Evaluator, GenaxError, Phase, Sampler, Stage
from genax.diffusion.classification import noisy_classification_loss
from genax.diffusion.guidance import autoguidance, classifier_guidance
from genax.diffusion.learned_chain import DEFAULTS as SHARED
from genax.diffusion.learned_chain import IMAGENET as LONG_RUN
from genax.diffusion.learned_chain import RANGES as SHARED_RANGES
from genax.diffusion.learned_chain import chain, learned_experiment
from genax.diffusion.networks import GuidedNetworks
from genax.diffusion.noisy_classifier import PRESETS as CLASSIFIERS
from genax.diffusion.noisy_classifier import NoisyClassifier
from genax.diffusion.predictions import EPSILON_AND_VARIANCE
from genax.diffusion.settings import DIGITS as DIGITS_RUN
from genax.diffusion.unet import ADM, PRESETS, UNet, UpsamplingUNet
from genax.diffusion.upsampling import with_smaller_image
from genax.diffusion.variational_losses import hybrid_loss
from genax.evaluation.examples import first_examples
from genax.nn.conditions import on_label, unconditional
from genax.nn.optimizers import adamw, warmup_linear
from genax.settings import Variant, from_config
from genax.settings.ranges import AMOUNT, COUNT, NOT_NEGATIVE, POSITIVE

# Width of an attention head, 0 for four heads; width of the time's sinusoids, 0 for `channels`.
HEADS = {"head_dim": 0, "time_channels": 0}
SIZES = ("channels", "multipliers", "num_res_blocks")


def denoiser(preset):
    """Return a preset's sizes as settings."""
    names = (*SIZES, *HEADS, "attention_resolutions", "dropout", "num_groups")
    return {name: (HEADS | PRESETS[preset])[name] for name in names}


def classifier(preset):
    """Return the sizes of a classifier as settings."""
    return {name: (HEADS | CLASSIFIERS[preset])[name] for name in (*SIZES, *HEADS)}


DEFAULTS = SHARED | {
    "num_classes": 10,
    "unet": denoiser("cpu"),
    "schedule": "linear",
    # The last steps, which train the classifier; 0 is no classifier.
    "classifier_steps": 300,
    "classifier": HEADS | {"channels": 16, "multipliers": (1, 2, 4), "num_res_blocks": 1},
    "classifier_rate": 3e-4,
    "classifier_decay": 0.05,
    # The factor of the classifier's gradient in samples.
    "classifier_scale": 1.0,
    # The folder of a run with the same network, which is worse; "" is none. Its strength.
    "worse": "",
    "autoguidance": 2.0,
    # How many times smaller the image is that the network gets; 1 is none.
    "factor": 1,
}
DIGITS = DIGITS_RUN | {
    "unet": denoiser("digits"),
    "classifier": HEADS | {"channels": 16, "multipliers": (1, 2), "num_res_blocks": 1},
    "num_levels": 17,
    "steps": 1_200,
    "classifier_steps": 400,
}
IMAGENET = LONG_RUN | {
    "dataset": "tfds:imagenet2012",
    "num_classes": 1_000,
    "schedule": "linear",
    "flip": True,
    # The paper's code computes in 16 bits too.
    "dtype": "bfloat16",
    "batch_size": 256,
}


def split_over(topology):
    """Return the settings of a slice whose parameters lie on 64 chips: 64 divides all widths."""
    return {"topology": topology, "mesh": "data=-1,fsdp=64"}


def imagenet(size, steps, classifier_scale, topology, **settings):
    """Return the variant of a size of ImageNet."""
    own = {
        "size": size,
        "unet": denoiser(f"adm{size}"),
        "classifier": classifier(f"adm{size}"),
        "classifier_steps": 300_000,
        "classifier_scale": classifier_scale,
        "parallel": split_over(topology),
        "steps": steps + 300_000,
    }
    what = f"ImageNet at {size}x{size} with classes, as in the paper; TFDS imagenet2012"
    return Variant(what, IMAGENET | own | settings)


VARIANTS = {
    "cpu": Variant("Fashion-MNIST at 28x28 in minutes on two cores"),
    "digits": Variant("8x8 digits of the classes that a classifier asks for", DIGITS),
    "digits-upsampler": Variant(
        "4x4 digits made 8x8", DIGITS | {"factor": 2, "classifier_steps": 0, "steps": 800}
    ),
    "imagenet64": imagenet(
        64,
        540_000,
        1.0,
        "v5e:8x8",
        schedule="cosine",
        learning_rate=3e-4,
        batch_size=2_048,
        remat="full",
    ),
    "imagenet128": imagenet(128, 4_360_000, 0.5, "v5e:8x8"),
    "imagenet256": imagenet(256, 1_980_000, 1.0, "v5e:8x16", remat="full"),
    "imagenet512": imagenet(512, 1_940_000, 4.0, "v5e:16x16", remat="full"),
    "imagenet64-256": Variant(
        "64x64 images made 256x256, ADM-U's second part",
        IMAGENET
        | {
            "size": 256,
            "unet": denoiser("adm64-256"),
            "factor": 4,
            "classifier_steps": 0,
            "parallel": split_over("v5e:8x8"),
            "remat": "full",
            "steps": 500_000,
        },
    ),
}
RANGES = SHARED_RANGES | {
    "unet.head_dim": AMOUNT,
    "unet.time_channels": AMOUNT,
    "classifier_steps": AMOUNT,
    "classifier.channels": COUNT,
    "classifier.multipliers": COUNT,
    "classifier.num_res_blocks": COUNT,
    "classifier.head_dim": AMOUNT,
    "classifier.time_channels": AMOUNT,
    "classifier_rate": NOT_NEGATIVE,
    "classifier_decay": NOT_NEGATIVE,
    "classifier_scale": NOT_NEGATIVE,
    "autoguidance": POSITIVE,
    "factor": COUNT,
}


def sized(sizes, **fields):
    """Return the fields of a network of ADM with the sizes of settings."""
    heads = {name: sizes[name] or None for name in HEADS}
    return {**ADM, **sizes, **heads, "num_heads": 4, **fields}


def network(config, **fields):
    """Return the denoiser of the settings."""
    unet = from_config(UNet, config, **sized(config.unet, **fields))
    return UpsamplingUNet(unet) if config.factor > 1 else unet


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    _check(config)
    process = chain(config)
    guide, said = {}, {}
    if config.worse:
        guide = {"guide": autoguidance(config.autoguidance, process, EPSILON_AND_VARIANCE)}
        said = {"guidance": f"{config.autoguidance} away from {config.worse}"}
    elif config.classifier_steps:
        scale = config.classifier_scale
        guide = {"guide": classifier_guidance(scale, process, EPSILON_AND_VARIANCE)}
        said = {"guidance": f"{scale} by a classifier"}
    experiment = learned_experiment(
        config,
        data,
        partial(network, config),
        partial(hybrid_loss, factor=1 / config.num_timesteps),
        changed=partial(_of_smaller, factor=config.factor),
        sampling=guide,
        said=said,
    )
    if config.factor > 1:
        experiment = _upsampling(experiment, config)
    if config.worse:
        return _autoguided(experiment, config)
    return _with_classifier(experiment, config, process) if config.classifier_steps else experiment


def _check(config):
    if config.classifier_steps and not config.num_classes:
        raise GenaxError(
            "config.classifier_steps trains a classifier, which needs classes: set "
            "config.num_classes, or config.classifier_steps=0."
        )
    if config.classifier_steps >= config.steps:
        raise GenaxError(
            f"config.classifier_steps={config.classifier_steps} are the last of "
            f"config.steps={config.steps}, and none is left for the denoiser."
        )
    if config.worse and config.classifier_steps:
        raise GenaxError(
            f"config.worse={config.worse} guides samples in place of a classifier, so "
            f"config.classifier_steps={config.classifier_steps} has nothing to train; set it to 0."
        )
    if config.guidance != 1 and (config.worse or config.classifier_steps):
        raise GenaxError(
            f"config.guidance={config.guidance} is classifier-free, but samples are guided by "
            "config.worse or config.classifier_steps already; choose one."
        )
    if config.label_dropout and config.factor > 1:
        raise GenaxError(
            f"config.factor={config.factor} with config.label_dropout={config.label_dropout}: the "
            "upsampler has no label for no condition; set config.label_dropout=0."
        )


def _of_smaller(loss, factor):
    """Return the loss, whose denoiser also gets a smaller image if the factor is above 1."""
    if factor == 1:
        return loss
    return lambda nets, batch, condition: loss(
        nets, batch, condition=with_smaller_image(condition, factor)
    )


def _upsampling(experiment, config):
    """Return the experiment with a sampler that makes smaller test images large again."""
    old = experiment.task.samplers["images"]
    names = ("image", "label") if config.num_classes else ("image",)
    condition = on_label if config.num_classes else unconditional
    sampler = Sampler(
        partial(old.function, condition=with_smaller_image(condition, config.factor)),
        old.render,
        partial(first_examples, experiment.evaluation or experiment.data, names=names),
    )
    return experiment.replace(samplers={"images": sampler})


def _autoguided(experiment, config):
    """Return the experiment with a worse network, which another run trained and this one keeps."""
    task = experiment.task
    better = task.networks.denoiser
    return replace(
        experiment,
        task=replace(
            task,
            networks=GuidedNetworks(better, better.clone()),
            fixed=("guide",),
            given=task.samplers["images"].function,
        ),
        pretrained={config.worse: {"params/denoiser": "params/guide"}},
    )


def _with_classifier(experiment, config, process):
    """Return the experiment with a last stage that trains the classifier."""
    task = experiment.task
    fields = {name: config.unet[name] for name in ("attention_resolutions", "num_groups")}
    guide = NoisyClassifier(
        **sized(config.classifier, **fields), num_classes=config.num_classes, dtype=config.dtype
    )
    rate = warmup_linear(config.classifier_rate, 0, config.classifier_steps)
    optimizer = adamw(rate, config.classifier_decay, b2=0.999, clip=0.0)
    loss = partial(noisy_classification_loss, process=process)
    phase = Phase("guide", loss, ("guide",), optimizer)
    [first] = task.stages
    return replace(
        experiment,
        task=replace(
            task,
            networks=GuidedNetworks(task.networks.denoiser, guide),
            stages=[replace(first, steps=config.steps - config.classifier_steps), Stage([phase])],
        ),
    ).replace(evaluators={"classifier_loss": Evaluator(partial(loss, train=False))})
