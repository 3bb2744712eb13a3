"""What a run is: written beside its state, compared before anything is touched."""

from __future__ import annotations

import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
from etils import epath

from genax.core.errors import GenaxError
from genax.settings.files import read_json, to_json
from genax.settings.overrides import difference

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")

# A resumed run with others of these would see other batches, or the same in another order.
ORDER_KEYS = ("batch_size", "seed", "data")


def make_record(
    experiment: str, variant: str, config: Mapping[str, Any], data: Any, parameters: Mapping
) -> dict[str, Any]:
    """The JSON record of a run.

    experiment: path of its file. data: fingerprints of its data. parameters: count by network.
    """
    return {
        "experiment": experiment,
        "variant": variant,
        "config": dict(config),
        "data": data,
        "parameters": dict(parameters),
        "versions": {"python": platform.python_version()} | _versions(),
        "commit": _commit(),
        "device": {
            "kind": jax.devices()[0].device_kind,
            "platform": jax.default_backend(),
            "count": jax.device_count(),
            "processes": jax.process_count(),
        },
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def start_of(record: Mapping[str, Any], step: int, changed: Sequence[str]) -> dict[str, Any]:
    """An entry of the record's "starts".

    step: of the checkpoint that the run went on from; 0 is the beginning.
    changed: settings that differ from those of the start before, as lines.
    """
    same = {name: record[name] for name in ("started", "versions", "commit", "device")}
    return {**same, "step": step, "changed_settings": list(changed)}


def starts_of(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All starts of a run, from the first on.

    record: of the run; one without "starts" was written before records had them.
    """
    return list(record["starts"]) if "starts" in record else [start_of(record, 0, ())]


def what_runs(
    record: Mapping[str, Any], from_step: int | None, pretrained: Mapping[Any, Any]
) -> str:
    """What must be the same in all processes of a run, whose checkouts may lie elsewhere.

    pretrained: what a new run starts with, see `Run.pretrained`.
    """
    names = ("variant", "config", "data", "parameters", "versions", "experiment_sha256")
    same = {name: record.get(name) for name in names}
    same |= {"experiment": Path(record["experiment"]).name, "from_step": from_step}
    # In their order, which decides what a parameter is in the end.
    sources = [[str(source), list(names.items())] for source, names in pretrained.items()]
    same |= {"pretrained": sources}
    return to_json(same, sort_keys=True)


def check_same_run(old: Mapping[str, Any], new: Mapping[str, Any], workdir: Any) -> list[str]:
    """Settings that may change and did, as lines.

    Raises GenaxError if the record in `workdir` is of another experiment, or the new settings
    or the data as it is now would change the global batch or the order of the data.
    """
    if "imported" in old:
        raise GenaxError(
            f"{workdir} holds what `genax import` wrote, no run to go on with; start from it by "
            f"--config.pretrained={workdir} and choose another --workdir."
        )
    was, now = (f"{Path(r['experiment']).name}:{r['variant']}" for r in (old, new))
    text = old.get("experiment_sha256")
    moved = text is not None and text == new.get("experiment_sha256")
    if was != now and not (moved and old["variant"] == new["variant"]):
        raise GenaxError(f"{workdir} holds a run of {was}, not of {now}; choose another --workdir.")
    changed = difference(old["config"], new["config"], ORDER_KEYS)
    if changed:
        raise GenaxError(
            f"{workdir} holds a run with another global batch or order of data "
            f"({'; '.join(changed)}); keep its settings or choose another --workdir."
        )
    sizes, wanted = (record.get("batch_sizes") for record in (old, new))
    if sizes is not None and sizes != wanted:
        raise GenaxError(
            f"{workdir} holds a run whose stages have global batches of {sizes} examples, not "
            f"{wanted}; keep its stages or choose another --workdir."
        )
    if old["data"] != new["data"]:
        raise GenaxError(
            f"the data of the run in {workdir} has changed (fingerprint {old['data']} -> "
            f"{new['data']}); restore the data it was trained on or choose another --workdir."
        )
    return difference(old["config"], new["config"])


def read_run(workdir: epath.PathLike) -> dict[str, Any] | None:
    """run.json of a folder, or None; raises GenaxError if it can't be read."""
    path = epath.Path(workdir) / "run.json"
    if not path.exists():
        return None
    found = read_json(path)
    for name, kind in {"experiment": str, "variant": str, "config": dict, "data": object}.items():
        if name not in found or not isinstance(found[name], kind):
            raise GenaxError(
                f"{path} is no record of a run, as its {name!r} is missing; restore it, or remove "
                "it and let `genax train` write it again."
            )
    return found


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found


def _commit() -> str | None:
    folder = Path(__file__).parent
    git = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None  # installed from a package, not a checkout
