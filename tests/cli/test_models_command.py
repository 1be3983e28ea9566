import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from mattecli import zoo
from mattecli.cli import app


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An empty cache."""
    monkeypatch.setenv("MATTECLI_HOME", str(tmp_path / "home"))


def run(*arguments):
    return CliRunner().invoke(app, ["models", *arguments])


def test_the_list_names_every_network():
    result = run()
    assert result.exit_code == 0
    lines = result.stdout.splitlines()[1:]
    assert [line.split()[0] for line in lines] == list(zoo.names())
    weights = {line.split()[0]: line for line in lines}
    assert "6.5 M" in weights["modnet"] and "drive.google.com, models import" in weights["modnet"]
    assert weights["rvm-mobilenetv3"].rstrip().endswith("models pull")
    assert weights["knn"].rstrip().endswith("none needed") and "0.0 M" not in weights["knn"]
    assert weights["gfm-rim-r34"].rstrip().endswith("none published")


def test_the_list_can_be_asked_for_by_name():
    assert run("list").stdout == run().stdout
    assert run("list", "--json").stdout == run("--json").stdout


def test_the_list_for_machines():
    entries = [json.loads(line) for line in run("--json").stdout.splitlines()]
    assert [entry["name"] for entry in entries] == list(zoo.names())
    assert {entry["name"]: entry["parameters"] for entry in entries}["modnet"] == 6_487_075


@pytest.mark.parametrize("name", zoo.names())
def test_a_card_is_shown_whole(name):
    card, shown = zoo.card(name), run("show", name).stdout
    assert f"{card.parameters:,}" in shown and card.paper in shown and card.weights_licence in shown
    assert card.code_licence in shown and (card.address is None or card.address in shown)
    assert ("none needed" in shown) == (not card.parameters)
    assert json.loads(run("show", name, "--json").stdout)["paper"] == card.paper


def test_included_weights_and_their_card_are_shown(tmp_path, monkeypatch):
    monkeypatch.setattr("mattecli.zoo.registry.WEIGHTS", tmp_path)
    assert "--weights FILE" in run("show", "realtime").stdout
    (tmp_path / "realtime.safetensors").write_bytes(b"")
    (tmp_path / "realtime.md").write_text("# Trained on [our] pictures\n")
    shown = run("show", "realtime").stdout
    assert str(tmp_path / "realtime.safetensors") in shown and "# Trained on [our] pictures" in shown
    assert "included" in run().stdout


def test_an_unknown_name_gets_the_nearest():
    result = run("show", "modnt")
    assert result.exit_code == 2 and not result.stdout
    assert "'modnet'" in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("rvm", "the nearest are 'rvm-mobilenetv3', 'rvm-resnet50', 'rvm-mobilenetv3-fast', and"),
        ("E2EHIM", "the nearest is 'e2ehim-swint', and"),
        ("nope", "'nope';"),
    ],
)
def test_an_unknown_name_is_answered_in_a_line(name, sentence):
    said = " ".join(run("show", name).stderr.split())
    assert f"{sentence} `mattecli models` lists them all." in said and "bgmv2" not in said


def test_json_before_a_subcommand_is_not_passed_over():
    result = run("--json", "show", "modnet")
    assert result.exit_code == 2 and "behind `list`" in result.stderr


def test_listing_does_not_load_torch():
    code = "from mattecli.cli import app; app(['models'], standalone_mode=False)"
    code += "; import sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
