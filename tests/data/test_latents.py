"""Latents: encoded once, kept whole or not at all, drawn anew at each reading."""

from __future__ import annotations

import dataclasses
import json

import jax
import numpy as np
import pytest

from genax.core.data import Shard
from genax.core.errors import GenaxError
from genax.data import ImageData, Latents
from genax.data.fields import Text
from genax.data.sets.embedded import load_digits

DIGITS = ImageData("digits", "test", range=(0, 1))


@dataclasses.dataclass(frozen=True)
class Halves:
    """The upper half of an image as the mean, `scale` as the deviation; counts its batches."""

    scale: float = 1.0
    inputs: tuple[str, ...] = ("image",)
    calls: list = dataclasses.field(default_factory=list, compare=False)
    fails_at: int | None = None

    def fingerprint(self):
        return f"halves {self.scale}"

    def outputs(self, element):
        shape = jax.ShapeDtypeStruct((4, 8, 1), np.float32)
        return {"mean": shape, "deviation": shape}

    def load(self):
        def encode(batch):
            if len(self.calls) == self.fails_at:
                raise KeyboardInterrupt
            self.calls.append(len(batch["image"]))
            mean = batch["image"][:, :4]
            return {"mean": mean, "deviation": np.full_like(mean, self.scale)}

        return encode


def everything(folder):
    return sorted(path.name for path in folder.rglob("*") if not path.name.endswith(".lock"))


def test_batches_are_what_element_says(cache):
    data = Latents(DIGITS, Halves())
    assert not cache.exists()
    for batch in (next(data.train(8, 0, Shard())), next(data.evaluate(8, Shard()))):
        assert {*data.element, "id"} == set(batch) - {"mask"}
        for name, spec in data.element.items():
            assert batch[name].shape == (8, *spec.shape)
            assert batch[name].dtype == spec.dtype


def test_records_are_encoded_once(cache):
    encoder = Halves(scale=0.0)
    data = Latents(DIGITS, encoder, batch_size=100)
    batches = list(data.evaluate(50, Shard()))
    real = np.concatenate([batch["mask"] for batch in batches]) > 0
    found = {n: np.concatenate([b[n] for b in batches])[real] for n in ("latent", "label")}
    arrays = load_digits("test")
    np.testing.assert_allclose(found["latent"], arrays["image"][:, :4] / 255, atol=1e-6)
    np.testing.assert_array_equal(found["label"], arrays["label"])
    assert encoder.calls == [100, 100, 100]
    again = Halves(scale=0.0)
    batch = next(Latents(DIGITS, again).train(8, 0, Shard()))
    assert again.calls == []
    np.testing.assert_allclose(batch["latent"], arrays["image"][batch["id"], :4] / 255, atol=1e-6)


def test_other_data_and_another_network_make_another_cache(cache):
    for data in (
        Latents(DIGITS, Halves()),
        Latents(DIGITS, Halves(scale=2.0)),
        Latents(dataclasses.replace(DIGITS, split="test[:9]"), Halves()),
    ):
        next(data.train(4, 0, Shard()))
        assert data.encoder.calls
        assert (cache / "latents" / data.fingerprint()).is_dir()
    assert len([path for path in (cache / "latents").iterdir() if path.is_dir()]) == 3


def test_a_latent_is_drawn_at_each_reading(cache):
    data = Latents(dataclasses.replace(DIGITS, split="test[:8]"), Halves())
    first, second = (data.train(8, 0, Shard()) for _ in range(2))
    one, two = next(first), next(first)
    np.testing.assert_array_equal(one["latent"], next(second)["latent"])
    by_id = [batch["latent"][np.argsort(batch["id"])] for batch in (one, two)]
    noise = by_id[0] - by_id[1]
    assert abs(noise.std() - 2**0.5) < 0.2
    scored = [next(data.evaluate(size, Shard()))["latent"][:4] for size in (4, 8)]
    np.testing.assert_array_equal(*scored)
    assert abs(scored[0] - by_id[0][:4]).std() > 0.5


@pytest.mark.parametrize("count", [2, 4])
def test_any_number_of_processes_and_another_batch_size(count, cache):
    data = Latents(DIGITS, Halves())
    whole = data.train(8, 0, Shard())
    parts = [data.train(8, 0, Shard(number, count)) for number in range(count)]
    for _ in range(3):
        joined = np.concatenate([next(part)["latent"] for part in parts])
        np.testing.assert_array_equal(next(whole)["latent"], joined)
    state = json.loads(json.dumps(whole.get_state()))
    assert state == {"examples": 24}
    after = np.concatenate([next(whole)["latent"] for _ in range(2)])
    resumed = data.train(16, 0, Shard())
    resumed.set_state(state)
    np.testing.assert_array_equal(next(resumed)["latent"], after)


@pytest.mark.parametrize("scale", [0.0, 1.5])
def test_the_scale_factor_is_that_of_all_latents_that_are_drawn(scale, cache):
    means = load_digits("test")["image"][:, :4].astype(np.float64) / 255
    found = Latents(DIGITS, Halves(scale=scale)).scale_factor
    assert found == pytest.approx(1 / np.sqrt(means.var() + scale**2), rel=1e-5)
    again = Halves(scale=scale)
    assert Latents(DIGITS, again).scale_factor == found
    assert again.calls == []


def test_an_interruption_leaves_nothing(cache):
    data = Latents(DIGITS, Halves(fails_at=2))
    with pytest.raises(KeyboardInterrupt):
        next(data.train(4, 0, Shard()))
    assert everything(cache) == ["latents"]
    # A process that is killed cannot remove what it wrote.
    left = cache / "latents" / f".incomplete-{data.fingerprint()}-dead"
    left.mkdir()
    next(Latents(DIGITS, Halves()).train(4, 0, Shard()))
    assert not left.exists()


def test_texts_are_kept_beside_latents(cache):
    """Also lone surrogates, line ends of Unicode and no text at all."""

    @dataclasses.dataclass(frozen=True)
    class Captioned(ImageData):
        def evaluate(self, batch_size, shard, workdir=None):
            for batch in super().evaluate(batch_size, shard):
                texts = [f"é\u2028\n\ud800 {number}" * (number % 2) for number in batch["id"]]
                yield {**batch, "caption": Text().column(texts)}

    data = Latents(Captioned("digits", "test[:9]"), Halves(), batch_size=4)
    for _ in range(2):
        batch = next(Latents(data.data, Halves()).train(9, 0, Shard()))
        expected = [f"é\u2028\n\ud800 {number}" * (number % 2) for number in batch["id"]]
        assert batch["caption"].tolist() == expected


def test_a_damaged_cache_is_named(cache):
    data = Latents(DIGITS, Halves())
    next(data.train(4, 0, Shard()))
    folder = cache / "latents" / data.fingerprint()
    # In its place, since the first reader still maps the file that was there.
    (folder / "short").write_bytes(b"short")
    (folder / "short").replace(folder / "mean")
    with pytest.raises(GenaxError, match=f"latents in {folder} are damaged .* delete that folder"):
        next(Latents(DIGITS, Halves()).train(4, 0, Shard()))


def test_refusals(cache):
    for changed in ({"flip": True}, {"transform": lambda example, rng: example}):
        with pytest.raises(GenaxError, match=r"flips and transforms of .* would be lost"):
            Latents(dataclasses.replace(DIGITS, **changed), Halves())
    with pytest.raises(GenaxError, match=r"reads 'depth', and .* has image, label"):
        Latents(DIGITS, Halves(inputs=("depth",))).element  # noqa: B018
