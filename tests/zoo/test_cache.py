"""Weights kept on this machine: where, how they came, and what their licence asks to be said."""

import json
import pickle
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from mattecli import zoo
from mattecli.errors import InputError, UsageError
from mattecli.zoo import cache, checkpoints, registry
from tests.zoo.making import card, run


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MATTECLI_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def publish(monkeypatch):
    """Makes a tiny network, changed as asked, the only one of the zoo."""

    def only(**changes):
        monkeypatch.setattr(registry, "_table", lambda: (card(**changes),))

    only()
    return only


@pytest.fixture
def file(tmp_path):
    """Its published checkpoint."""
    tensors = {f"module.{key}": value for key, value in torch.nn.Linear(3, 2).state_dict().items()}
    torch.save({"epoch": 3, "state_dict": tensors}, tmp_path / "tiny.pth")
    return tmp_path / "tiny.pth"


def test_the_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert cache.folder() == tmp_path / "home"
    monkeypatch.setenv("MATTECLI_HOME", "weights")
    assert cache.folder() == Path.cwd() / "weights"
    monkeypatch.delenv("MATTECLI_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert cache.folder() == tmp_path / "caches" / "mattecli"
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "caches")  # its specification says to ignore what is not absolute
    assert cache.folder() == tmp_path / ".cache" / "mattecli"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    for platform, place in {
        "linux": ".cache/mattecli",
        "darwin": "Library/Caches/mattecli",
        "win32": "AppData/Local/mattecli/Cache",
    }.items():
        monkeypatch.setattr(sys, "platform", platform)
        assert cache.folder() == tmp_path / place


def test_import_reports_and_keeps(publish, file, home):
    result = run("import", "tiny", file)
    assert result.exit_code == 0 and not result.stdout
    digest = cache.checksum(file)
    assert f"tiny → {home / 'tiny.safetensors'} (" in result.stderr and "2 tensors" in result.stderr
    assert f"sha256 of tiny.pth: {digest}; it cannot be compared" in result.stderr
    assert "place of" not in result.stderr and "free" not in result.stderr
    with safe_open(home / "tiny.safetensors", "pt") as kept:
        about = kept.metadata()
    date = about.pop("date")
    assert about == {"network": "tiny", "source": "tiny.pth", "sha256": digest} and date.endswith("+00:00")
    file.unlink()
    assert zoo.load("tiny").weight.shape == (2, 3)
    listed = run("where").stdout.splitlines()
    assert listed[0] == str(home) and listed[2].split() == ["tiny", *listed[2].split()[1:3], "tiny.pth", date]
    assert "in the cache" in run().stdout
    assert json.loads(run("--json").stdout)["weights"] == str(home / "tiny.safetensors")


def test_import_compares_with_the_card(publish, file):
    publish(sha256=cache.checksum(file))
    assert "it matches the published file" in run("import", "tiny", file).stderr
    publish(sha256="0" * 64)
    result = run("import", "tiny", file)
    assert result.exit_code == 0 and "it is not that of the published file" in result.stderr
    assert "It takes the place of tiny.pth." in result.stderr


def test_what_was_exported_can_be_imported(publish, file, home, tmp_path):
    cache.keep("tiny", file)
    before = zoo.load("tiny").weight
    shutil.move(home / "tiny.safetensors", tmp_path / "copy.safetensors")
    cache.keep("tiny", tmp_path / "copy.safetensors")
    assert torch.equal(zoo.load("tiny").weight, before)


@pytest.mark.parametrize(
    "name, file, code, words",
    [
        ("tiny", "missing.pth", 1, "Cannot read .*missing.pth: No such file or directory"),
        ("tiny", "text.pth", 1, "text.pth is incomplete, broken or no checkpoint"),
        ("tiny", "other.pth", 2, "other.pth is no checkpoint of tiny"),
        ("solved", "other.pth", 2, "solved needs no weights"),
        ("ours", "other.pth", 2, "weights of ours come with mattecli; name others with --weights FILE"),
        ("tine", "other.pth", 2, "no network called 'tine'; the nearest is 'tiny', and"),
    ],
)
def test_what_cannot_be_imported(name, file, code, words, tmp_path, home, monkeypatch):
    monkeypatch.setattr(registry, "WEIGHTS", tmp_path)
    (tmp_path / "ours.safetensors").touch()
    table = (card(), card(name="solved", parameters=0), card(name="ours", weights="ours.safetensors"))
    monkeypatch.setattr(registry, "_table", lambda: table)
    (tmp_path / "text.pth").write_text("text")
    torch.save({"elsewhere": torch.ones(3)}, tmp_path / "other.pth")
    result = run("import", name, tmp_path / file)
    assert result.exit_code == code and not home.exists()
    with pytest.raises((InputError, UsageError), match=words):
        cache.keep(name, tmp_path / file)


def test_a_failed_import_changes_nothing(publish, file, home, tmp_path):
    cache.keep("tiny", file)
    before = (home / "tiny.safetensors").read_bytes()
    (tmp_path / "text.pth").write_text("text")
    assert run("import", "tiny", tmp_path / "text.pth").exit_code == 1
    assert (home / "tiny.safetensors").read_bytes() == before and len(list(home.iterdir())) == 1


