"""The processes of one run: how they meet, and what one of them says when another has ended."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import secrets
import signal
import socket
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.experimental import multihost_utils

from genax.core.errors import GenaxError
from genax.settings.ranges import COUNT

# What gloo, the coordination service and Orbax's barriers say; their errors have no type of their
# own.
_LOST = re.compile(
    r"gloo|connection (reset|closed|refused)|socket closed|coordination|heartbeat|barrier"
    r"|broken pipe|UNAVAILABLE",
    re.IGNORECASE,
)
# C code keeps a pointer only.
_HANDLERS: list[Any] = []
_APART = (
    "the processes of this run did not meet; start the same command on all, and if they do not "
    "find each other name --coordinator, --num-processes and --process-id."
)


def connect(
    coordinator: str | None, number: int | None, process: int | None, heartbeat: int, workdir: Any
) -> None:
    """Join the run's other processes; what is None is found out from the cluster.

    heartbeat: seconds of silence after which a process counts as ended. From now on the end of
    another process ends this one, with a sentence. Raises GenaxError if they do not meet.
    """
    _check_place(coordinator, number, process, heartbeat)
    _when_aborted(lambda: _leave(_APART))
    try:
        jax.distributed.initialize(
            coordinator,
            number,
            process,
            heartbeat_timeout_seconds=heartbeat,
            # How long one that failed waits for the others, which wait for it.
            shutdown_timeout_seconds=heartbeat,
        )
    except (RuntimeError, ValueError) as error:
        raise GenaxError(f"{_APART} ({' '.join(str(error).split())[:200]})") from error
    _when_aborted(lambda: _leave(_lost(workdir)))


@contextlib.contextmanager
def watched(workdir: Any) -> Iterator[None]:
    """End this process at once if an error says that another one has ended.

    Whatever this one would wait for, waits for the one that is gone.
    """
    try:
        yield
    except Exception as error:
        if jax.process_count() > 1 and _LOST.search(str(error)):
            os.write(2, f"\n{type(error).__name__}: {' '.join(str(error).split())[:500]}".encode())
            _leave(_lost(workdir))
        raise


def meet(where: str) -> None:
    """Wait for all processes: leaving JAX's service, they wait no longer than a heartbeat."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(where)


def agreed(answer: bool) -> bool:
    """The first process's answer, on all; they wait for each other and the step under way."""
    if jax.process_count() == 1:
        return answer
    return bool(multihost_utils.broadcast_one_to_all(np.int32(bool(answer))))


def check_alike(meant: str) -> None:
    """Raise GenaxError, in all processes, if they are not meant to do the same."""
    if jax.process_count() == 1:
        return
    found = multihost_utils.process_allgather(np.uint32(zlib.crc32(meant.encode())))
    if len(set(found.tolist())) > 1:
        raise GenaxError(
            "the processes of this run differ in experiment, settings, data or versions; run the "
            "same command on all."
        )


def check_one_folder(workdir: Any) -> None:
    """Raise GenaxError, in all processes, if they do not see one folder as their run's.

    The first writes a file whose name nobody can have seen before, as caches of a shared file
    system would hide a new file of an old name for a while.
    """
    if jax.process_count() == 1:
        return
    first, folder = jax.process_index() == 0, epath.Path(workdir)
    number = int(multihost_utils.broadcast_one_to_all(np.int32(secrets.randbits(31))))
    mark, new = folder / f"process0.{number}", not folder.exists()
    if first:
        folder.mkdir(parents=True, exist_ok=True)
        mark.write_text(f"{number}\n")
    meet("the first process has written a number")
    seen = multihost_utils.process_allgather(np.int32(mark.exists()))
    if first:
        mark.unlink()
    if seen.all():
        return
    if first and new and "://" not in str(folder):
        folder.rmdir()
    without = ", ".join(str(process) for process, sees in enumerate(seen) if not sees)
    raise GenaxError(
        f"the processes of this run do not share the folder {workdir}: process {without} does not "
        "see what process 0 writes there; give all of them one --workdir that all of them see."
    )


def _check_place(
    coordinator: str | None, number: int | None, process: int | None, heartbeat: int
) -> None:
    """Raise GenaxError if this process cannot take its place in the run."""
    for option, value in (
        ("heartbeat-seconds", heartbeat),
        ("num-processes", 1 if number is None else number),
    ):
        if value not in COUNT:
            raise GenaxError(f"--{option} {value} must be {COUNT}.")
    if process is not None and not 0 <= process < (number or process + 1):
        raise GenaxError(f"--process-id {process} is none of 0 to {(number or 2**31) - 1}.")
    if coordinator is None:
        return
    found = re.fullmatch(r"(\[[^\]]+\]|[^\s:\[\]]+):([0-9]{1,5})", coordinator)
    if found is None or not 1 <= int(found[2]) < 2**16:
        raise GenaxError(
            f"--coordinator {coordinator} is not HOST:PORT, such as node0:1234, with a port from "
            f"1 to {2**16 - 1}."
        )
    if process == 0:
        _check_free(int(found[2]))


def _check_free(port: int) -> None:
    """Raise GenaxError if somebody listens on a port, which JAX's service would share with it."""
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        socket.create_server(("", port), family=family, dualstack_ipv6=both).close()
    except OSError as error:
        raise GenaxError(
            f"--coordinator: port {port} is in use, perhaps by another run ({error.strerror}); "
            "choose another port, the same for all processes."
        ) from error


def _when_aborted(say: Callable[[], None]) -> None:
    # JAX's service aborts this process from a thread of its own, in which no Python handler of
    # signals ever runs; and it does not take a function of ours to call instead.
    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda _: say())
    _HANDLERS.append(handler)
    ctypes.CDLL(None).signal(int(signal.SIGABRT), handler)


def _lost(workdir: Any) -> str:
    try:
        names = os.listdir(os.path.join(str(workdir), "checkpoints"))
        place = f"step {max(int(name) for name in names if name.isdigit())}"
    except (OSError, ValueError):  # a bucket, or no checkpoint yet
        place = "its newest checkpoint, or from the start"
    return (
        "another process of this run ended or can no longer be reached; run the same command on "
        f"all to resume from {place}."
    )


def _leave(sentence: str) -> None:
    os.write(2, f"\ngenax: {sentence}\n".encode())
    os._exit(1)
