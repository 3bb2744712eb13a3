"""The processes of one run: how they meet, and what one of them says when another has ended."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from genax.core.errors import GenaxError

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
    "the processes of this run did not meet; start the same command on all, and where they do not "
    "find each other name --coordinator, --num-processes and --process-id."
)


def connect(
    coordinator: str | None, number: int | None, process: int | None, heartbeat: int, workdir: Any
) -> None:
    """Join the run's other processes; None is found out from the cluster.

    heartbeat: seconds of silence after which a process counts as ended. From now on the end of
    another process ends this one, with a sentence. Raises GenaxError where they do not meet.
    """
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
    """End this process where an error says that another one has ended.

    At once: whatever would be waited for, waits for the one that is gone.
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
    """The first process's answer, on all; they wait for each other and for the step under way."""
    if jax.process_count() == 1:
        return answer
    return bool(multihost_utils.broadcast_one_to_all(np.int32(bool(answer))))


def check_alike(meant: str) -> None:
    """Raises GenaxError, in all processes, where they are not meant to do the same."""
    if jax.process_count() == 1:
        return
    found = multihost_utils.process_allgather(np.uint32(zlib.crc32(meant.encode())))
    if len(set(found.tolist())) > 1:
        raise GenaxError(
            "the processes of this run differ in experiment, settings, data or versions; run the "
            "same command on all."
        )


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
