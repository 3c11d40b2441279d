import pytest

from minidbp.teaching import sized


@pytest.mark.parametrize(("value", "size"), [(None, "full"), ("", "full"), ("1", "smoke")])
def test_the_environment_decides(monkeypatch, value, size):
    monkeypatch.delenv("MINIDBP_SMOKE", raising=False)
    if value is not None:
        monkeypatch.setenv("MINIDBP_SMOKE", value)
    assert sized("full", "smoke") == size
