"""Settings of a config.json that are nested in sections."""

import pytest

from genax.core import GenaxError
from genax.interop.configuration import Configuration
from genax.interop.export import with_kept

VALUES = {
    "model_type": "llava",
    "text_config": {"hidden_size": 8, "rope": {"theta": 10}},
    "vision_config": {"hidden_size": 4},
}


def read(values):
    config = Configuration(values, "config.json")
    config.require(model_type="llava")
    text, vision = config.section("text_config"), config.section("vision_config")
    sizes = text.need("hidden_size"), vision.need("hidden_size"), text.section("rope").need("theta")
    config.done()
    return sizes


def test_sections_are_read():
    assert read(VALUES | {"_model_name_or_path": "a note of who wrote the file"}) == (8, 4, 10)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"vision_config": None}, "vision_config of config.json has no field 'hidden_size'"),
        ({"vision_config": {"hidden_size": 0}}, "vision_config of config.json has hidden_size=0"),
        ({"vision_config": 3}, "config.json has vision_config=3"),
        (
            {"vision_config": {"hidden_size": 4, "window": 2}},
            "vision_config of config.json has fields that are not supported .* window=2",
        ),
        (
            {"text_config": {"hidden_size": 8, "rope": {"theta": 10, "factor": 2}}},
            "rope of text_config of config.json has fields that are not supported .* factor=2",
        ),
        ({"audio_config": {"hidden_size": 2}}, "config.json has fields .* audio_config="),
    ],
)
def test_what_is_refused(change, said):
    with pytest.raises(GenaxError, match=said):
        read(VALUES | change)


def test_lists_are_read():
    values = {"widths": [8, 16], "blocks": ["plain", "attention"]}
    config = Configuration(values, "config.json")
    assert config.sizes("widths", (4,)) == (8, 16)
    assert config.words("blocks", ("plain",), ("plain", "attention")) == ("plain", "attention")
    assert config.sizes("others", (4,)) == (4,)
    assert config.words("others", ("plain",), ("plain",)) == ("plain",)
    config.done()


@pytest.mark.parametrize("value", [[], [0], [2.0], [True], ["8"], 8, {"8": 8}])
def test_lists_of_sizes_that_are_refused(value):
    with pytest.raises(GenaxError, match="has widths="):
        Configuration({"widths": value}, "config.json").sizes("widths", (4,))


@pytest.mark.parametrize("value", [[], ["other"], [1], "plain", [["plain"]]])
def test_lists_of_words_that_are_refused(value):
    with pytest.raises(GenaxError, match="has blocks="):
        Configuration({"blocks": value}, "config.json").words("blocks", ("plain",), ("plain",))


def test_a_section_is_one_object():
    config = Configuration(VALUES, "config.json")
    assert config.section("text_config") is config.section("text_config")


def test_what_is_kept_of_a_config():
    kept = {
        "architectures": ["BertModel"],
        "eos_token_id": 7,
        "id2label": {"0": "no", "1": "yes"},
        "label2id": {"no": 0, "yes": 1},
        "problem_type": "regression",
        "torch_dtype": "float16",
        "task_specific_params": {"a": 1},
        "rope_scaling": {"factor": 2},
        "hidden_size": 4,
    }
    new = {"architectures": ["BertForX"], "eos_token_id": None, "hidden_size": 8}
    still = {"task_specific_params": {"a": 1}, "eos_token_id": 7, "hidden_size": 8}
    assert with_kept(new, kept) == still | {"architectures": ["BertForX"]}
    labels = {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}, "label2id": {}}
    assert with_kept(new | labels, kept)["id2label"] == kept["id2label"]
    more = {"id2label": dict.fromkeys("012", "x"), "label2id": {}}
    assert with_kept(new | more, kept)["id2label"] == more["id2label"]
