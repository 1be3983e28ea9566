"""What is typed first answers at once: torch and OpenCV are imported by work only."""

import subprocess
import sys

import pytest

SLOW = ("torch", "cv2", "av", "numpy")


def loaded_after(code):
    code += f"\nimport sys; print(*(name for name in {SLOW} if name in sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout, done.stderr.split()


HELP = """
import sys
from mattecli.cli import main
sys.argv[1:] = {arguments}
try:
    main()
except SystemExit as end:
    assert end.code == 0, end.code
"""


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--help"], "matte"),
        (["--version"], "mattecli"),
        *(([name, "--help"], "Usage") for name in ("matte", "video", "train", "eval", "bench", "models")),
        (["bench", "video", "--help"], "Usage"),
        (["models"], "realtime"),
    ],
)
def test_help_imports_nothing_slow(arguments, word):
    said, loaded = loaded_after(HELP.format(arguments=arguments))
    assert word in said
    assert loaded == []


def test_import_is_light():
    said, loaded = loaded_after("import mattecli; print(mattecli.__version__, mattecli.__all__)")
    assert "matte" in said
    assert loaded == []


def test_media_imports_no_torch():
    _, loaded = loaded_after("import mattecli.media.photos, mattecli.media.batch, mattecli.media.foreground")
    assert "torch" not in loaded


def test_unknown_names_are_refused():
    import mattecli

    with pytest.raises(AttributeError, match="nothing"):
        mattecli.nothing  # noqa: B018


@pytest.mark.parametrize("arguments", [["nonsense"], ["matte"], ["matte", "--nonsense", "x.jpg"]])
def test_wrong_use_exits_with_two(arguments):
    done = subprocess.run([sys.executable, "-m", "mattecli", *arguments], capture_output=True, text=True)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
