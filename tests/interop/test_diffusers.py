"""Directories of diffusers: repeated tensors, older classes, pipelines, the way back from a run."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from genax.core import GenaxError, tree
from genax.diffusion.dit import DiT
from genax.diffusion.networks import Networks
from genax.interop import export_pretrained, load_pipeline, load_pretrained
from genax.interop.dit import DiTTransformer2DModel
from genax.interop.export import to_pretrained
from tests.cli.command import succeed, train
from tests.interop.agreement import CASES, as_torch, make_reference
from tests.parity import require

DIT = next(case for case in CASES if case.name == "DiTTransformer2DModel")
WEIGHTS = "diffusion_pytorch_model.safetensors"
EMBEDDER = "transformer_blocks.{}.norm1.emb.timestep_embedder.linear_1.bias"


@pytest.fixture
def directory(tmp_path):
    """A Diffusion Transformer as diffusers saves it."""
    folder = tmp_path / "theirs"
    make_reference(DIT, DIT.sizes[0]).save_pretrained(folder)
    return folder


def change_tensors(directory, **changes):
    """Set tensors of a file, also such as it does not hold."""
    save_file(load_file(directory / WEIGHTS) | changes, directory / WEIGHTS)


def test_one_shared_embedder_is_imported_and_copies_are_written(directory, tmp_path):
    _, variables = load_pretrained(directory)
    assert sum("time_embedding" in path for path in tree.flatten(variables)) == 4
    export_pretrained(
        json.loads((directory / "config.json").read_text()), variables, tmp_path / "x"
    )
    written, original = load_file(tmp_path / "x" / WEIGHTS), load_file(directory / WEIGHTS)
    assert set(written) == set(original)
    assert all(np.array_equal(written[name], original[name]) for name in original)


def test_unequal_copies_are_refused(directory):
    name = EMBEDDER.format(1)
    change_tensors(directory, **{name: load_file(directory / WEIGHTS)[name] + 1e-6})
    said = f"theirs: tensor {name} should repeat {EMBEDDER.format(0)}, but differs from it"
    with pytest.raises(GenaxError, match=said):
        load_pretrained(directory)


def test_older_files_name_another_class_and_hold_the_positions(directory):
    expected = load_pretrained(directory)
    path = directory / "config.json"
    config = json.loads(path.read_text())
    older = {"_class_name": "Transformer2DModel", "cross_attention_dim": None}
    older |= {"num_vector_embeds": None, "only_cross_attention": False}
    path.write_text(json.dumps(config | older))
    model = make_reference(DIT, DIT.sizes[0])
    positions = model.pos_embed.pos_embed.numpy()
    change_tensors(directory, **{"pos_embed.pos_embed": positions})
    module, variables = load_pretrained(directory)
    assert (module, tree.digest(variables)) == (expected[0], tree.digest(expected[1]))

    change_tensors(directory, **{"pos_embed.pos_embed": positions + 0.1})
    with pytest.raises(GenaxError, match=r"pos_embed.pos_embed differs from what"):
        load_pretrained(directory)
    path.write_text(json.dumps(config | older | {"norm_type": "layer_norm"}))
    with pytest.raises(GenaxError, match="has norm_type='layer_norm', but 'ada_norm_zero' alone"):
        load_pretrained(directory)
    del config["norm_type"]
    path.write_text(json.dumps(config | older))
    with pytest.raises(GenaxError, match="is a Transformer2DModel without norm_type"):
        load_pretrained(directory)


def test_settings_that_are_left_out_are_diffusers_defaults(directory):
    path = directory / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({"_class_name": config["_class_name"], "sample_size": 16}))
    with pytest.raises(GenaxError, match=r"lacks .*transformer_blocks\.10\."):
        load_pretrained(directory)
    kept = {name: config[name] for name in config if name not in ("norm_eps", "attention_bias")}
    path.write_text(json.dumps(kept))
    assert load_pretrained(directory)[0].denoiser.feed_forward_epsilon == 1e-5


def test_other_formats_are_named(directory):
    (directory / WEIGHTS).rename(directory / "diffusion_pytorch_model.fp16.safetensors")
    (directory / "diffusion_pytorch_model.bin").write_bytes(b"")
    said = (
        "holds neither model.safetensors nor diffusion_pytorch_model.safetensors, .* it holds "
        "diffusion_pytorch_model.bin, diffusion_pytorch_model.fp16.safetensors: other formats"
    )
    with pytest.raises(GenaxError, match=said):
        load_pretrained(directory)


def test_shards(directory, tmp_path):
    make_reference(DIT, DIT.sizes[0]).save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert (tmp_path / "shards" / f"{WEIGHTS}.index.json").exists()
    found = tree.digest(load_pretrained(tmp_path / "shards")[1])
    assert found == tree.digest(load_pretrained(directory)[1])


def test_a_part_of_a_pipeline(directory):
    pair = ["diffusers", "DiTTransformer2DModel"]
    index = {"_class_name": "DiTPipeline", "_diffusers_version": "0.30.0", "theirs": pair}
    index |= {"vae": [None, None], "id2label": {"0": "tench"}}
    (directory.parent / "model_index.json").write_text(json.dumps(index))
    parts, variables = load_pipeline(directory.parent)
    assert parts["theirs"] == load_pretrained(directory)[0]
    assert tree.digest(variables["theirs"]) == tree.digest(load_pretrained(directory)[1])


def test_the_command_imports_and_exports(directory, tmp_path):
    out = succeed("import", directory, tmp_path / "run").out
    assert out.startswith("DiTTransformer2DModel of ")
    succeed("export", tmp_path / "run", tmp_path / "again")
    again = load_pretrained(tmp_path / "again")
    assert tree.digest(again[1]) == tree.digest(load_pretrained(directory)[1])


@pytest.mark.long
@pytest.mark.parametrize("number", [1, 2])
def test_an_import_is_a_run_that_is_sampled_and_trained_further(number, tmp_path):
    """One of images, and one of latents with learned variances, whose samples are arrays."""
    make_reference(DIT, DIT.sizes[number]).save_pretrained(tmp_path / "theirs")
    succeed("import", tmp_path / "theirs", tmp_path / "run")
    config = DIT.sizes[number]
    few = {"sampling_steps": 2, "num_samples": 4}
    sampled = [f"--config.{name}={value}" for name, value in few.items()]
    succeed("sample", tmp_path / "run", "--num", 4, *sampled)
    suffix = ".png" if config["in_channels"] == 1 else ".npz"
    [samples] = (tmp_path / "run" / "samples").glob(f"*{suffix}")
    if suffix == ".npz":
        with np.load(samples) as arrays:
            assert arrays["latent"].shape == (4, 8, 8, 4)
            assert arrays["label"].tolist() == [0, 1, 2, 0]
        rows = np.random.default_rng(0)
        latent = rows.normal(size=(8, 8, 8, 4)).astype(np.float32)
        np.savez(tmp_path / "latents.npz", latent=latent, label=np.arange(8) % 3)
        data = f"npz:{tmp_path / 'latents.npz'}"
        settings = few | {"steps": 1, "batch_size": 4, "steps_per_call": 1, "dataset": data}
        settings |= {"pretrained": tmp_path / "run", "latent_channels": 4, "test_split": ""}
        dit = "experiments/diffusion/dit.py:digits"
        result = succeed(*train(dit, tmp_path / "further", **settings))
        assert "taken " in result.out
        succeed("export", tmp_path / "further", tmp_path / "out", "--raw")
        assert load_pretrained(tmp_path / "out")[0] == load_pretrained(tmp_path / "theirs")[0]


OURS = DiT(8, 2, 16, 2, 2, num_classes=3, null_class=True, frequency_shift=1, out_channels=6)


@pytest.mark.parametrize("scan", [False, True])
def test_a_network_of_genax_is_exported(scan, tmp_path):
    """Its output in diffusers is that in genax."""
    torch, diffusers = require("torch", "diffusers")
    dit = replace(OURS, scan_layers=scan, parent=None)
    rng = np.random.default_rng(0)
    inputs = {
        "hidden_states": rng.normal(size=(2, 8, 8, 3)).astype(np.float32),
        "timestep": np.array([1, 700]),
        "class_labels": np.array([2, 3]),
    }
    arrays = list(map(jnp.asarray, inputs.values()))
    shapes = jax.eval_shape(lambda: dit.init(jax.random.key(0), *arrays[:2], label=arrays[2]))
    params = jax.tree.map(lambda s: rng.normal(size=s.shape, scale=0.2).astype(s.dtype), shapes)
    networks = Networks(dit)
    config, variables = to_pretrained(networks, {"params": {"denoiser": params["params"]}})
    export_pretrained(config, variables, tmp_path / "out")
    model = diffusers.DiTTransformer2DModel.from_pretrained(tmp_path / "out").eval()
    with torch.no_grad():
        theirs = model(**as_torch(torch, inputs, model)).sample.permute(0, 2, 3, 1)
    ours = jax.jit(lambda params: dit.apply(params, *arrays[:2], label=arrays[2]))(params)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    module, _ = load_pretrained(tmp_path / "out")
    expected = replace(OURS, out_channels=6, feed_forward_epsilon=1e-6, parent=None)
    assert module == DiTTransformer2DModel(expected, 3)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"frequency_shift": 0}, "a DiT with frequency_shift=0 cannot be exported"),
        ({"conditioning": "in_context"}, "a DiT with conditioning='in_context' cannot"),
        ({"null_class": False}, "a DiT with null_class=False cannot"),
        ({"num_classes": None}, "a DiT with num_classes=None cannot"),
        ({"two_times": True, "mlp_size": 3}, "a DiT with mlp_size=3, two_times=True cannot"),
    ],
)
def test_networks_that_diffusers_lacks(changes, said):
    with pytest.raises(GenaxError, match=said):
        to_pretrained(Networks(replace(OURS, **changes, parent=None)), {"params": {}})
