"""A resumed run continues its log where the checkpoint was."""

import io
import json
import struct

import pytest
from etils import epath
from PIL import Image
from tensorboardX.proto.event_pb2 import Event

from genax.core import Rendered
from genax.running.logging import Logger, NoLogger
from tests.running.buckets import buckets_in


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def write(workdir, *logged, step=0, total=100):
    logger = Logger(workdir, step=step, total=total)
    for at, values in logged:
        logger.metrics(at, values)
    logger.close()


def test_a_line_a_step(tmp_path):
    write(tmp_path, (10, {"a/loss": 1.5}), (20, {"a/loss": float("nan")}))
    assert lines(tmp_path) == [{"step": 10, "a/loss": 1.5}, {"step": 20, "a/loss": "nan"}]
    assert list((tmp_path / "tensorboard").glob("events.*"))


def test_what_will_be_computed_again_is_dropped(tmp_path):
    write(tmp_path, *((step, {"a/loss": 1.0}) for step in (10, 20, 30, 40)))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 50, "a/lo')
    write(tmp_path, (40, {"a/loss": 2.0}), step=30)
    assert [(line["step"], line["a/loss"]) for line in lines(tmp_path)] == [
        (10, 1.0),
        (20, 1.0),
        (30, 1.0),
        (40, 2.0),
    ]


def test_lines_that_are_no_record_of_a_step_are_told(tmp_path, capsys):
    """Half a line that a killed process left is not: its step is computed again."""
    log = tmp_path / "metrics.jsonl"
    log.write_text('{"step": 1}\n{}\n3\n[]\nnull\n{"step": "2"}\n\n{"step": 3}\n{"step": 4, "a/l')
    write(tmp_path, (4, {"a/loss": 1.0}), step=3)
    assert lines(tmp_path) == [{"step": 1}, {"step": 3}, {"step": 4, "a/loss": 1.0}]
    told = [line for line in capsys.readouterr().out.splitlines() if "no JSON object" in line]
    assert told == [
        f"left out of {log}: line {number} is no JSON object with a step" for number in range(2, 8)
    ]


def test_a_last_line_without_its_end_is_not_joined_to_the_next(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}')
    write(tmp_path, (2, {"a/loss": 1.0}), step=1)
    assert [line["step"] for line in lines(tmp_path)] == [1, 2]


def test_a_silent_logger_has_every_method_and_no_other():
    silent = {name for name in vars(NoLogger) if not name.startswith("_")}
    assert silent == {name for name in vars(Logger) if not name.startswith("_")} | {"scored"}
    with pytest.raises(AttributeError):
        NoLogger().metric(1, {})


def test_a_log_is_never_cut_short_on_its_way(tmp_path, monkeypatch):
    """A process that is killed while it drops lines leaves all of them."""
    write(tmp_path, (10, {"a/loss": 1.0}), (20, {"a/loss": 1.0}))

    def killed(self, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(type(tmp_path), "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, step=10)
    assert [line["step"] for line in lines(tmp_path)] == [10, 20]


def test_scores_of_the_end_are_logged_once(tmp_path):
    """A finished run that is started again scores again; one that is prolonged keeps the score."""
    end = [(20, {"a/loss": 1.0}), (20, {"eval/error": 0.5})]
    write(tmp_path, (10, {"eval/error": 0.7}), *end, total=20)
    write(tmp_path, end[1], step=20, total=20)
    scored = [line for line in lines(tmp_path) if "eval/error" in line]
    assert [line["step"] for line in scored] == [10, 20]
    write(tmp_path, step=20, total=30)
    assert [line["step"] for line in lines(tmp_path)] == [10, 20, 20]


def test_in_an_object_store(tmp_path, monkeypatch):
    """The same files with the same lines; a checkpoint brings them up to date."""
    buckets_in(tmp_path, monkeypatch)
    workdir = epath.Path("gs://runs/one")
    write(workdir, (10, {"a/loss": 1.5}), (20, {"a/loss": 1.0}))
    assert [line["step"] for line in lines(workdir)] == [10, 20]
    logger = Logger(workdir, step=10, total=100)
    logger.metrics(20, {"a/loss": 0.5})
    logger.flush()
    assert [line["a/loss"] for line in lines(workdir)] == [1.5, 0.5]
    logger.close()
    assert list((workdir / "tensorboard").glob("events.*"))


def summaries(workdir):
    """The values in the event files of a run, by tag."""
    found = {}
    for path in (workdir / "tensorboard").glob("events.*"):
        content, at = path.read_bytes(), 0
        while at < len(content):
            (length,) = struct.unpack_from("<Q", content, at)
            event = Event.FromString(content[at + 12 : at + 12 + length])
            found |= {value.tag: value for value in event.summary.value}
            at += length + 16
    return found


def test_videos_and_sounds_are_logged_and_what_cannot_be_is_told(tmp_path, capsys):
    frames = [Image.new("L", (6, 4), level) for level in (0, 200)]
    video = io.BytesIO()
    frames[0].save(video, "GIF", save_all=True, append_images=frames[1:])
    logger = Logger(tmp_path, step=0, total=9)
    for step in (1, 2):
        logger.sample(step, "samples/video", Rendered(video.getvalue(), ".gif"))
        logger.sample(step, "samples/sound", Rendered(b"RIFF", ".wav"))
        logger.sample(step, "samples/molecule", Rendered(b"<svg/>", ".svg"))
    logger.close()
    found = summaries(tmp_path)
    image = found["samples/video"].image
    assert (image.width, image.height) == (6, 4)
    assert image.encoded_image_string == video.getvalue()
    assert found["samples/sound"].audio.encoded_audio_string == b"RIFF"
    assert "samples/molecule" not in found
    told = "samples/molecule is not in TensorBoard, which shows no .svg"
    assert capsys.readouterr().out.count(told) == 1
