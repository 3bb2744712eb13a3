"""The processes of one run: how they meet, and what one of them says when another has ended."""

from __future__ import annotations

import ctypes
import os
import re
import signal
from typing import Any

import jax

from genax.core.errors import GenaxError

# What gloo, the coordination service and Orbax's barriers say; their errors have no type of their
# own.
_LOST = re.compile(
    r"gloo|connection (reset|closed|refused)|socket closed|coordination|heartbeat|barrier"
    r"|broken pipe|UNAVAILABLE",
    re.IGNORECASE,
)
# C code keeps the pointer only.
_KEPT: list[Any] = []


def connect(
    coordinator: str | None, number: int | None, process: int | None, heartbeat: int, workdir: Any
) -> None:
    """Join the run's other processes; None is found out from the cluster.

    heartbeat: seconds of silence after which a process counts as ended. From now on the end of
    another process ends this one, with a sentence. Raises GenaxError where they do not meet.
    """
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
        raise GenaxError(
            f"the processes of this run did not meet ({' '.join(str(error).split())[:200]}); start "
            "the same command on all, or name --coordinator, --num-processes and --process-id."
        ) from error

    # JAX's service aborts this process from a thread of its own, in which no Python handler of
    # signals ever runs; and it does not take a function of ours to call instead.
    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda _: _leave(workdir))
    _KEPT.append(handler)
    ctypes.CDLL(None).signal(int(signal.SIGABRT), handler)


def leave_if_lost(error: BaseException, workdir: Any) -> None:
    """End this process where an error says that another one has ended; else do nothing.

    At once: whatever would be waited for, waits for the one that is gone.
    """
    if jax.process_count() > 1 and _LOST.search(str(error)):
        _leave(workdir)


def _leave(workdir: Any) -> None:
    try:
        names = os.listdir(os.path.join(str(workdir), "checkpoints"))
        place = f"step {max(int(name) for name in names if name.isdigit())}"
    except (OSError, ValueError):  # a bucket, or no checkpoint yet
        place = "its newest checkpoint, or from the start"
    sentence = (
        "\ngenax: another process of this run ended or can no longer be reached; run the same "
        f"command on all to resume from {place}.\n"
    )
    os.write(2, sentence.encode())
    os._exit(1)