def test_shipped_weights_go_first(publish, file, tmp_path, monkeypatch):
    cache.keep("tiny", file)
    monkeypatch.setattr(registry, "WEIGHTS", tmp_path)
    publish(weights="tiny.safetensors")
    assert torch.equal(zoo.load("tiny").weight, zoo.load("tiny", file).weight)
    checkpoints.save(tmp_path / "tiny.safetensors", {"weight": torch.ones(2, 3), "bias": torch.ones(2)})
    assert zoo.load("tiny").weight.sum() == 6


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"direct": True}, "no weights of tiny here: `mattecli models pull tiny` downloads them"),
        ({}, "take the file from https://example.org/tiny.pth in a browser, then `mattecli models import tiny FILE`"),
        ({"address": None}, r"none are published, so train it \(`mattecli train`\), or pass --weights FILE"),
    ],
)
def test_missing_weights_say_how_to_bring_them(publish, changes, words):
    publish(**changes)
    with pytest.raises(UsageError, match=words):
        zoo.load("tiny")


def test_a_foreign_file_in_the_folder_spoils_no_listing(publish, home):
    home.mkdir()
    (home / "tiny.safetensors").write_text("text")
    for command in ([], ["where"], ["show", "tiny"]):
        assert run(*command).exit_code == 0
    assert "unknown" in run("where").stdout
    with pytest.raises(InputError, match=r"tiny\.safetensors is incomplete, broken or no checkpoint"):
        zoo.load("tiny")


def official(name, checkpoint, folder):
    """A recorded checkpoint in the wrapping of its authors' file."""
    tensors = {key: torch.from_numpy(value.copy()) for key, value in checkpoint.items()}
    path = folder / "official"
    match name:
        case "ppmatting-hrnet18":
            path.write_bytes(pickle.dumps({**checkpoint, "StructuredToParameterName@@": {}}, protocol=2))
        case "gca":
            wrapped = {f"module.{key}": value for key, value in tensors.items()}
            torch.save({"iter": 1, "loss": 0.1, "state_dict": wrapped}, path)
        case _:
            torch.save(tensors, path)
    return path


@pytest.mark.parametrize(
    "name, recorded",
    [
        ("modnet", "modnet"),
        ("bgmv2-mobilenetv2", "bgmv2_refine_mobilenetv2"),
        ("gca", "gca"),
        ("ppmatting-hrnet18", "ppmatting"),
    ],
)
def test_the_cache_equals_the_official_file(name, recorded, parity, tmp_path):
    path = official(name, parity(recorded).checkpoint, tmp_path)
    truth = zoo.load(name, path).state_dict()
    cache.keep(name, path)
    found = zoo.load(name).state_dict()
    assert found.keys() == truth.keys() and all(torch.equal(found[key], truth[key]) for key in truth)
    with safe_open(cache.folder() / f"{name}.safetensors", "pt") as kept:
        assert set(kept.keys()) == set(truth)


def test_the_fast_filter_takes_what_the_deep_ones_network_left_in_the_cache(home):
    deep = zoo.create("rvm-mobilenetv3").state_dict()
    about = {"source": zoo.card("rvm-mobilenetv3").address}
    checkpoints.save(home / "rvm-mobilenetv3.safetensors", deep, about)
    fast = zoo.load("rvm-mobilenetv3-fast").state_dict()
    assert fast.keys() < deep.keys() and all(torch.equal(deep[key], value) for key, value in fast.items())


@pytest.mark.parametrize("terms", ["free", "copyleft", "non-commercial"])
def test_the_notice_of_published_weights(publish, file, terms):
    publish(terms=terms, weights_licence="for research")
    notice = None
    assert cache.licence_notice("tiny", None) is None, "there are none"
    assert cache.licence_notice("tiny", file) is None, "nobody knows the file"
    if terms != "free":
        notice = "The weights of tiny are not free for every use; their licence: for research."
    cache.keep("tiny", file)
    for weights in (None, file, cache.folder() / "tiny.safetensors"):
        assert cache.licence_notice("tiny", weights) == notice
    (cache.folder() / "tiny.safetensors").unlink()
    publish(terms=terms, weights_licence="for research", sha256=cache.checksum(file))
    assert cache.licence_notice("tiny", file) == notice


def test_no_notice_of_a_users_own_weights(publish, file, tmp_path):
    publish(terms="non-commercial", sha256="0" * 64)
    torch.save({"weight": torch.ones(2, 3), "bias": torch.ones(2)}, tmp_path / "own.pth")
    assert cache.licence_notice("tiny", tmp_path / "own.pth") is None
    assert cache.licence_notice("tiny", tmp_path / "missing.pth") is None
    publish(terms="non-commercial", address=None)
    cache.keep("tiny", tmp_path / "own.pth")
    assert cache.licence_notice("tiny", None) is None, "none are published, so these are the user's"


def test_the_terms_are_those_of_the_licences():
    for name in zoo.names():
        about = zoo.card(name)
        if about.address:
            words = {"free": ("MIT", "Apache-2.0"), "copyleft": ("GPL",), "non-commercial": ("non-commercial",)}
            assert about.weights_licence.startswith(words[about.terms]), name


def test_addresses_say_whether_a_program_can_take_them():
    pages = ("drive.google.com", "github.com/aipixel/E2E-HIM")
    for name in zoo.names():
        about = zoo.card(name)
        if about.address:
            assert about.direct == (about.address.endswith((".pth", ".pdparams")))
            assert about.direct != any(page in about.address for page in pages)
