"""The energy of gradients by hand, and that of samples beside that of the data."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np

from genax.core.data import Shard
from genax.data import ImageData
from genax.evaluation.sharpness import gradient_energy, sharpness
from genax.running.evaluate import evaluate
from tests.core.toys import line_task


def test_energy_by_hand():
    image = np.zeros((3, 4, 5, 2), np.float32)
    # A ramp to the right, of steps of 0.5.
    image[0] = np.linspace(-1, 1, 5)[None, :, None]
    # Clipped to 1: two of 15 differences down, and two of 16 to the right.
    image[1, 1, 2] = 9.0
    found = gradient_energy(jnp.asarray(image))
    np.testing.assert_allclose(found, [0.25, 2 / 15 + 2 / 16, 0.0], rtol=1e-6)


def test_as_many_samples_as_asked_for_beside_all_images(tmp_path):
    data = ImageData("digits", "test[:30]")
    columns = jnp.where(jnp.arange(8) % 2, 1.0, -1.0)

    def striped(nets, batch):
        """Stripes that are as strong as the number of the sample."""
        strength = batch["index"][:, None, None, None] / 40
        return strength * jnp.broadcast_to(columns[None, None, :, None], (1, 8, 8, 1))

    task = replace(line_task(), evaluators={"sharp": sharpness(striped, examples=40)})
    scores = evaluate(task, {"params": {}}, data, 20, tmp_path)
    expected = np.mean((2 * np.arange(40) / 40) ** 2)
    np.testing.assert_allclose(scores["sharp/gradient_energy"], expected, rtol=1e-5)
    said = scores.said["sharp"]
    (batch,) = data.evaluate(30, Shard())
    floor = float(gradient_energy(jnp.asarray(batch["image"])).mean())
    np.testing.assert_allclose(said["floor"]["gradient_energy"], floor, rtol=1e-5)
    assert (said["samples"], said["floor_of"]) == (40, "30 images of the data")
