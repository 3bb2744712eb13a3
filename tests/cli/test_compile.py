"""genax compile: for simulated devices, and for TPUs where their compiler is installed."""

import functools

import pytest

from genax.ahead.costs import traffic
from genax.ahead.hlo import Program
from genax.ahead.programs import topology
from genax.cli.compile import describe, model_flops
from genax.front.experiments import configure, load
from genax.nn import block
from genax.transformer.gpt import GPT_PRESETS
from genax.transformer.llama import LLAMA_PRESETS
from tests.cli.command import TOY, call, succeed
from tests.compilation import users_compilation
from tests.parity import require

GPT = "experiments/transformer/gpt.py"
# One worker compiles each program once.
needs_libtpu = pytest.mark.usefixtures("libtpu")


@pytest.fixture(scope="module", autouse=True)
def as_users_compile():
    with users_compilation():
        yield


@pytest.fixture(scope="module")
def libtpu():
    require("libtpu", extra="tpu")


def compiled(experiment, topology, *arguments, **settings):
    texts = [f"--config.{key.replace('__', '.')}={value}" for key, value in settings.items()]
    return succeed("compile", experiment, "--topology", topology, "--json", *arguments, *texts).json


def flops(name):
    loaded = load(name)
    config = configure(loaded, {})
    return model_flops(loaded, config) / config.batch_size


def test_the_devices_at_hand():
    found = compiled(f"{GPT}:stdlib", "local", batch_size=8, parallel__mesh="data=2,fsdp=2")
    assert found["fits"]
    assert found["devices"] == 4
    assert found["mesh"] == {"data": 2, "fsdp": 2, "sequence": 1, "tensor": 1}
    assert found["memory"]["temporaries"] > 0
    assert found["roofline_seconds"] is found["estimate_seconds"] is None  # no chip in the table
    assert found["collectives"]["all-gather"]["bytes"] > 0
    assert found["open_loops"] == 0
    text = succeed("compile", f"{GPT}:stdlib", "--topology", "local").out
    assert "4 x cpu, mesh data=4" in text
    assert "together" in text


@pytest.mark.long
def test_states_shrink_by_the_mesh():
    """The state is all but the batch; what no axis divides stays whole."""
    whole, part = (
        compiled(f"{GPT}:stdlib", "local", batch_size=8, parallel__mesh=mesh)["memory"]["arguments"]
        for mesh in ("data=4", "fsdp=2,tensor=2")
    )
    assert 0.25 <= part / whole < 0.27


@pytest.mark.long
def test_suggestions_fit_best_first():
    found = compiled(f"{GPT}:stdlib", "local", "--suggest", "3", batch_size=8)
    assert found["tried"] == 3
    assert len(found["fit"]) == 3
    assert [one["mesh"]["data"] for one in found["fit"]][:1] == [4]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((TOY,), "states no config.parallel.topology; add --topology"),
        ((TOY, "--topology", "local", "--stage", "1"), "has stages 0 to 0, no 1"),
        (
            (TOY, "--topology", "local", "--config.parallel.strategy=pmap"),
            "is for config.parallel.strategy=jit",
        ),
        ((TOY, "--topology", "local", "--config.batch_size=18"), "not divisible by 4 batch shards"),
        ((TOY, "--topology", "local", "--suggest", "0"), "--suggest 0 compiles nothing"),
        (
            (TOY, "--topology", "local", "--suggest", "--config.batch_size=3"),
            "config.batch_size=3 is not divisible by the parts of any mesh of 4 devices",
        ),
    ],
)
def test_refusals(arguments, said):
    assert said in call("compile", *arguments).refusal()


@pytest.mark.parametrize(
    "name",
    [
        "gpt2",
        *(
            pytest.param(f"gpt3-{size}", marks=pytest.mark.long)
            for size in ("small", "6.7b", "175b")
        ),
    ],
)
def test_flops_of_a_decoder_by_hand(name):
    """Forward and twice that backward; attention in full: 12 d^2 and 2 t d products a layer."""
    size = GPT_PRESETS[name]
    width, length = size.hidden_size, size.context
    layers = size.num_layers * (12 * width**2 + 2 * length * width)
    by_hand = 3 * 2 * length * (layers + size.vocab_size * width)
    assert flops(f"{GPT}:{name}") == pytest.approx(by_hand, rel=1e-3)


# Training FLOPs of 300e9 tokens: Brown et al. 2020, table D.1, which leaves attention out.
TABLE_D1 = {"small": 2.25e20, "medium": 6.41e20, "xl": 2.38e21, "13b": 2.31e22, "175b": 3.14e23}


@pytest.mark.parametrize("name", TABLE_D1)
def test_flops_as_published_for_gpt3(name):
    size = GPT_PRESETS[f"gpt3-{name}"]
    scores = 3 * 2 * size.num_layers * 2 * size.context * size.hidden_size
    found = flops(f"{GPT}:gpt3-{name}") / size.context - scores
    assert found == pytest.approx(TABLE_D1[name] / 300e9, rel=0.05)


# 1e9 multiply-adds of an image: DeiT's table 1 and timm's results.
VIT = {"ti16": 1.3, "s16": 4.6, "b16": 17.6, "l16": 61.6, "h14": 167.0}


@pytest.mark.long
@pytest.mark.parametrize("name", VIT)
def test_flops_as_published_for_vit(name):
    found = flops(f"experiments/transformer/vit.py:{name}")
    assert found == pytest.approx(3 * 2 * VIT[name] * 1e9, rel=0.05)


