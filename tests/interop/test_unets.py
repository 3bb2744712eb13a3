"""U-Nets of diffusers: the way back from networks of genax, older files, and what is refused."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from genax.core import GenaxError, tree
from genax.diffusion.conditional_unet import ConditionalUNet
from genax.diffusion.ncsnpp import NCSNpp
from genax.diffusion.networks import Networks
from genax.diffusion.unet import UNet
from genax.interop import export_pretrained, load_pretrained
from genax.interop.export import to_pretrained
from tests.cli.command import succeed
from tests.interop.agreement import CASES, make_reference
from tests.parity import require

SIZES = {case.name: case for case in CASES}
WEIGHTS = "diffusion_pytorch_model.safetensors"


def saved(folder, name, number, **changes):
    """A model of diffusers as it is saved, with other settings in its config.json."""
    case = SIZES[name]
    make_reference(case, case.sizes[number]).save_pretrained(folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


UNETS = {
    "ddpm": UNet(8, (1, 2), 1, (4,), num_groups=4, num_classes=3, null_class=True),
    "adm": UNet(
        8, (1, 2), 1, (8, 4), num_groups=4, head_dim=4, scale_shift=True, residual_resampling=True
    ),
    "plain": UNet(8, (1, 2), 1, (), num_groups=4, out_channels=6, cosine_first=True),
    "ncsnpp": NCSNpp(8, (1, 2), 1, (), input_pyramid="skip", output_pyramid=True),
    "ddpmpp": NCSNpp(
        *(8, (1, 2), 2, ()), input_pyramid="skip", output_pyramid=True, fourier_scale=None
    ),
    "conditional": ConditionalUNet(
        *(8, (1, 2), 1), transformer_layers=(1, 0), num_heads=(2, 2), num_groups=4
    ),
    "sdxl": ConditionalUNet(
        *(8, (1, 2), 1),
        transformer_layers=(0, 2),
        middle_layers=2,
        num_heads=(1, 4),
        num_groups=4,
        added_time_features=4,
    ),
}


def variables_of(network):
    """Random variables of a network named denoiser."""
    given = {}
    if network.num_classes is not None:
        given["label"] = jnp.zeros(1, int)
    if isinstance(network, ConditionalUNet):
        given["memory"] = jnp.zeros((1, 2, 6))
        if network.added_time_features is not None:
            given |= {"text": jnp.zeros((1, 5)), "numbers": jnp.zeros((1, 2))}
    x, times = jnp.zeros((1, 8, 8, 3)), jnp.zeros(1)
    networks = Networks(network)
    shapes = jax.eval_shape(
        lambda: networks.init(
            jax.random.key(0), x, times, method=lambda nets, *a: nets.denoiser(*a, **given)
        )
    )
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda s: rng.normal(size=s.shape).astype(s.dtype), shapes)


@pytest.mark.long
@pytest.mark.parametrize("name", UNETS)
def test_a_network_of_genax_is_exported(name, tmp_path):
    """diffusers finds all tensors in its places, and genax the same network."""
    [diffusers] = require("diffusers")
    network = UNETS[name]
    variables = variables_of(network)
    config, found = to_pretrained(Networks(network), variables)
    export_pretrained(config, found, tmp_path / "out")
    theirs = getattr(diffusers, config["_class_name"])
    model, report = theirs.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(report.values()), report
    assert set(model.state_dict()) == set(load_file(tmp_path / "out" / WEIGHTS))
    module, again = load_pretrained(tmp_path / "out")
    assert tree.digest(again) == tree.digest(variables)
    known = {"parent": None, "out_channels": network.out_channels or 3}
    if network.num_classes is not None:
        known |= {"num_classes": network.num_classes + network.null_class, "null_class": False}
    if isinstance(network, NCSNpp):
        known["dropout"] = network.dropout
    assert module.denoiser == replace(network, **known)


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("ddpm", {"two_times": True}, "a UNet with two_times=True cannot be exported"),
        ("ddpm", {"num_heads": 2}, "a UNet with num_heads=2 cannot be exported"),
        ("ddpm", {"time_channels": 16}, "a UNet with time_channels=16 cannot be exported"),
        ("ncsnpp", {"input_pyramid": "residual"}, "an? NCSNpp with input_pyramid='residual' can"),
        ("ddpm", {"augmentation_labels": 9}, "a UNet with augmentation_labels=9 cannot"),
        ("ncsnpp", {"augmentation_labels": 9}, "an? NCSNpp with augmentation_labels=9 cannot"),
        ("ncsnpp", {"fir": False}, "a NCSNpp with fir=False cannot be exported"),
        ("conditional", {"scale_shift": True}, "a ConditionalUNet with scale_shift=True cannot"),
        ("sdxl", {"middle_layers": 1}, "a ConditionalUNet with middle_layers=1 cannot"),
    ],
)
def test_networks_that_diffusers_lacks(name, changes, said):
    network = replace(UNETS[name], **changes, parent=None)
    with pytest.raises(GenaxError, match=said):
        to_pretrained(Networks(network), {"params": {}})


def test_attention_of_older_files_has_other_names(tmp_path):
    folder = saved(tmp_path / "theirs", "UNet2DModel", 0)
    expected = tree.digest(load_pretrained(folder)[1])
    older = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = {}
    for name, array in load_file(folder / WEIGHTS).items():
        for new, old in older.items():
            name = name.replace(f".{new}.", f".{old}.")
        tensors[name] = array
    assert "mid_block.attentions.0.proj_attn.weight" in tensors
    save_file(tensors, folder / WEIGHTS)
    assert tree.digest(load_pretrained(folder)[1]) == expected


def test_null_is_a_single_head_and_nothing_is_heads_of_eight(tmp_path):
    folder = saved(tmp_path / "theirs", "UNet2DModel", 0)
    path = folder / "config.json"
    assert load_pretrained(folder)[0].denoiser.head_dim is None
    config = json.loads(path.read_text())
    del config["attention_head_dim"]
    path.write_text(json.dumps(config))
    assert load_pretrained(folder)[0].denoiser.head_dim == 8


def test_images_of_another_height_are_refused(tmp_path):
    module, variables = load_pretrained(saved(tmp_path / "theirs", "UNet2DModel", 0))
    given = {"sample": jnp.zeros((1, 16, 16, 3)), "timestep": jnp.zeros(1)}
    with pytest.raises(GenaxError, match="got images of height 16, but it is for 8: resize"):
        module.apply(variables, **given)


@pytest.mark.long
def test_the_command_keeps_the_frequencies(tmp_path):
    folder = saved(tmp_path / "theirs", "UNet2DModel", 4)
    succeed("import", folder, tmp_path / "run")
    succeed("export", tmp_path / "run", tmp_path / "again")
    again, expected = (load_pretrained(path)[1] for path in (tmp_path / "again", folder))
    assert "fourier" in expected
    assert tree.digest(again) == tree.digest(expected)


@pytest.mark.parametrize(
    ("name", "number", "changes", "said"),
    [
        ("UNet2DModel", 0, {"act_fn": "gelu"}, "act_fn='gelu', but 'silu' alone"),
        ("UNet2DModel", 0, {"class_embed_type": "timestep"}, "class_embed_type='timestep'"),
        ("UNet2DModel", 0, {"add_attention": False}, "add_attention=False, but True alone"),
        ("UNet2DModel", 0, {"sample_size": None}, "no field 'sample_size'"),
        ("UNet2DModel", 0, {"block_out_channels": [16, 24]}, "only multiples of the first"),
        ("UNet2DModel", 0, {"up_block_types": ["UpBlock2D"] * 2}, "mirrors that down"),
        ("UNet2DModel", 0, {"down_block_types": ["UNet2D"]}, "it is a list of AttnDownBlock2D"),
        ("UNet2DModel", 1, {"upsample_type": "conv"}, "upsample_type='conv' for 2 resolutions"),
        ("UNet2DModel", 1, {"attn_norm_num_groups": None}, "attn_norm_num_groups=None, but norm"),
        ("UNet2DModel", 1, {"resnet_time_scale_shift": "spatial"}, "are default, scale_shift"),
        ("UNet2DModel", 3, {"mid_block_scale_factor": 1.0}, "the square root of 2 is supported"),
        ("UNet2DModel", 3, {"block_out_channels": [32, 64]}, "attention over 64 channels"),
        ("UNet2DModel", 3, {"norm_num_groups": 8}, "norm_num_groups=8, but None alone"),
        ("UNet2DModel", 5, {"freq_shift": 0}, "has skip blocks and sinusoids"),
        ("UNet2DConditionModel", 0, {"attention_head_dim": [1, 2, 4]}, "for 2 resolutions"),
        ("UNet2DConditionModel", 0, {"cross_attention_dim": [12, 8]}, "one width for all"),
        ("UNet2DConditionModel", 0, {"up_block_types": ["UpBlock2D"] * 2}, "mirrors that down"),
        ("UNet2DConditionModel", 0, {"encoder_hid_dim": 8}, "encoder_hid_dim=8, but None alone"),
        ("UNet2DConditionModel", 2, {"addition_embed_type": "image"}, "'text_time' alone"),
        ("UNet2DConditionModel", 2, {"addition_time_embed_dim": 32}, "which leaves no text"),
    ],
)
def test_refused_settings(name, number, changes, said, tmp_path):
    with pytest.raises(GenaxError, match=said):
        load_pretrained(saved(tmp_path / "theirs", name, number, **changes))
