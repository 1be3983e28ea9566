"""Live sources by URL."""

import av
import pytest

from mattecli.errors import InputError
from mattecli.media.clips.reading.clip import open_clip


def test_a_live_source_is_opened_once(monkeypatch):
    opened = []

    def silent(name, *args, **options):
        opened.append(name)
        raise av.error.ExitError(1414092869, "Immediate exit requested")

    monkeypatch.setattr(av, "open", silent)
    with pytest.raises(InputError, match="nothing came from it in time"):
        open_clip("udp://127.0.0.1:9", hwaccel="auto")
    assert opened == ["udp://127.0.0.1:9"]
