"""Gomez-Bombarelli et al. 2018, Automatic Chemical Design (arXiv:1610.02415), as in MOSES
(Polykovskiy et al. 2020, arXiv:1811.12823).

A VAE of SMILES, the characters of a molecule: recurrent encoder and decoder, a warm-up of the
divergence. Scores are the share of samples that are molecules by RDKit, how many of them differ and
how many are new; samples are drawn as molecules.

    pip install 'genax[molecules]'
    genax train experiments/vae/smiles.py --workdir runs/smiles

MOSES reports validity 0.977, unique@10k 0.998 and novelty 0.695 of its VAE, trained on all 1.58
million molecules. `digits` is trained on SMILES that a small grammar makes, no data of chemistry:
in 2 minutes of processor time validity 0.90, uniqueness 0.90 and novelty 0.61 of 500 samples; 17%
of the test molecules are reconstructed, and their divergence is 11.0 nats. With beta=1 and
word_dropout=0 it is 0.98, 0.91 and 0.58, but the divergence 0.3 nats: the latent says nothing.
"""

from functools import partial

import jax.numpy as jnp
import numpy as np
import optax

from genax.core import Evaluator, Experiment, Phase, Sampler, Stage, Task
from genax.data import given_or
from genax.data.text.lines import LineData
from genax.evaluation.examples import first_examples
from genax.evaluation.molecules import check_rdkit, draw_molecules, draw_ways, molecules
from genax.nn.optimizers import RANGES as OPTIMIZER
from genax.nn.optimizers import clip_by_norm, warmup_constant
from genax.settings import Variant, from_config
from genax.settings.ranges import AMOUNT, COUNT, NOT_NEGATIVE, SHARE
from genax.vae.networks import Networks
from genax.vae.recurrent import GRUDecoder, GRUEncoder
from genax.vae.sequences import (
    interpolate_rows,
    right_rows,
    sample_rows,
    sequence_elbo,
    sequence_elbo_loss,
)

DEFAULTS = {
    "dataset": "moses",
    "train_split": "train[:100000]",
    "test_split": "test[:2000]",
    # The part of an example that is read; "" is its only text.
    "text": "",
    # All characters that texts may have; "" is those of the data.
    "characters": "#()-123456=BCFHNOS[]clnors",
    # Tokens of a row, and how many there are: three more than characters.
    "context": 60,
    "vocab_size": 32,
    # Of the encoder; of the decoder.
    "encoder_size": 128,
    "latent_size": 64,
    "hidden_size": 256,
    "num_layers": 1,
    "embed_size": 32,
    # The weight of the divergence from the prior, and the steps in which it grows from 0. With 1
    # the decoder, which sees all characters before, hardly uses the latent.
    "beta": 0.3,
    "beta_warmup_steps": 2_000,
    # The share of characters that the decoder does not see in training.
    "word_dropout": 0.3,
    "temperature": 1.0,
    "molecule_samples": 1_000,
    "learning_rate": 1e-3,
    # The largest norm of gradients.
    "clip": 5.0,
    "batch_size": 128,
    "steps": 6_000,
    "log_every": 100,
    "checkpoint_every": 2_000,
    "sample_every": 2_000,
    "num_samples": 24,
}
CHAINS = {
    "dataset": "carbon_chains",
    "characters": "",
    "train_split": "train",
    "test_split": "test",
    "context": 32,
    "vocab_size": 10,
    "encoder_size": 48,
    "latent_size": 16,
    "hidden_size": 96,
    "embed_size": 16,
    "beta_warmup_steps": 500,
    "molecule_samples": 500,
    "learning_rate": 3e-3,
    "steps": 1_500,
    "steps_per_call": 10,
    "checkpoint_every": 1_500,
    "sample_every": 1_500,
}
MOSES = {
    "train_split": "train",
    "test_split": "test[:10000]",
    "encoder_size": 256,
    "latent_size": 128,
    "hidden_size": 512,
    "num_layers": 3,
    "beta": 1.0,
    "word_dropout": 0.0,
    "molecule_samples": 30_000,
    "learning_rate": 3e-4,
    "clip": 50.0,
    "beta_warmup_steps": 30_000,
    "batch_size": 512,
    "steps": 300_000,
    "checkpoint_every": 10_000,
    "sample_every": 10_000,
    "eval_every": 50_000,
    "parallel": {"topology": "v5e:2x2"},
}
VARIANTS = {
    "cpu": Variant("100,000 molecules of MOSES, small networks, on two cores"),
    "moses": Variant("all of MOSES, with the sizes of its VAE", MOSES),
    "digits": Variant("chains that a small grammar makes, embedded, in a minute", CHAINS),
}
RANGES = OPTIMIZER | {
    **dict.fromkeys(("context", "vocab_size", "encoder_size", "latent_size"), COUNT),
    **dict.fromkeys(("hidden_size", "num_layers", "embed_size", "molecule_samples"), COUNT),
    "beta": NOT_NEGATIVE,
    "beta_warmup_steps": AMOUNT,
    "word_dropout": SHARE,
    "temperature": NOT_NEGATIVE,
    "clip": NOT_NEGATIVE,
    "remat": ("none",),
}


def build(config, data=None):
    """Return the experiment that the settings describe, with its own data or that given."""
    check_rdkit()
    lines = partial(from_config, LineData, config, name=config.dataset)
    splits = (config.train_split, config.test_split)
    train, test = given_or(data, lambda: tuple(lines(split=split) for split in splits))
    dtype = jnp.dtype(config.dtype)
    encoder = from_config(GRUEncoder, config, hidden_size=config.encoder_size, dtype=dtype)
    decoder = from_config(GRUDecoder, config, dtype=dtype)
    beta = warmup_constant(config.beta, config.beta_warmup_steps)
    loss = partial(sequence_elbo_loss, beta=beta, word_dropout=config.word_dropout)
    adam = optax.chain(clip_by_norm(config.clip), optax.adam(config.learning_rate))
    write = partial(sample_rows, length=config.context - 1, temperature=config.temperature)

    def decode(rows, workdir):
        return train.opened(workdir).decode(rows)

    def training(workdir):
        return train.fingerprint(), train.texts

    def in_turn(num, workdir):
        found = first_examples(test, num, workdir, ("tokens",))
        return {**found, "other": np.roll(found["tokens"], -1, axis=0)}

    task = Task(
        networks=Networks(encoder, decoder),
        stages=[Stage([Phase("elbo", loss, ("encoder", "decoder"), adam)])],
        samplers={
            "molecules": Sampler(write, partial(draw_molecules, decode=decode)),
            "interpolation": Sampler(interpolate_rows, partial(draw_ways, decode=decode), in_turn),
        },
        evaluators={
            "elbo": Evaluator(sequence_elbo),
            "reconstructed": Evaluator(right_rows),
            "molecules": molecules(write, decode, training, config.molecule_samples),
        },
    )
    return Experiment(task, train, test)
