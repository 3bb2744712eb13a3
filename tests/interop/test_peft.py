"""LoRA adapters beside PEFT's, with the same numbers: outputs, gradients, a step, directories."""

from __future__ import annotations

import json
import shutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from safetensors.numpy import load_file

from genax.core import GenaxError, Loss, Phase, Sampler, Stage, Task, init_state, make_step, tree
from genax.interop.export import to_pretrained
from genax.interop.peft import CONFIG, WEIGHTS, export_adapter, load_adapter
from genax.interop.pretrained import export_pretrained
from genax.nn.lora import adapted, is_adapter
from genax.running import sampling
from genax.transformer.bert import BERT, LinearHead
from genax.transformer.gpt import GPT
from genax.transformer.llama import LLaMA
from genax.transformer.networks import Networks
from genax.transformer.tasks.fine_tuning import Networks as Classifier
from genax.transformer.tasks.fine_tuning import class_logits
from tests.parity import require

torch, transformers, peft = require("torch", "transformers", "peft")

RATE, EPSILON = 1e-2, 1e-3
TOKENS = np.random.default_rng(0).integers(0, 31, (3, 8)).astype(np.int32)
BATCH = {"tokens": jnp.asarray(TOKENS), "real": jnp.ones(TOKENS.shape, bool)}
ELEMENT = {
    "tokens": jax.ShapeDtypeStruct((8,), jnp.int32),
    "real": jax.ShapeDtypeStruct((8,), bool),
}
SIZES = {"vocab_size": 31, "context": 8, "hidden_size": 16, "num_layers": 2, "num_heads": 2}
GPT2, LLAMA = GPT(**SIZES), LLaMA(**SIZES, mlp_size=24)
QUERY_VALUE = ("**/query", "**/value")


def logits(nets, batch):
    return nets.decoder(batch["tokens"])


def loss(nets, batch):
    """Squares of logits: each of them counts."""
    return Loss(jnp.square(logits(nets, batch)).sum(-1))


# Networks, their targets and those of PEFT.
CASES = {
    "gpt2, all layers": (
        GPT2,
        ("**/qkv", "**/attention/output", "**/feed_forward"),
        ["c_attn", "c_proj", "c_fc"],
    ),
    "gpt2, scanned": (GPT(**SIZES, scan_layers=True), ("**/qkv",), ["c_attn"]),
    "llama": (LLAMA, QUERY_VALUE, ["q_proj", "v_proj"]),
    "llama, grouped": (
        LLaMA(**SIZES, mlp_size=24, num_kv_heads=1),
        (*QUERY_VALUE, "**/output", "**/gate"),
        ["q_proj", "v_proj", "o_proj", "down_proj", "gate_proj"],
    ),
    "llama, scanned": (
        LLaMA(**SIZES, mlp_size=24, scan_layers=True, remat="full"),
        (*QUERY_VALUE, "**/key"),
        ["q_proj", "k_proj", "v_proj"],
    ),
}


def state_of(task, noise=True):
    """A state before its first step, whose B is not zero."""
    state = jax.jit(lambda: init_state(task, 0, ELEMENT))()
    rng = np.random.default_rng(1)
    change = lambda x: x + 0.1 * rng.standard_normal(x.shape).astype(np.float32)  # noqa: E731
    return state.replace(params=jax.tree.map(change, state.params)) if noise else state


def task_of(network, targets, rank=3, alpha=5.0, optimizer=None, **options):
    optimizer = optimizer or optax.trace(0.0)  # Keeps the gradient in its state.
    phase = Phase("decoder", loss, ("decoder",), optimizer)
    samplers = {"logits": Sampler(logits, lambda samples, batch, workdir: "")}
    task = Task(Networks(network), [Stage([phase])], samplers)
    return adapted(task, rank, alpha, targets, **options)


def output(task, variables, function=logits):
    """What a function of the plain networks computes, or the sampler of an adapted task."""
    return jax.jit(nn.apply(function, task.networks))(variables, BATCH)


def in_torch(task, variables, folder, model=None):
    """The plain network in transformers, and with its adapters in PEFT."""
    base = {path: leaf for path, leaf in tree.flatten(variables).items() if not is_adapter(path)}
    export_pretrained(*to_pretrained(task.networks, tree.nest(base)), folder / "base")
    export_adapter(task, variables, folder / "adapter")
    auto = model or transformers.AutoModelForCausalLM
    plain = auto.from_pretrained(folder / "base", attn_implementation="eager").eval()
    return peft.PeftModel.from_pretrained(plain, folder / "adapter", is_trainable=True).eval()


