"""What people are shown of the classes, entities and answers that a fine-tuned encoder finds."""

import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError
from genax.data.text import token_data
from genax.data.text.answer_spans import AnswerSpans
from genax.data.text.classified_text import ClassifiedText
from genax.data.text.scored_text import ScoredText
from genax.data.text.tagged_text import TaggedText
from genax.transformer.tasks.predictions import (
    answer_finder,
    bracketed,
    class_finder,
    entity_finder,
    value_finder,
)

NAMES = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
TEXT = "John's aunt lives in New York, Ann in the U.S. since May."
EXAMPLES = [
    {
        "text": TEXT,
        "label": 1,
        "words": ("Ann", "lives", "in", "New", "York", "."),
        "labels": (1, 0, 0, 3, 4, 0),
        "question": "Where is Ann?",
        "context": TEXT,
        # As TensorFlow Datasets has SQuAD.
        "answers/text": ("U.S.", "the U.S."),
        "answers/answer_start": (TEXT.index("U.S."), TEXT.index("the U.S.")),
    },
    {
        "text": "Ann.",
        "label": 0,
        "words": ("Ann",),
        "labels": (1,),
        "question": "Who has an aunt?",
        "context": TEXT,
        "answer": "John",
        "start": 0,
    },
]


@pytest.fixture(autouse=True)
def examples(monkeypatch):
    words = TEXT.split()
    known = dict.fromkeys(("text", "question", "context"), TEXT) | {"answer": "", "start": 0}
    known |= {"words": words, "labels": [0] * len(words), "label": 0}
    sets = {"train": [known], "test": EXAMPLES}
    monkeypatch.setattr(token_data, "load_examples", lambda name, split, *_: sets[split])


def nets(scores):
    """An encoder that hands its tokens on, and a head that has scores for each."""

    def encoder(tokens, *others, **options):
        return tokens

    encoder.pool = lambda tokens: tokens[:, 1]
    return SimpleNamespace(encoder=encoder, classifier=lambda tokens, train: scores[tokens])


def scores_of(data, wanted, columns):
    """Each word's first token has 5 in its column, all else 0. wanted: column by word."""
    tokenizer = data.get_tokenizer()
    scores = np.zeros((tokenizer.size, columns), np.float32)
    for word, column in wanted:
        scores[tokenizer.encode(word)[0], column] = 5
    return jnp.asarray(scores)


def shown(sampler, scores, batch):
    arrays = {name: value for name, value in batch.items() if isinstance(value, np.ndarray)}
    found = jax.jit(lambda batch: sampler.function(nets(scores), batch))(arrays)
    assert all(len(rows) == len(batch["index"]) for rows in found.values())
    return sampler.render(jax.device_get(found), batch, None)


def test_classes():
    data = ClassifiedText("set", 8, 200, "test")
    sampler, scores = class_finder(data), scores_of(data, [("John", 1), ("Ann", 0)], 2)
    told = shown(sampler, scores, sampler.condition(2, None))
    assert "[the rest is not read]\n> 1 (99.3%)\ntrue: 1\n\nAnn.\n> 0 (99.3%)\ntrue: 0\n" in told
    assert shown(sampler, scores, sampler.prompt("Ann.", 8, None)) == "Ann.\n> 0 (99.3%)\n"
    with pytest.raises(GenaxError, match="--prompt is empty"):
        sampler.prompt(" ", 8, None)


@pytest.mark.parametrize("context", [64, 12])
def test_entities_are_joined_over_the_rows_of_a_sentence(context):
    data = TaggedText("set", context, 200, "test")
    wanted = [("John", 1), ("Ann", 1), ("New", 3), ("York", 4), ("U.S.", 4)]
    sampler, scores = entity_finder(data, NAMES), scores_of(data, wanted, 5)
    batch = sampler.prompt(TEXT, 8, None)
    assert (len(batch["tokens"]) > 1) == (context == 12)
    assert shown(sampler, scores, batch) == (
        "John 's aunt lives in New York , Ann in the U.S. since May .\n"
        "> [PER John] 's aunt lives in [LOC New York] , [PER Ann] in the [LOC U.S.] since May .\n"
    )
    told = shown(sampler, scores, sampler.condition(3, None))
    # There are two examples, and each is shown once.
    assert told.endswith("true: [PER Ann]\n")
    assert told.count("true: ") == 2
    assert told.startswith(
        "Ann lives in New York .\n> [PER Ann] lives in [LOC New York] .\n"
        "true: [PER Ann] lives in [LOC New York] .\n"
    )
    with pytest.raises(GenaxError, match="--prompt is empty"):
        sampler.prompt("", 8, None)
    with pytest.raises(GenaxError, match="a word of --prompt"):
        sampler.prompt("A." * 40, 8, None)


