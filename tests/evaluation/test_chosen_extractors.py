"""The words of a setting `fidelity`."""

from genax.data import ImageData
from genax.evaluation.chosen_extractors import SCORES, chosen_extractors


def test_each_word_names_its_extractors():
    digits = ImageData("digits")
    for word, names in SCORES.items():
        found = chosen_extractors(word, digits, digits)
        assert tuple(extractor.name for extractor in found) == names
