"""Autoencoders of diffusers: both halves, older files, pipelines, the way back, what is refused."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from genax.core import GenaxError, tree
from genax.hybrid.adversarial_autoencoder import Networks
from genax.interop import export_pretrained, load_pipeline, load_pretrained
from genax.interop.export import to_pretrained
from genax.vae.kl_autoencoder import KLAutoencoder
from genax.vae.vq_autoencoder import VQAutoencoder
from tests.cli.command import call, succeed, train
from tests.interop.agreement import make_reference
from tests.interop.autoencoders import CASES, images
from tests.interop.case import BATCH
from tests.parity import difference, require

SIZES = {case.name: case for case in CASES}
EXPERIMENT = "experiments/vae/kl_autoencoder.py:digits"
WEIGHTS = "diffusion_pytorch_model.safetensors"
KL = KLAutoencoder(8, (1, 2), 1, latent_channels=2, num_groups=4, scaling_factor=0.6)
VQ = VQAutoencoder(8, (1, 2), 1, num_codes=9, attention_levels=(1,), num_groups=4)


def saved(folder, name, number, **changes):
    """A model of diffusers as it is saved, with other settings in its config.json."""
    case = SIZES[name]
    make_reference(case, case.sizes[number]).save_pretrained(folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


@pytest.mark.long
def test_both_halves_and_the_divergence_agree_with_diffusers(tmp_path):
    """The encoder's distribution, of which the whole model shows the mean only."""
    [torch] = require("torch")
    case = SIZES["AutoencoderKL"]
    model = make_reference(case, case.sizes[0])
    with torch.no_grad():  # so that a logarithm of a variance reaches its end
        model.quant_conv.bias[-1] += 30.0
    model.save_pretrained(tmp_path)
    module, variables = load_pretrained(tmp_path)
    x = images(np.random.default_rng(1), model.config)["sample"]
    z = np.random.default_rng(2).normal(size=(BATCH, 4, 4, 4)).astype(np.float32)

    @jax.jit
    def ours(variables, x, z):
        found = module.apply(variables, x, method="encode").latent_dist
        decoded = module.apply(variables, z, method="decode").sample
        return found.mean, found.log_variance, found.kl_to_standard().sum((1, 2, 3)), decoded

    with torch.no_grad():
        posterior = model.encode(torch.tensor(x.transpose(0, 3, 1, 2))).latent_dist
        decoded = model.decode(torch.tensor(z.transpose(0, 3, 1, 2))).sample
    theirs = (posterior.mean, posterior.logvar, posterior.kl(), decoded)
    assert float(posterior.logvar.max()) == 20
    for found, expected in zip(ours(variables, x, z), theirs, strict=True):
        expected = expected.permute(0, 2, 3, 1) if expected.ndim == 4 else expected
        assert difference(found, expected) < 1e-5


def test_the_vae_of_a_pipeline(tmp_path):
    """A directory of Stable Diffusion has attention under its older names."""
    folder = saved(tmp_path / "vae", "AutoencoderKL", 0)
    expected = load_pretrained(folder)
    older = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = {}
    for name, array in load_file(folder / WEIGHTS).items():
        for new, old in older.items():
            name = name.replace(f".{new}.", f".{old}.")
        tensors[name] = array
    assert "decoder.mid_block.attentions.0.proj_attn.weight" in tensors
    save_file(tensors, folder / WEIGHTS)
    index = {"_class_name": "StableDiffusionPipeline", "vae": ["diffusers", "AutoencoderKL"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index | {"tokenizer": [None, None]}))
    parts, variables = load_pipeline(tmp_path)
    assert parts["vae"] == expected[0]
    assert parts["vae"].autoencoder.scaling_factor == 0.18215
    assert tree.digest(variables["vae"]) == tree.digest(expected[1])


