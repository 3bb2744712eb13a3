"""One log at Weights & Biases for one folder; a small module stands for the package."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
from etils import epath
from PIL import Image

from genax.core import GenaxError, Rendered
from genax.running.logging import Logger
from genax.running.weights_and_biases import FILE, check_wandb
from tests.cli.command import TOY, call, succeed, train
from tests.running.buckets import buckets_in


class Error(Exception):
    """The base of what the package raises."""


@pytest.fixture
def wandb(monkeypatch):
    """The package, which remembers how it was called. problem: what login and init say."""
    module, errors = ModuleType("wandb"), ModuleType("wandb.errors")
    module.began, module.logged, module.values, module.problem = [], [], {}, {}
    module.Html, module.Image = lambda text: ("html", text), lambda image: ("image", image)

    def answer(name):
        if name in module.problem:
            raise Error(module.problem[name])

    def init(**settings):
        answer("init")
        module.began.append(settings)

        def log(values, step):
            module.logged.append(step)
            module.values |= values

        return SimpleNamespace(log=log, finish=lambda: None)

    module.login, module.init, errors.Error = lambda: answer("login"), init, Error
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.setitem(sys.modules, "wandb.errors", errors)
    return module


def write(workdir, **config):
    workdir.mkdir(parents=True, exist_ok=True)
    logger = Logger(workdir, step=0, total=10, wandb="project", config=config)
    logger.metrics(1, {"a/loss": 1.0})
    logger.close()


def test_a_resumed_run_goes_on_in_its_log(tmp_path, wandb):
    for rate in (1.0, 2.0):
        write(tmp_path / "one", rate=rate)
    write(tmp_path / "other", rate=1.0)
    first, again, other = wandb.began
    assert first["id"] == again["id"] == (tmp_path / "one" / FILE).read_text().strip()
    assert other["id"] != first["id"]
    assert {one["resume"] for one in wandb.began} == {"allow"}
    assert (first["project"], first["dir"]) == ("project", str(tmp_path / "one"))
    # A setting that may change between runs is no error there.
    assert again["config"] == {"rate": 2.0}
    assert again["allow_val_change"]
    assert wandb.logged == [1, 1, 1]


def test_it_gets_pictures_and_texts(tmp_path, wandb):
    """Files of other kinds are in the run's folder."""
    logger = Logger(tmp_path, step=0, total=10, wandb="project")
    picture = Image.new("RGB", (2, 2))
    logger.sample(3, "samples/texts", "a < b")
    logger.sample(3, "samples/pictures", picture)
    logger.sample(3, "samples/meshes", Rendered(b"ply", ".ply"))
    logger.close()
    assert wandb.values == {
        "samples/texts": ("html", "<pre>a &lt; b</pre>"),
        "samples/pictures": ("image", picture),
    }
    assert wandb.logged == [3, 3]


def test_the_id_is_kept_in_an_object_store(tmp_path, monkeypatch, wandb):
    buckets_in(tmp_path, monkeypatch)
    for _ in range(2):
        write(epath.Path("gs://runs/one"))
    first, again = wandb.began
    assert first["id"] == again["id"]
    assert (epath.Path("gs://runs/one") / FILE).exists()


def test_no_key_is_a_sentence_before_the_folder_is_made(tmp_path, wandb):
    wandb.problem["login"] = "api_key not configured (no-tty)"
    sentence = call(*train(TOY, tmp_path / "run", wandb="project")).refusal()
    assert "knows no key (api_key not configured (no-tty)); run `wandb login`" in sentence
    assert not (tmp_path / "run").exists()
    check_wandb("")


def test_no_package_is_a_sentence_before_the_folder_is_made(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    sentence = call(*train(TOY, tmp_path / "run", wandb="project")).refusal()
    assert 'pip install "genax[wandb]"' in sentence
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_refused_there(tmp_path, wandb):
    wandb.problem["init"] = "permission denied"
    with pytest.raises(GenaxError, match=r"config\.wandb=project: permission denied"):
        write(tmp_path)


@pytest.mark.long
def test_a_run_logs_there_and_resumes(tmp_path, wandb):
    for steps in (2, 4):
        succeed(*train(TOY, tmp_path, wandb="project", steps=steps))
    first, again = wandb.began
    assert first["id"] == again["id"]
    assert wandb.logged == [1, 2, 2, 2, 3, 4, 4, 4]  # steps, samples, scores
    assert first["config"]["steps"] == 2
