"""What is said of a clip's work."""

from types import SimpleNamespace

import pytest

from mattecli.cli.clip_display import Display
from mattecli.inference.clips import Summary
from mattecli.inference.pipeline import Progress


@pytest.mark.parametrize("quiet", [False, True])
def test_who_pressed_ctrl_c_hears_what_goes_on(capsys, quiet):
    busy = {"decode": 0.2, "network": 0.5, "encode": 0.9}
    with Display(json=False, quiet=quiet, data_on_stdout=False) as display:
        display(Progress(3, 8, 1.0, 3.0, 2.0, busy))
        assert capsys.readouterr().err == ""
        display(Progress(3, 8, 1.1, 3.0, 2.0, busy, ending=True))
    assert ("Finishing the file" in capsys.readouterr().err) != quiet


@pytest.mark.parametrize("dropped", [0, 7])
def test_dropped_frames_are_told(capsys, dropped):
    with Display(json=False, quiet=False, data_on_stdout=False) as display:
        display.done("camera", Summary(3, 1.0, 2.0, {}, dropped=dropped), SimpleNamespace(whole=None))
    assert ("3 frames, 7 dropped to be on time, in 0:02" in capsys.readouterr().err) == bool(dropped)