DAILY = ("gpt2, all layers", "llama, grouped")


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=() if name in DAILY else pytest.mark.long) for name in CASES],
)
def pair(request, tmp_path_factory):
    """A task, its state, and the model in PEFT."""
    network, targets, names = CASES[request.param]
    task = task_of(network, targets)
    state = state_of(task)
    folder = tmp_path_factory.mktemp("pair")
    return task, state, in_torch(task, sampling.variables(state, False), folder), names, folder


def of_torch(model):
    return model(torch.tensor(TOKENS.astype(np.int64))).logits


def test_outputs_are_those_of_peft_merged_or_not(pair):
    task, state, model, _, _ = pair
    variables = sampling.variables(state, False)
    expected = of_torch(model).detach().numpy()
    unmerged = output(task, variables, task.samplers["logits"].function)
    np.testing.assert_allclose(unmerged, expected, rtol=1e-5, atol=1e-5)
    merged = output(task, task.plain(variables))
    np.testing.assert_allclose(merged, expected, rtol=1e-5, atol=1e-5)
    # Without adapters it is another function.
    assert np.abs(output(task, variables) - expected).max() > 1e-2


def test_a_merged_model_of_peft_is_the_exported_one(pair, tmp_path):
    task, state, model, _, _ = pair
    variables = task.plain(sampling.variables(state, False))
    export_pretrained(*to_pretrained(task.networks, variables), tmp_path / "merged")
    ours = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    np.testing.assert_allclose(
        of_torch(ours).detach(), of_torch(model).detach(), rtol=1e-5, atol=1e-5
    )


def test_as_many_parameters_are_trained_as_in_peft(pair):
    _, state, model, names, folder = pair
    ours = sum(x.size for x in jax.tree.leaves(state.params))
    base = transformers.AutoModelForCausalLM.from_pretrained(folder / "base")
    config = peft.LoraConfig(r=3, target_modules=names, task_type="CAUSAL_LM")
    assert ours == peft.get_peft_model(base, config).get_nb_trainable_parameters()[0]
    assert ours == model.get_nb_trainable_parameters()[0]


def gradients(task, state, folder):
    """Gradients by A and B, as the arrays of a directory of PEFT."""
    after, _ = jax.jit(make_step(task))(state, BATCH)
    gradient = tree.nest(after.opt_state["decoder"].trace)
    return as_peft(task, state, gradient, folder)


def as_peft(task, state, params, folder):
    variables = sampling.variables(state.replace(params=params), False)
    export_adapter(task, variables, folder)
    return load_file(folder / WEIGHTS)


def named(model, value):
    return {
        name.replace(".default", ""): value(p)
        for name, p in model.named_parameters()
        if p.requires_grad
    }


def test_gradients_and_a_step_of_adamw_are_those_of_peft(pair, tmp_path):
    task, state, model, _, _ = pair
    model.zero_grad()
    of_torch(model).square().sum(-1).mean().backward()
    theirs = named(model, lambda p: p.grad.numpy())
    ours = gradients(task, state, tmp_path / "gradients")
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        scale = np.abs(gradient).max()
        np.testing.assert_allclose(ours[name] / scale, gradient / scale, atol=1e-5, err_msg=name)

    before = named(model, lambda p: p.detach().clone())
    adamw = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], RATE, eps=EPSILON, weight_decay=0.1
    )
    adamw.step()
    moved = named(model, lambda p: p.detach().numpy().copy())
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.requires_grad:
                p.copy_(before[name.replace(".default", "")])
    optimizer = optax.adamw(RATE, eps=EPSILON, weight_decay=0.1)
    again = task_of(task.networks.decoder, task.lora.targets, optimizer=optimizer)
    same = jax.jit(lambda: init_state(again, 0, ELEMENT))()
    same = same.replace(params=state.params, fixed=state.fixed)
    after, _ = jax.jit(make_step(again))(same, BATCH)
    found = as_peft(again, after, after.params, tmp_path / "moved")
    for name, array in moved.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-5, err_msg=name)


