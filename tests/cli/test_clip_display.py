"""What is said of a clip's work."""

import pytest

from mattecli.cli.clip_display import Display
from mattecli.inference.pipeline import Progress


@pytest.mark.parametrize("quiet", [False, True])
def test_who_pressed_ctrl_c_hears_what_goes_on(capsys, quiet):
    busy = {"decode": 0.2, "network": 0.5, "encode": 0.9}
    with Display(json=False, quiet=quiet, data_on_stdout=False) as display:
        display(Progress(3, 8, 1.0, 3.0, 2.0, busy))
        assert capsys.readouterr().err == ""
        display(Progress(3, 8, 1.1, 3.0, 2.0, busy, ending=True))
    assert ("Finishing the file" in capsys.readouterr().err) != quiet
