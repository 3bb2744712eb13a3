"""A run's log at Weights & Biases: one there for one folder here, however often it is resumed."""

from __future__ import annotations

import html
import secrets
from collections.abc import Mapping
from typing import Any

import jax
from etils import epath

from genax.core.errors import GenaxError
from genax.running import processes
from genax.settings.files import write_text

# Holds the id by which a resumed run finds its log.
FILE = "wandb_id"


def check_wandb(project: str) -> None:
    """Raise GenaxError, in all processes, if the first cannot log to a project ("": to none)."""
    if not project:
        return
    problem = _problem(project) if jax.process_index() == 0 else None
    if not processes.agreed(problem is None):
        raise GenaxError(problem or f"config.wandb={project}: the first process cannot log there.")


def start_wandb(project: str, workdir: epath.Path, here: epath.Path, config: Mapping) -> Any:
    """The log of the run in `workdir`, begun or resumed; its files lie in the local folder `here`.

    Raises GenaxError if Weights & Biases refuses.
    """
    import wandb
    from wandb.errors import Error

    path = workdir / FILE
    if not path.exists():
        write_text(path, secrets.token_hex(4) + "\n")
    try:
        return wandb.init(
            project=project,
            id=path.read_text().strip(),
            resume="allow",
            dir=str(here),
            config=dict(config),
            allow_val_change=True,
        )
    except Error as error:
        raise GenaxError(
            f"config.wandb={project}: {error}; put that right or leave config.wandb empty."
        ) from error


def wandb_sample(rendered: Any) -> Any:
    """What Weights & Biases shows of a picture or a text."""
    import wandb

    if isinstance(rendered, str):
        return wandb.Html(f"<pre>{html.escape(rendered)}</pre>")
    return wandb.Image(rendered)


def _problem(project: str) -> str | None:
    try:
        import wandb
        from wandb.errors import Error
    except ImportError:
        return 'config.wandb needs the package wandb: pip install "genax[wandb]".'
    try:
        wandb.login()
    except Error as error:
        return (
            f"config.wandb={project}: Weights & Biases knows no key ({error}); run `wandb login` "
            "or set WANDB_API_KEY, or WANDB_MODE=offline to log into the folder alone."
        )
    return None