def test_entities_that_touch_and_labels_out_of_order():
    words = ["a", "b", "c", "d", "e"]
    labels = ["B-PER", "B-PER", "I-LOC", "O", "I-PER"]
    assert bracketed(words, labels) == "[PER a] [PER b] [LOC c] d [PER e]"


def test_answers_are_the_best_of_all_windows_in_the_letters_of_the_context():
    data = AnswerSpans("set", 24, 200, "test", stride=4)
    rows = data.rows()
    sampler, scores = answer_finder(data), scores_of(data, [("New", 0), ("York", 1)], 2)
    told = shown(sampler, scores, sampler.condition(2, None))
    first, second = told.split("\n\n")
    assert first.startswith("Where is Ann?\n> New Y")
    assert first.endswith("\ntrue: U.S.")
    assert second.endswith("\ntrue: John\n")
    text = f"where? || {'so far, ' * 9} in  NEW-York!"
    batch = sampler.prompt(text, 8, None)
    assert len(batch["tokens"]) > 5
    assert shown(sampler, scores, batch).startswith("where?\n> NEW-Y")
    # What the evaluation reads is as it was.
    spans = zip(rows["row"], rows["start"], rows["end"], strict=True)
    assert {(0, "U.S."), (1, "John")} <= {data.text_of(*span) for span in spans}
    assert [data.answers(number) for number in (0, 1)] == [["U.S.", "the U.S."], ["John"]]


def test_no_answer_is_an_answer(monkeypatch):
    unanswered = {"answers/text": (), "answers/answer_start": ()}
    examples = [
        EXAMPLES[0],
        {"question": "Who lives?", "context": "so far , so far", **unanswered},
    ]
    loaded = token_data.load_examples("set", "train")
    sets = {"train": loaded, "test": examples}
    monkeypatch.setattr(token_data, "load_examples", lambda name, split, *_: sets[split])
    data = AnswerSpans("set", 64, 200, "test")
    # [CLS] has 1 + 1, a span of "New York" 5 + 5, any other 0.
    scores = scores_of(data, [("New", 0), ("York", 1)], 2)
    scores = scores.at[data.get_tokenizer().special("[CLS]")].set(1)
    sampler = answer_finder(data)
    first, second = shown(sampler, scores, sampler.condition(2, None)).split("\n\n")
    assert first.startswith("Where is Ann?\n> New Y")
    assert second == "Who lives?\n> (no answer)\ntrue: (no answer)\n"
    batch = sampler.prompt("who? || so far", 8, None)
    assert shown(sampler, scores, batch) == "who?\n> (no answer)\n"
    strict = answer_finder(data, threshold=2.5)
    assert shown(strict, scores, batch).startswith("who?\n> s")
    # Where each question has an answer, the best span is shown.
    sets["test"] = [{**EXAMPLES[1], "context": "so far", "answer": "far", "start": 3}]
    sampler = answer_finder(AnswerSpans("set", 64, 200, "test"))
    assert "(no answer)" not in shown(sampler, scores, sampler.condition(1, None))


def test_numbers_of_pairs(monkeypatch):
    pairs = [{"a": "Ann lives", "b": "John lives", "near": 2.75}]
    pairs += [{"a": "Ann", "b": "New York", "near": 0}]
    monkeypatch.setattr(token_data, "load_examples", lambda name, split, *_: pairs)
    data = ScoredText("set", 16, 200, "test", text="a", second="b", label="near")
    sampler, scores = value_finder(data), scores_of(data, [("Ann", 0)], 1)
    told = shown(sampler, scores, sampler.condition(2, None))
    assert told == "Ann lives || John lives\n> 5\ntrue: 2.75\n\nAnn || New York\n> 5\ntrue: 0\n"
    batch = sampler.prompt("Ann || lives", 8, None)
    assert shown(sampler, scores, batch) == "Ann || lives\n> 5\n"
    for text in ("", "Ann", "Ann ||", "Ann || lives || here"):
        with pytest.raises(GenaxError, match=re.escape('"TEXT || SECOND"')):
            sampler.prompt(text, 8, None)
    single = value_finder(ScoredText("set", 16, 200, "test", text="a", label="near"))
    with pytest.raises(GenaxError, match="the text whose number is to be found"):
        single.prompt(" ", 8, None)


@pytest.mark.parametrize("text", ["", "where is it?", "where? ||", " || here", "where?|here"])
def test_what_is_no_question_with_a_context(text):
    with pytest.raises(GenaxError, match=re.escape('"QUESTION || CONTEXT"')):
        answer_finder(AnswerSpans("set", 24, 200, "test")).prompt(text, 8, None)
