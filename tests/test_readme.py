"""The README's words are true: its commands exist and run, its files are there."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHELL = "".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL))
FIRST, SECOND = re.search(r"```sh\n(python3 -m venv .*?)```", README, re.DOTALL)[1].strip().splitlines()


def run(*arguments, cwd):
    command = [sys.executable, "-m", "mattecli", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


def test_first_command_mattes_the_sample_photo(tmp_path):
    command = shlex.split(FIRST.split("&&")[-1])
    assert command[0] == ".venv/bin/mattecli"
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    done = run(*command[1:], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    alpha = cv2.imread(str(tmp_path / "alpha.png"), cv2.IMREAD_UNCHANGED)
    assert alpha.shape == (512, 512) and alpha.dtype == np.uint8
    face, backdrop = alpha[60:200, 190:270], alpha[20:120, 300:350]
    assert face.mean() > 245 and backdrop.mean() < 10


def test_second_command_is_what_ci_runs():
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    for part in SECOND.split(" && "):
        assert part.replace(" -c", "").replace(" --quiet", "") in script.replace(" --quiet", "").replace(" -c", "")


@pytest.mark.parametrize("name", sorted(set(re.findall(r"^mattecli (\w+)", SHELL, re.MULTILINE))))
def test_every_subcommand_shown_explains_itself(name, tmp_path):
    done = run(name, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "mattecli" in done.stdout


def test_every_option_shown_exists(tmp_path):
    for line in re.findall(r"^(?:curl .*\| )?mattecli .*", SHELL, re.MULTILINE):
        words = shlex.split(line.split("mattecli ", 1)[1], comments=True)
        said = run(words[0], "--help", cwd=tmp_path).stdout
        for option in (w for w in words[1:] if w.startswith("--")):
            assert option in said, f"{words[0]} has no {option}"


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#:]+)\)", README))
def test_every_file_linked_is_there(link):
    assert (ROOT / link).exists()
