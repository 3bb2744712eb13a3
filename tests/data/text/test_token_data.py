"""Texts with labels, tags, answers and targets as rows of tokens; pairs of sentences."""

from dataclasses import replace

import numpy as np
import pytest

from genax.core import GenaxError
from genax.core.data import Shard
from genax.data.text import corpora, token_data
from genax.data.text.answer_spans import AnswerSpans
from genax.data.text.classified_text import ClassifiedText
from genax.data.text.examples import load_examples
from genax.data.text.scored_text import ScoredText, shares
from genax.data.text.sentence_pairs import SentencePairs
from genax.data.text.tagged_text import UNLABELLED, TaggedText
from genax.data.text.text_pairs import END, PAD, START, TextPairs

WORDS = ["red", "green", "blue", "yellow", "black", "white", "small", "large", "round", "square"]


def sentence(number: int, length: int) -> list[str]:
    rng = np.random.default_rng(number)
    return [WORDS[k] for k in rng.integers(0, len(WORDS), length)]


def example(number: int) -> dict:
    words = sentence(number, 3 + number % 20)
    text = " ".join(words)
    answer = " ".join(words[1:3])
    return {
        "text": text,
        "label": number % 2,
        "words": tuple(words),
        "labels": tuple(WORDS.index(word) for word in words),
        "question": f"what follows {words[0]}?",
        "context": text,
        "answer": answer,
        "start": text.index(" ") + 1,
        "source": text,
        "target": text.upper(),
    }


@pytest.fixture(autouse=True)
def examples(monkeypatch):
    sets = {"train": [example(n) for n in range(40)], "test": [example(n) for n in range(40, 60)]}
    monkeypatch.setattr(token_data, "load_examples", lambda name, split, *_: sets[split])
    monkeypatch.setattr(token_data, "fingerprint_examples", lambda name, split, *_: split)
    return sets


def whole(data, workdir=None) -> dict[str, np.ndarray]:
    batches = [dict(batch) for batch in data.opened(workdir).evaluate(8, Shard())]
    rows = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    mask = rows.pop("mask") > 0
    rows.pop("id")
    rows = {name: array[mask] for name, array in rows.items()}
    shapes = {name: (array.shape[1:], array.dtype) for name, array in rows.items()}
    assert shapes == {name: (spec.shape, spec.dtype) for name, spec in data.element.items()}
    return rows


def test_classified_text(examples):
    data = ClassifiedText("set", 12, 100, "test")
    rows, tokenizer = whole(data), data.get_tokenizer()
    assert rows["label"].tolist() == [example["label"] for example in examples["test"]]
    for tokens, real, example in zip(rows["tokens"], rows["real"], examples["test"], strict=True):
        pieces = tokenizer.encode(example["text"])[:10]
        expected = [tokenizer.special("[CLS]"), *pieces, tokenizer.special("[SEP]")]
        assert tokens[real].tolist() == expected
        assert (tokens[~real] == tokenizer.special("[PAD]")).all()


def asked_for(data):
    """All ways in which a run opens data; the first one comes before anything is computed."""
    return (data.fingerprint, lambda: data.evaluate(8, Shard()), lambda: data.train(8, 0, Shard()))


def refused(data, said):
    for call in asked_for(data):
        with pytest.raises(GenaxError, match=said):
            call()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"label": -1}, "split 'test' of set has the label -1, which is no class; the labels of"),
        ({"label": 2}, "split 'test' of set has the label 2, which is no class of 0 to 1"),
        ({"label": 0.9}, "'label' with the value 0.9, and a class as a whole number .real num"),
        ({"label": "good"}, "split 'test' of set has the feature 'label' with the value 'good'"),
        ({"label": None}, "the feature 'label' with the value None"),
        ({"text": 3}, "the feature 'text' with the value 3, and a text is needed"),
    ],
)
def test_labels_that_are_no_class_and_features_of_other_kinds(changed, said, examples):
    examples["test"][7] |= changed
    refused(ClassifiedText("set", 12, 100, "test", classes=2), said)
    ClassifiedText("set", 12, 100, classes=2).fingerprint()


