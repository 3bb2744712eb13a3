"""Before JAX starts: four simulated devices on the CPU, and one quick compilation of each program.

Shapes that are written as jaxtyping annotations are checked wherever a test comes by.
"""

import hashlib
import os
import tempfile
import time
from importlib import metadata
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

DEVICES = 4
STARTED = time.monotonic()


def _settings() -> dict[str, str]:
    """Environment variables of the tests, for those that are not set already."""
    # A program that was compiled once is taken from this folder, by the next run of the tests and
    # by the processes that tests start; it is the same program, so results stay the same bits.
    # The name keeps versions and users apart.
    versions = "".join(metadata.version(name) for name in ("jax", "jaxlib"))
    folder = f"genax-tests-{os.getuid()}-{hashlib.sha256(versions.encode()).hexdigest()[:8]}"
    return {
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(Path(tempfile.gettempdir()) / folder),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
    }


for name, value in _settings().items():
    os.environ.setdefault(name, value)
# XLA's concurrent schedule lets simulated devices start independent collectives in different
# orders and then wait for each other for ever; in one order they cannot. On busy cores they meet
# late: XLA ends the process after 40 seconds of waiting, unless told otherwise.
FLAGS = {
    "xla_force_host_platform_device_count": DEVICES,
    "xla_cpu_enable_concurrency_optimized_scheduler": "false",
    "xla_cpu_collective_call_terminate_timeout_seconds": 300,
}
# Nearly all programs of a test run once, so compiling them is most of its time. These halve it;
# tests/compilation.py undoes them for a program. Long tests compile as users do, but for --quick.
QUICK_FLAGS = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": "true",
    "xla_cpu_use_fusion_emitters": "false",
}


def _add_flags(settings):
    flags = os.environ.get("XLA_FLAGS", "")
    for flag, setting in settings.items():
        if flag not in flags:
            flags = f"{flags} --{flag}={setting}".strip()
    os.environ["XLA_FLAGS"] = flags


_add_flags(FLAGS)


def pytest_addoption(parser):
    parser.addoption("--quick", action="store_true", help="compile programs at once, not well")
    parser.addoption("--seconds", type=float, help="skip the tests that are left after this time")


def pytest_configure(config):
    """Compile quickly if long tests are left out or asked to be quick, before JAX reads flags."""
    if config.getoption("-m") == "not long" or config.getoption("--quick"):
        _add_flags(QUICK_FLAGS)


ANNOTATED = ("nn", "transformer", "diffusion", "gan", "vae", "hybrid", "evaluation", "interop")
install_import_hook([f"genax.{package}" for package in ANNOTATED], "beartype.beartype")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from tests.scheduling import ScopeScheduling

    return ScopeScheduling(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Skip tests that would begin after the time that was given, before their fixtures are made."""
    seconds = item.config.getoption("--seconds")
    if seconds is not None and time.monotonic() - STARTED > seconds:
        pytest.skip(f"left out: the {seconds:.0f} s of --seconds are over")


def pytest_runtest_teardown(item, nextitem):
    """Let compiled programs go at the end of each file, but for the contracts, which share them.

    Each is several mappings of memory, of which Linux allows a process 65,530: XLA crashes then.
    """
    following = None if nextitem is None else nextitem.path
    shared = following is not None and item.path.parent == following.parent
    if following != item.path and not (shared and following.parent.name == "contracts"):
        import jax

        jax.clear_caches()
