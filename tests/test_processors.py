"""How many cores this process may use."""

import pytest

from mattecli import processors as module


@pytest.mark.parametrize(
    ("told", "cores"), [("max 100000\n", 3), ("150000 100000\n", 2), ("50000 100000\n", 1), ("800000 100000\n", 3)]
)
def test_a_container_may_have_a_share_of_them(told, cores, tmp_path, monkeypatch):
    (tmp_path / "cpu.max").write_text(told)
    monkeypatch.setattr(module, "LIMIT", tmp_path / "cpu.max")
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda _: {0, 1, 5}, raising=False)
    monkeypatch.setattr(module.os, "cpu_count", lambda: 3)
    module._share.cache_clear()
    try:
        assert module.processors() == cores
    finally:
        module._share.cache_clear()