def test_features_that_are_missing(examples):
    refused(ClassifiedText("set", 12, 100, text="review"), "no feature 'review'; choose one of ans")
    refused(ClassifiedText("set", 12, 100, label="stars"), "no feature 'stars'; choose one of")
    refused(TaggedText("set", 12, 100, words="tokens"), "split 'train' of set has no feature 'tok")
    refused(TextPairs("set", 12, 400, target="en"), "split 'train' of set has no feature 'en'")
    refused(ScoredText("set", 12, 100, second="other"), "no feature 'other'")
    examples["test"][0].pop("context")
    refused(AnswerSpans("set", 16, 100, "test"), "split 'test' of set has no feature 'context'")


def test_a_set_without_examples(examples):
    examples["test"].clear()
    for kind in (ClassifiedText, TaggedText, AnswerSpans, TextPairs, ScoredText):
        refused(kind("set", 12, 400, "test"), "split 'test' of set has no examples")


@pytest.mark.parametrize(
    "wrong", [{"limit": -1}, {"limit": 0}, {"context": 0}, {"vocab_size": 1.5}]
)
def test_numbers_that_describe_no_set(wrong):
    with pytest.raises(GenaxError, match="must be a whole number at least 1"):
        ClassifiedText(**{"name": "set", "context": 12, "vocab_size": 100} | wrong)


def test_classes_change_no_row():
    data = ClassifiedText("set", 12, 100, classes=2)
    assert data.fingerprint() == ClassifiedText("set", 12, 100).fingerprint()


def test_more_labels_than_a_class_and_as_many_as_words(examples):
    TaggedText("set", 10, 60, "test", classes=len(WORDS)).fingerprint()
    refused(
        TaggedText("set", 10, 60, "test", classes=len(WORDS) - 1), "which is no class of 0 to 8"
    )
    words, labels = examples["test"][3]["words"], examples["test"][3]["labels"]
    examples["test"][3]["labels"] = (*labels[:-1], -1)
    refused(TaggedText("set", 10, 60, "test"), "split 'test' of set has the labels -1")
    examples["test"][3]["labels"] = labels[1:]
    refused(
        TaggedText("set", 10, 60, "test"), f"{len(words) - 1} labels for {len(words)} words in one"
    )


def test_real_numbers_of_pairs(examples):
    for number, one in enumerate([*examples["train"], *examples["test"]]):
        one |= {"score": 0.9 + number / 3, "other": " ".join(sentence(number + 100, 4))}
    data = ScoredText("set", 14, 100, "test", second="other", label="score")
    rows, tokenizer = whole(data), data.get_tokenizer()
    expected = np.float32([example["score"] for example in examples["test"]])
    np.testing.assert_array_equal(rows["label"], expected)
    cls, sep = tokenizer.special("[CLS]"), tokenizer.special("[SEP]")
    cut = 0
    for tokens, segments, real, one in zip(
        *(rows[name] for name in ("tokens", "segments", "real")), examples["test"], strict=True
    ):
        pieces = [tokenizer.encode(one[side]) for side in ("text", "other")]
        first, second = shares([len(part) for part in pieces], 11)
        cut += first < len(pieces[0])
        parts = [cls, *pieces[0][:first], sep], [*pieces[1][:second], sep]
        assert tokens[real].tolist() == [*parts[0], *parts[1]]
        assert segments[real].tolist() == [0] * len(parts[0]) + [1] * len(parts[1])
    assert 0 < cut < 20
    single = whole(ScoredText("set", 14, 100, "test", label="score"))
    plain = whole(ClassifiedText("set", 14, 100, "test"))
    np.testing.assert_array_equal(single["tokens"], plain["tokens"])
    assert not single["segments"].any()


def test_the_longer_text_of_a_pair_is_cut():
    assert shares([3, 4], 9) == [3, 4]
    assert shares([9, 2], 7) == [5, 2]
    assert shares([6, 6], 7) == [4, 3]


