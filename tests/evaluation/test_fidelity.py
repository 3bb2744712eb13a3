"""Samples compared with data by an extractor, as a run does it."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.core import GenaxError, per_example
from genax.core.data import Shard
from genax.data import ImageData
from genax.evaluation import fidelity_scores as formulas
from genax.evaluation.extractors import Extractor, features_of, pixels
from genax.evaluation.fidelity import fidelity
from genax.evaluation.fidelity_scores import fidelity_scores
from genax.evaluation.image_classifier import image_classifier
from genax.running.evaluate import evaluate
from genax.running.sampling import variables
from tests.core.toys import line_state, line_task

TRAIN, TEST = ImageData("digits"), ImageData("digits", "test")
PROJECTION = np.random.default_rng(0).standard_normal((64, 6)).astype(np.float32) / 255


def projection(arrays, images):
    return jnp.tanh(images.reshape(len(images), -1) @ arrays)


def flat(classes=None):
    """An extractor of six features."""
    says = lambda arrays: {"network": "a projection", "test_accuracy": 0.5}  # noqa: E731
    return Extractor("flat", projection, lambda workdir: PROJECTION, says, classes)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GENAX_DATA", str(tmp_path))
    few = partial(formulas.kernel_distance, subsets=2)
    monkeypatch.setattr(formulas, "kernel_distance", few)
    return tmp_path


def noise(nets, batch):
    return jnp.clip(per_example(jax.random.normal, nets, batch, (8, 8, 1)), -1, 1)


def scored(evaluator, batch_size=64):
    task = line_task(evaluators={"images": evaluator})
    values = variables(jax.jit(lambda: line_state(task))())
    found = evaluate(task, values, None, batch_size, None)
    said = found.said["images"]
    said["floor"] = {name.removeprefix("flat/"): score for name, score in said["floor"].items()}
    return {name.removeprefix("images/flat/"): score for name, score in found.items()}, said


def features(data, count):
    images = np.concatenate([b["image"][b["mask"] > 0] for b in data.evaluate(50, Shard())])
    return np.asarray(projection(PROJECTION, pixels(jnp.asarray(images[:count]))))


def test_samples_are_compared_with_test_images():
    found, said = scored(fidelity(noise, [flat()], TRAIN, TEST, 100, says={"solver": "none"}))
    unseen, seen = features(TEST, 100), features(TRAIN, 100)
    floor = fidelity_scores(seen, unseen, seen)
    assert found["fid"] > 2 * said["floor"]["fid"] > 0
    assert found["precision"] < said["floor"]["precision"]
    for name in ("fid", "kid", "precision", "recall", "density", "coverage"):
        assert said["floor"][name] == pytest.approx(floor[name], rel=1e-4), name
    # Of distances to training images the floor is that of unseen ones.
    assert said["floor"]["near_train"] == pytest.approx(0.01)
    assert said["floor"]["nearest_q50"] > floor["nearest_q50"] == 0
    assert (said["solver"], said["samples"]) == ("none", 100)
    assert said["test"] == {"data": "digits[test]", "images": 100}
    assert len(said["extractors"]["flat"]["sha256"]) == 64
    assert said["notes"] == []
    json.dumps(said, allow_nan=False)


def test_real_images_are_as_good_as_the_floor():
    """Training images as samples, drawn by their number."""
    images = jnp.asarray(
        np.concatenate([b["image"][b["mask"] > 0] for b in TRAIN.evaluate(50, Shard())])[:100]
    )
    found, said = scored(fidelity(lambda nets, b: images[b["index"]], [flat()], TRAIN, TEST, 100))
    for name in ("fid", "kid", "precision", "recall", "density", "coverage"):
        assert found[name] == pytest.approx(said["floor"][name], rel=1e-4, abs=1e-6), name
    assert found["near_train"] == 1


def test_scores_do_not_depend_on_batches():
    one, other = (scored(fidelity(noise, [flat()], TRAIN, TEST, 90), size)[0] for size in (90, 16))
    assert one == pytest.approx(other, rel=1e-5)


def test_features_of_data_are_computed_once(cache, monkeypatch):
    scored(fidelity(noise, [flat()], TRAIN, TEST, 60))
    names = sorted(path.name.split("-")[0] for path in cache.rglob("*.npz"))
    assert names == ["flat"] * 3
    monkeypatch.setattr(ImageData, "evaluate", lambda *_: pytest.fail("reads the data again"))
    assert len(features_of(TEST, flat(), PROJECTION, 60)) == 60
    with pytest.raises(BaseException, match="reads the data again"):
        features_of(TEST, flat(), PROJECTION + 1, 60)


def test_more_samples_than_test_images_are_noted():
    found, said = scored(fidelity(noise, [flat()], TRAIN, TEST, 400, train_examples=500), 100)
    assert (said["samples"], said["test"]["images"], said["train"]["images"]) == (400, 297, 500)
    assert "400 samples are compared with 297 images" in said["notes"][0]
    assert np.isfinite(list(found.values())).all()


def test_too_few_samples_are_noted():
    _, said = scored(fidelity(noise, [flat()], TRAIN, TEST, 6))
    assert "singular and the FID is too high" in said["notes"][0]


def test_samples_are_drawn_once_for_all_extractors():
    drawn = []

    def draw(nets, batch):
        images = noise(nets, batch)
        jax.debug.callback(lambda _: drawn.append(1), images)
        return images

    other = Extractor("half", lambda arrays, x: projection(arrays, x) / 2, lambda _: PROJECTION)
    found, said = scored(fidelity(draw, [flat(), other], TRAIN, TEST, 64))
    jax.effects_barrier()
    assert len(drawn) == 1
    assert found["images/half/fid"] == pytest.approx(found["fid"] / 4, rel=1e-4)
    assert set(said["extractors"]) == {"flat", "half"}
    assert said["floor"]["half/recall"] == said["floor"]["recall"]


def test_accuracy_of_samples_for_their_labels():
    """Samples that are the test images are of their class as often as the extractor says."""
    extractor = flat(classes=lambda arrays, images: images[:, 0, 0, 0].astype(jnp.int32))
    draw = lambda nets, batch: jnp.full((len(batch["label"]), 8, 8, 1), -1.0)  # noqa: E731
    found, said = scored(fidelity(draw, [extractor], TRAIN, TEST, 50, conditional=True))
    labels = np.concatenate([b["label"] for b in TEST.evaluate(50, Shard())])[:50]
    assert found["accuracy"] == pytest.approx((labels == 0).mean())
    assert said["floor"]["accuracy"] == 0.5


def test_a_classifier_is_trained_once_and_gives_features(cache):
    extractor = image_classifier(TRAIN, TEST, steps=30)
    arrays = jax.device_put(extractor.given(None))
    said = extractor.described(arrays)
    assert said["name"] == "classifier"
    assert said["trained_on"] == "digits[train]"
    assert 0.2 < said["test_accuracy"] <= 1
    images = next(iter(TEST.evaluate(20, Shard())))["image"]
    assert extractor.features(arrays, pixels(jnp.asarray(images))).shape == (20, 128)
    assert extractor.classes(arrays, pixels(jnp.asarray(images))).shape == (20,)
    again = image_classifier(TRAIN, TEST, steps=30)
    assert again.described(again.given(None)) == said
    assert len(list(cache.rglob("classifier-*.npz"))) == 1


def test_data_that_cannot_be_compared():
    small, other = ImageData("digits", size=4), ImageData("digits", range=(0.0, 1.0))
    for train, test, said in (
        (small, TEST, r"have the shape \(4, 4, 1\)"),
        (TRAIN, other, r"are in \(0.0, 1.0\)"),
    ):
        with pytest.raises(GenaxError, match=said):
            fidelity(noise, [flat()], train, test, 10)
    for extractors in ([], [flat(), flat()]):
        with pytest.raises(GenaxError, match="no name twice"):
            fidelity(noise, extractors, TRAIN, TEST, 10)
    with pytest.raises(GenaxError, match="do not tell whether a sample is of its class"):
        fidelity(noise, [flat()], TRAIN, TEST, 10, conditional=True)
    with pytest.raises(GenaxError, match="samples have the shape"):
        scored(fidelity(lambda nets, b: noise(nets, b)[:, :4], [flat()], TRAIN, TEST, 10))

    class Unlabelled(ImageData):
        num_classes = None

    with pytest.raises(GenaxError, match="has no classes to tell apart"):
        image_classifier(Unlabelled("digits"), TEST)


def test_a_damaged_cache(cache):
    features_of(TEST, flat(), PROJECTION, 10)
    [path] = cache.rglob("*.npz")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(GenaxError, match="delete it"):
        features_of(TEST, flat(), PROJECTION, 10)