@pytest.mark.parametrize("network", [KL, VQ], ids=["kl", "vq"])
def test_a_network_of_genax_is_exported(network, tmp_path):
    """diffusers finds all tensors in its places, and genax the same network; the rest is left."""
    [diffusers] = require("diffusers")
    networks = Networks(network, perceptual=None)
    image = jnp.zeros((1, 4, 4, 3))
    shapes = jax.eval_shape(
        lambda: networks.init(jax.random.key(0), image, method=lambda n, x: n.autoencoder(x))
    )
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda s: rng.normal(size=s.shape).astype(s.dtype), shapes)
    more = {"params": variables["params"] | {"discriminator": {"kernel": np.zeros(3)}}}
    config, found = to_pretrained(networks, more)
    export_pretrained(config, found, tmp_path / "out")
    theirs = getattr(diffusers, config["_class_name"])
    _, report = theirs.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(report.values()), report
    module, again = load_pretrained(tmp_path / "out")
    assert tree.digest(again) == tree.digest(variables)
    assert module.autoencoder == replace(network, parent=None)


def test_a_network_that_diffusers_lacks():
    network = replace(KL, epsilon=1e-5, parent=None)
    with pytest.raises(GenaxError, match="a KLAutoencoder with epsilon=1e-05 cannot be exported"):
        to_pretrained(Networks(network), {"params": {}})


@pytest.mark.long
def test_an_import_is_a_run_that_is_scored_trained_further_and_given_back(tmp_path):
    folder = saved(tmp_path / "theirs", "AutoencoderKL", 2)
    succeed("import", folder, tmp_path / "run")
    few = ("--config.latent_examples=20", "--config.num_samples=2")
    scores = succeed("eval", tmp_path / "run", "--json", *few).json
    assert {"reconstruction/psnr", "latents/scale_factor", "divergence"} <= scores.keys()
    assert np.isfinite(scores["latents/scale_factor"])
    succeed("sample", tmp_path / "run", "--num", 2, *few)
    settings = {"steps": 2, "batch_size": 4, "reconstruction_steps": 1, "latent_examples": 0}
    settings |= {"pretrained": tmp_path / "run", "num_samples": 2}
    settings |= {"discriminator_width": 4, "log_every": 1}
    refused = call(*train(EXPERIMENT, tmp_path / "on", **settings, scaling_factor=0.7))
    assert "scaling_factor=0.7 differs from 0.18215 of the weights" in refused.err
    assert "taken " in succeed(*train(EXPERIMENT, tmp_path / "on", **settings)).out
    scaled = "--config.scaling_factor=0.7"
    assert "is exported as it came" in call("export", tmp_path / "run", tmp_path / "x", scaled).err
    succeed("export", tmp_path / "on", tmp_path / "out", "--raw", scaled)
    module, variables = load_pretrained(tmp_path / "out")
    autoencoder = load_pretrained(folder)[0].autoencoder
    assert module.autoencoder == replace(autoencoder, scaling_factor=0.7, parent=None)
    assert tree.digest(variables) != tree.digest(load_pretrained(folder)[1])


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("AutoencoderKL", {"act_fn": "relu"}, "act_fn='relu', but 'silu' alone"),
        ("AutoencoderKL", {"use_quant_conv": False}, "only both or neither are supported"),
        ("AutoencoderKL", {"latents_mean": [0.1] * 4}, "latents_mean=.* but None alone"),
        ("AutoencoderKL", {"block_out_channels": [8, 12]}, "only multiples of the first"),
        ("AutoencoderKL", {"up_block_types": ["UpDecoderBlock2D"]}, "decoders that mirror their"),
        ("AutoencoderKL", {"down_block_types": ["DownBlock2D"]}, "a list of DownEncoderBlock2D"),
        ("VQModel", {"norm_type": "spatial"}, "norm_type='spatial', but 'group' alone"),
        ("VQModel", {"lookup_from_codebook": True}, "lookup_from_codebook=True, but False alone"),
    ],
)
def test_refused_settings(name, changes, said, tmp_path):
    with pytest.raises(GenaxError, match=said):
        load_pretrained(saved(tmp_path / "theirs", name, 0, **changes))