def test_numbers_that_nothing_fits(examples):
    data = ScoredText("set", 14, 100, "test")
    refused(
        ScoredText("set", 4, 100, "test", second="source"), "a context of 4 holds no text; choose 5"
    )
    examples["test"][4]["label"] = float("nan")
    refused(data, "the feature 'label' with the value nan, and a finite number is needed")
    examples["test"][4]["label"] = "4.0"
    refused(ScoredText("set", 14, 100, "test"), "with the value '4.0'")
    for one in examples["test"]:
        one["label"] = -1.0
    refused(ScoredText("set", 14, 100, "test"), "split 'test' of set has the label -1.0 in each ex")


def test_a_limit_takes_the_same_random_examples(examples):
    first = ClassifiedText("set", 12, 100, limit=5)
    assert first.examples == ClassifiedText("set", 12, 100, limit=5).examples
    assert len(first.examples) == 5
    assert first.examples != examples["train"][:5]
    assert first.fingerprint() != ClassifiedText("set", 12, 100, limit=6).fingerprint()


def test_every_word_has_its_label_once_however_long_the_sentence(examples):
    rows = whole(TaggedText("set", 10, 60, "test"))
    assert len(rows["tokens"]) > len(examples["test"])
    for number, example in enumerate(examples["test"]):
        labels = rows["labels"][rows["sentence"] == number]
        assert labels[labels != UNLABELLED].tolist() == list(example["labels"])
    assert rows["real"][rows["labels"] != UNLABELLED].all()


def test_a_word_that_fits_no_row():
    with pytest.raises(GenaxError, match="choose a larger one"):
        whole(TaggedText("set", 2, 60, "test"))


def test_spans_are_the_answers_and_windows_cover_the_context(examples):
    data = AnswerSpans("set", 16, 100, "test", stride=4)
    rows = whole(data)
    assert len(rows["tokens"]) > len(examples["test"])
    answered = set()
    for row, start, end in zip(rows["row"], rows["start"], rows["end"], strict=True):
        number, text = data.text_of(int(row), int(start), int(end))
        if end:
            assert text == examples["test"][number]["answer"]
            answered.add(number)
        else:
            assert text == ""
    assert answered == set(range(len(examples["test"])))


def test_answers_that_fit_no_row():
    with pytest.raises(GenaxError, match="a question of set fills a context of 4"):
        whole(AnswerSpans("set", 4, 100, "test"))
    with pytest.raises(GenaxError, match="a question of set fills"):
        whole(AnswerSpans("set", 7, 100, "test"))
    with pytest.raises(GenaxError, match="no answer of set fits a context of 8"):
        whole(AnswerSpans("set", 8, 100, question_length=5))


def test_training_leaves_out_windows_without_the_answer():
    rows = whole(AnswerSpans("set", 16, 100, stride=4))
    assert rows["end"].all()


UNANSWERED = {
    "question": "who?",
    "context": "red green blue " * 9,
    "answers/text": (),
    "answers/answer_start": (),
}


@pytest.mark.parametrize("split", ["train", "test"])
def test_questions_without_an_answer_have_the_span_of_the_first_token(split, examples):
    examples[split][:] = [UNANSWERED, example(0), {**UNANSWERED, "context": ""}]
    data = AnswerSpans("set", 16, 100, split, stride=4)
    rows = whole(data)
    spans = {number: [] for number in range(3)}
    for row, start, end in zip(rows["row"], rows["start"], rows["end"], strict=True):
        spans[data.text_of(int(row), 0, 0)[0]].append((int(start), int(end)))
    assert len(spans[0]) > 3
    assert set(spans[0]) == set(spans[2]) == {(0, 0)}
    assert any(start > 0 for start, _ in spans[1])
    assert [data.answers(number) for number in range(3)] == [[], [examples[split][1]["answer"]], []]
    assert data.has_unanswerable
    examples[split][:] = [example(0)]
    assert not AnswerSpans("set", 16, 100, split).has_unanswerable


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"answers/answer_start": None}, "'answers/answer_start' with the value None"),
        ({"answers/text": ("red",)}, "which must be of one length"),
        ({"answers/text": ("red",), "answers/answer_start": (-1,)}, "of 3 characters from -1 on"),
        ({"answers/text": ("red",), "answers/answer_start": (134,)}, "outside its context of 135"),
    ],
)
def test_answers_that_are_not_in_their_context(changed, said, examples):
    examples["test"].append(UNANSWERED | changed)
    refused(AnswerSpans("set", 16, 100, "test"), said)