def test_a_directory_of_peft_is_read(pair, tmp_path):
    task, state, model, _, folder = pair
    variables = sampling.variables(state, False)
    fresh = sampling.variables(state_of(task, noise=False), False)
    loaded = tree.flatten(load_adapter(folder / "adapter", task, fresh))
    for path, leaf in tree.flatten(variables).items():
        if is_adapter(path):
            np.testing.assert_allclose(loaded[path], leaf, rtol=1e-6, atol=1e-7, err_msg=path)
    model.save_pretrained(tmp_path)
    again = load_adapter(tmp_path, task, fresh)
    found = output(task, again, task.samplers["logits"].function)
    expected = output(task, variables, task.samplers["logits"].function)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_an_adapter_of_each_part_is_one_of_a_joint_layer_in_peft(tmp_path):
    """GPT-2 has one layer for queries, keys and values; two adapters are one of twice the rank."""
    task = task_of(GPT2, (*QUERY_VALUE, "**/expand"))
    variables = sampling.variables(state_of(task), False)
    model = in_torch(task, variables, tmp_path)
    unmerged = output(task, variables, task.samplers["logits"].function)
    np.testing.assert_allclose(unmerged, of_torch(model).detach(), rtol=1e-5, atol=1e-5)
    config = json.loads((tmp_path / "adapter" / CONFIG).read_text())
    assert (config["r"], config["lora_alpha"]) == (6, 10.0)
    assert set(config["rank_pattern"].values()) == {3}


def test_one_adapter_of_a_joint_layer_is_one_of_each_part_in_peft(tmp_path):
    """LLaMA in PEFT has three layers, which then have the same A."""
    task = task_of(LLAMA, ("**/qkv",))
    variables = sampling.variables(state_of(task), False)
    model = in_torch(task, variables, tmp_path)
    unmerged = output(task, variables, task.samplers["logits"].function)
    np.testing.assert_allclose(unmerged, of_torch(model).detach(), rtol=1e-5, atol=1e-5)


def test_a_new_head_is_written_with_the_adapters(tmp_path):
    networks = Classifier(encoder=BERT(**SIZES, dropout=0.0), classifier=LinearHead(3, 0.0))
    phase = Phase(
        "fit",
        lambda nets, batch: Loss(class_logits(nets, batch).sum(-1)),
        ("encoder", "classifier"),
        optax.sgd(0.1),
    )
    samplers = {"logits": Sampler(class_logits, lambda samples, batch, workdir: "")}
    task = adapted(
        Task(networks, [Stage([phase])], samplers), 2, targets=QUERY_VALUE, trained=("classifier",)
    )
    variables = sampling.variables(state_of(task), False)
    auto = transformers.AutoModelForSequenceClassification
    model = in_torch(task, variables, tmp_path, auto)
    # The head of the adapters' directory counts, not that of the base.
    assert json.loads((tmp_path / "adapter" / CONFIG).read_text())["modules_to_save"] == [
        "classifier"
    ]
    found = output(task, variables, task.samplers["logits"].function)
    np.testing.assert_allclose(found, of_torch(model).detach(), rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """An adapted LLaMA, its variables, and a directory of its adapters."""
    task, folder = task_of(LLAMA, QUERY_VALUE), tmp_path_factory.mktemp("written") / "one"
    variables = sampling.variables(state_of(task), False)
    export_adapter(task, variables, folder)
    return task, variables, folder


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (task_of(LLAMA, QUERY_VALUE, rank=2), r"q_proj.lora_A.weight of shape \[2, 16\]"),
        (task_of(LLAMA, ("**/query",)), "also has .*v_proj"),
        (task_of(LLAMA, (*QUERY_VALUE, "**/key")), "k_proj.* the file lacks it"),
    ],
)
def test_other_adapters_are_refused(task, said, written):
    variables = sampling.variables(state_of(task, noise=False), False)
    with pytest.raises(GenaxError, match=said):
        load_adapter(written[-1], task, variables)


@pytest.mark.parametrize("change", [{"use_dora": True}, {"bias": "all"}, {"peft_type": "IA3"}])
def test_what_is_not_read_is_refused(change, written, tmp_path):
    task, variables, folder = written
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    config = json.loads((folder / CONFIG).read_text())
    (tmp_path / CONFIG).write_text(json.dumps(config | change))
    with pytest.raises(GenaxError, match=next(iter(change))):
        load_adapter(tmp_path, task, variables)
