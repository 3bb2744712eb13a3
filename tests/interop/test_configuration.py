"""Settings of a config.json that are nested in sections."""

import pytest

from genax.core import GenaxError
from genax.interop.configuration import Configuration

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
    assert read(VALUES) == (8, 4, 10)


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


def test_a_section_is_one_object():
    config = Configuration(VALUES, "config.json")
    assert config.section("text_config") is config.section("text_config")