def test_no_feature_that_holds_answers(examples):
    bare = {name: UNANSWERED[name] for name in ("question", "context")}
    examples["test"].append(bare)
    refused(
        AnswerSpans("set", 16, 100, "test"), "split 'test' of set has no feature 'answers/text'"
    )
    examples["test"][-1] = {**bare, "answers/text": ()}
    refused(AnswerSpans("set", 16, 100, "test"), "no feature 'answers/answer_start'")


@pytest.mark.long
def test_spans_of_real_questions(monkeypatch):
    monkeypatch.setattr(token_data, "load_examples", load_examples)
    data = AnswerSpans("stdlib_signatures", 256, 512, "validation", limit=40)
    rows = whole(data)
    for row, start, end in zip(rows["row"], rows["start"], rows["end"], strict=True):
        number, text = data.text_of(int(row), int(start), int(end))
        if end:
            assert text.replace(" ", "") == data.answers(number)[0].replace(" ", "")


def test_pairs(examples):
    data = TextPairs("set", 32, 400, "test")
    rows, tokenizer = whole(data), data.get_tokenizer()
    assert tokenizer.decode_all(rows["source"]) == [e["source"] for e in examples["test"]]
    assert tokenizer.decode_all(rows["target"]) == [e["target"] for e in examples["test"]]
    assert (rows["target"][:, 0] == START).all()
    for side in ("source", "target"):
        assert ((rows[side] == END).sum(1) == 1).all()
        assert (np.diff((rows[side] == PAD).astype(int), axis=1) >= 0).all()


def test_pairs_that_do_not_fit_are_counted_in_training_and_cut_in_evaluation():
    with pytest.warns(UserWarning, match="pairs of set exceed contexts of 8 and 8"):
        left = whole(TextPairs("set", 8, 400))
    assert len(left["source"]) < 40
    assert len(whole(TextPairs("set", 8, 400, "test"))["source"]) == 20
    short = TextPairs("set", 32, 400, "test", target_context=6)
    rows = whole(short)
    assert {name: array.shape[1:] for name, array in rows.items()} == {
        name: spec.shape for name, spec in short.element.items()
    }
    assert rows["source"].shape[1] == 32
    assert rows["target"].shape[1] == short.target_length + 1 == 7
    np.testing.assert_array_equal((rows["target"] == END).sum(1), 1)


def test_the_tokenizer_of_the_run_is_kept(tmp_path):
    train = TextPairs("set", 32, 400)
    next(train.opened(tmp_path).train(4, 0, Shard()))
    kept = TextPairs("set", 32, 500, "test").opened(tmp_path).get_tokenizer()
    assert kept.to_json() == train.opened(tmp_path).get_tokenizer().to_json()
    pretrained = ClassifiedText("set", 12, 500, tokenizer="bpe", pretrained=str(tmp_path))
    assert pretrained.get_tokenizer().to_json() == kept.to_json()


def test_a_pretrained_tokenizer_that_does_not_fit(tmp_path):
    next(TextPairs("set", 32, 400).opened(tmp_path).train(4, 0, Shard()))
    with pytest.raises(GenaxError, match="kind 'bpe' but the experiment asks for 'wordpiece'"):
        ClassifiedText("set", 12, 500, pretrained=str(tmp_path)).get_tokenizer()
    with pytest.raises(GenaxError, match="more than vocab_size=300"):
        TextPairs("set", 32, 300, pretrained=str(tmp_path)).get_tokenizer()
    with pytest.raises(GenaxError, match="holds no tokenizer"):
        TextPairs("set", 32, 300, pretrained=str(tmp_path / "none")).get_tokenizer()