@pytest.mark.parametrize("name", ["llama3-8b", pytest.param("llama3-70b", marks=pytest.mark.long)])
def test_flops_of_llama(name):
    """Six a parameter and token, but for the table of embeddings, and the scores."""
    size = LLAMA_PRESETS[name]
    used = size.params - size.vocab_size * size.hidden_size
    by_hand = 6 * used + 3 * 2 * size.num_layers * 2 * size.context * size.hidden_size
    found = flops(f"experiments/transformer/llama.py:{name}") / size.context
    assert found == pytest.approx(by_hand, rel=1e-3)


# The LLaMA slices layers out of stacks of kept activations, and splits its parameters.
LLAMA = {
    "hidden_size": "512",
    "num_layers": "32",
    "num_heads": "8",
    "num_kv_heads": "8",
    "mlp_size": "1024",
    "vocab_size": "2048",
    "context": "2048",
    "batch_size": "128",
    "chunk": "0",
}
PROGRAMS = {
    "vae": ("experiments/vae/vae.py:pytorch", "v5e:2x2", {}),
    "actions": ("experiments/transformer/decision_transformer.py:hopper", "v5e:2x2", {}),
    "llama": ("experiments/transformer/llama.py:llama3-8b", "v5p:4x4x4", LLAMA),
}


@functools.cache
def program(name):
    experiment, place, settings = PROGRAMS[name]
    loaded = load(experiment)
    return describe(loaded, configure(loaded, settings), topology(place))


@pytest.mark.long
@needs_libtpu
def test_a_slice_may_be_one_chip():
    assert len(topology("v5e:1x1")) == 1


@pytest.mark.long
@needs_libtpu
@pytest.mark.parametrize("name", PROGRAMS)
def test_what_is_said_of_programs_that_fit(name):
    found = program(name).facts
    assert found["fits"]
    assert found["open_loops"] == 0
    assert found["memory"]["total"] < found["memory_there"]
    assert 0 < found["estimated_utilisation"] < found["model_flops_utilisation"] <= 1
    estimate = found["estimate_seconds"]
    assert estimate["step"] == sum(estimate[part] for part in ("instructions", "kernels", "links"))
    assert (estimate["kernels"] > 0) == (name == "llama")
    assert "compiler's estimate: " in str(program(name))


@pytest.mark.long
@needs_libtpu
@pytest.mark.parametrize("name", PROGRAMS)
def test_sizes_are_those_that_the_compiler_plans(name):
    found = program(name).compiled
    lines = Program(found.text).entry.parameters.values()
    assert sum(line.main for line in lines) == found.memory.arguments


@pytest.mark.long
@needs_libtpu
@pytest.mark.parametrize("name", PROGRAMS)
def test_no_fusion_moves_more_than_its_cycles_allow(name):
    found = program(name).compiled
    read = Program(found.text)
    fusions = [one for one in read.executed if one.line.opcode == "fusion" and one.line.cycles]
    assert len(fusions) > 10
    per_cycle = found.chip.bandwidth / found.chip.clock
    faster = {
        one.line.name: traffic(read, one) / one.line.cycles / per_cycle
        for one in fusions
        if traffic(read, one) > one.line.cycles * per_cycle
    }
    assert not faster


@pytest.mark.long
@needs_libtpu
def test_parameters_are_gathered_over_links_that_wrap_around():
    """Without them libtpu sums parts padded with zeros, which sends twice as much."""
    found = program("llama").compiled.costs.collectives
    assert found["all-gather"][0] > 32 * 7  # seven kernels a layer, forward alone


@pytest.mark.long
@needs_libtpu
@pytest.mark.parametrize("split", [True, False])
def test_activations_stay_split_over_the_batch(split, monkeypatch):
    """GPT-3's blocks at an eighth of their number: without split inputs XLA holds all examples.

    With its own attention; the fused one runs on each device's part and so keeps them split too.
    """
    if not split:
        monkeypatch.setattr(block, "split_tokens", lambda x: x)
    settings = {"num_layers": 12, "batch_size": 256, "accumulate": 1, "attention": "xla"}
    texts = [f"--config.{key}={value}" for key, value in settings.items()]
    arguments = (f"{GPT}:gpt3-175b", "--topology", "v5p:4x4x8", "--json", *texts)
    found = call("compile", *arguments).json
    assert found["fits"] == split
    # Two sequences a device: inputs of 12 blocks in bfloat16 are 1.2 GB of it, the state 2.1.
    assert (found["memory_wanted"] < 23e9) == split


@pytest.mark.long
@needs_libtpu
def test_what_does_not_fit_is_said():
    result = call(
        "compile",
        f"{GPT}:gpt2-xl",
        *("--topology", "v5e:2x2", "--config.parallel.mesh=data=-1", "--config.batch_size=4"),
    )
    assert result.code == 1
    assert "DOES NOT FIT" in result.out


@needs_libtpu
@pytest.mark.parametrize("name", ["v4:2x2x1", "v5e:2x2", "v5p:2x2x1", "v6e:2x2"])
def test_a_device_is_a_chip(name):
    assert len(topology(name)) == 4


@needs_libtpu
def test_a_topology_that_does_not_exist():
    sentence = call("compile", f"{GPT}:gpt2", "--topology", "v5e:3x5x7").refusal()
    assert "topology 'v5e:3x5x7' is unknown to this libtpu" in sentence
