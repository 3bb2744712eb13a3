"""Programs are kept for the next run, where that is safe."""

import jax
import jax.numpy as jnp

from genax.running.compilation import compiled, keep_programs


def test_not_on_several_devices_of_a_cpu(monkeypatch):
    before = jax.config.jax_compilation_cache_dir
    assert jax.device_count() > 1
    try:
        jax.config.update("jax_compilation_cache_dir", None)
        keep_programs(True)
        assert jax.config.jax_compilation_cache_dir is None
        monkeypatch.setattr(jax, "device_count", lambda: 1)
        keep_programs(True)
        assert jax.config.jax_compilation_cache_dir.endswith("genax/compiled")
        # What the user has chosen stays.
        jax.config.update("jax_compilation_cache_dir", "elsewhere")
        keep_programs(True)
        assert jax.config.jax_compilation_cache_dir == "elsewhere"
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


def test_it_says_how_long_it_took():
    said = []
    program = compiled(jax.jit(lambda x: x + 1), said.append, jnp.ones(3))
    assert program(jnp.ones(3)).tolist() == [2, 2, 2]
    (line,) = said
    assert line.startswith("compiled in ")