@pytest.fixture
def documents(monkeypatch):
    """Ten documents, whose sentences say which document and place they are of."""
    made = ["".join(f"d{d} s{s} end.\n" for s in range(30)) for d in range(10)]
    monkeypatch.setattr(corpora, "load_corpus", lambda name, *_: {"train": made})
    return SentencePairs("set", 40, 200)


def test_b_follows_a_in_half_of_the_pairs_and_is_of_another_document_in_the_others(documents):
    tokenizer = documents.get_tokenizer()
    batch = next(documents.train(256, 0, Shard()))
    sep = tokenizer.special("[SEP]")
    for tokens, segments, real, maskable, follows in zip(
        *(batch[name] for name in ("tokens", "segments", "real", "maskable", "follows")),
        strict=True,
    ):
        a, b = (tokenizer.decode_all([tokens[real & (segments == k)]])[0] for k in (0, 1))
        words_a, words_b = a.replace(" .", "").split(), b.replace(" .", "").split()
        assert (words_a[0] == words_b[0]) == bool(follows)
        if follows and len(words_b) > 2:
            assert int(words_b[1][1:]) == int(words_a[-2][1:]) + 1
        special = real & ~maskable
        assert special.sum() == 3
        assert (tokens[special] == sep).sum() == 2
        assert not maskable[~real].any()
    assert 0.4 < batch["follows"].mean() < 0.6


def test_the_length_does_not_tell_what_follows(documents):
    batch = next(documents.train(2048, 0, Shard()))
    follows = batch["follows"] > 0
    assert batch["real"].all()
    first = batch["segments"].argmax(1)
    assert len(np.unique(first)) > 5
    assert abs(first[follows].mean() - first[~follows].mean()) < 1


def test_pairs_are_drawn_anew_in_training_and_not_in_evaluation(documents):
    batches = documents.train(64, 0, Shard())
    passages = len(documents._passages(documents.get_tokenizer()).passages)
    seen = [next(batches) for _ in range(2 * passages // 64 + 1)]
    by_record: dict[int, set[bytes]] = {}
    for batch in seen:
        for number, tokens in zip(batch["id"], batch["tokens"], strict=True):
            by_record.setdefault(int(number), set()).add(tokens.tobytes())
    assert any(len(found) > 1 for found in by_record.values())
    once, again = (whole_pairs(documents) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    assert len(once) == passages


def whole_pairs(data):
    batches = list(data.evaluate(32, Shard()))
    return np.concatenate([batch["tokens"][batch["mask"] > 0] for batch in batches])


def test_special_tokens_of_pairs(examples):
    with pytest.raises(GenaxError, match=r"special_tokens=\(0, 1\) are the numbers of three tok"):
        TextPairs("set", 32, 400, special_tokens=(0, 1))
    with pytest.raises(GenaxError, match=r"\(0, 0, 1\) are those of a pretrained tokenizer"):
        whole(TextPairs("set", 32, 400, special_tokens=(0, 0, 1)))
    rows = TextPairs("set", 32, 400, "test", special_tokens=(7, 8, 9)).encode(
        TextPairs("set", 32, 400).get_tokenizer(), examples["test"]
    )
    assert (rows["target"][:, 0] == 8).all()
    assert ((rows["source"] == 9).sum(1) >= 1).all()


def test_what_a_fingerprint_counts_is_what_it_was():
    """A run of an earlier version resumes only if no new setting is in its data's fingerprint."""
    new = {"special_tokens": (3, 4, 5), "damaged": "skip"}
    pairs = {"name": "stdlib_names", "context": 8, "vocab_size": 16}
    assert repr(TextPairs(**pairs, **new)) == repr(TextPairs(**pairs))
    sentences = SentencePairs(**pairs)
    assert repr(replace(sentences, pretrained="runs/a", damaged="skip")) == repr(sentences)
