"""`mattecli models pull` against a server on this machine: what goes wrong between an address and the cache."""

import contextlib
import hashlib
import io
import json
import re
import socket
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from rich.console import Console

import mattecli
from mattecli import zoo
from mattecli.cli import models
from mattecli.errors import UsageError
from mattecli.zoo import cache, download, registry
from tests.zoo.making import card, run

BLOCK = 1000
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


class Served:
    """What the server gives for every path, and what was asked of it."""

    def __init__(self, content):
        self.content, self.kind, self.tag, self.status = content, "application/octet-stream", '"1"', 200
        self.ranges, self.length, self.cut, self.moved = True, True, None, None
        self.asked = []

    def answer(self, handler):
        self.asked.append((handler.path, handler.headers))
        if self.moved and handler.path != self.moved:
            handler.send_response(302)
            handler.send_header("Location", self.moved)
            handler.end_headers()
            return
        start, wanted = 0, re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        if wanted and self.ranges and handler.headers["If-Range"] == self.tag:
            start = int(wanted[1])
        if start >= len(self.content):
            handler.send_error(416)
            return
        body = self.content[start:]
        handler.send_response(206 if start else self.status)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        if self.length:
            handler.send_header("Content-Length", str(len(body)))
        if self.tag:
            handler.send_header("ETag" if self.tag.startswith(('"', "W/")) else "Last-Modified", self.tag)
        handler.send_header("Content-Type", self.kind)
        handler.end_headers()
        with contextlib.suppress(OSError):
            handler.wfile.write(body if self.cut is None else body[: self.cut])

    @property
    def froms(self):
        """The Range of each request, None where the whole file was asked for."""
        return [headers["Range"] for _, headers in self.asked]


@pytest.fixture(scope="module")
def weights():
    """A checkpoint of the tiny network as its authors would publish it."""
    torch.manual_seed(0)
    buffer = io.BytesIO()
    torch.save({"state_dict": {f"module.{k}": v for k, v in torch.nn.Linear(60, 60).state_dict().items()}}, buffer)
    return buffer.getvalue()


@pytest.fixture
def served(weights):
    return Served(weights)


@pytest.fixture
def address(served, monkeypatch, tmp_path):
    """Where the tiny network, the only one of the zoo but for `dim`, is published. The cache is empty."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

    Handler.do_GET = lambda handler: served.answer(handler)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    found = f"http://127.0.0.1:{server.server_port}/tiny.pth"
    publish(monkeypatch, found)
    monkeypatch.setattr(download, "BLOCK", BLOCK)
    monkeypatch.setenv("MATTECLI_HOME", str(tmp_path / "home"))
    for name in (*PROXIES, *map(str.upper, PROXIES), "MATTECLI_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


def publish(monkeypatch, address, **changes):
    tiny = card(
        options={"in_features": 60, "out_features": 60},
        parameters=3660,
        weights_licence="for research only",
        terms="non-commercial",
        address=address,
        direct=True,
    )
    large = replace(tiny, name="large", options={"in_features": 61, "out_features": 60}, address=None)
    monkeypatch.setattr(registry, "_table", lambda: (replace(tiny, **changes), large))


def refused(code, *arguments):
    """The one sentence of a command that ends with `code`."""
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert len(result.stderr.splitlines()) == 1 and result.stderr.startswith("error: ") and not result.stdout
    return result.stderr


def part():
    return cache.folder() / "downloads" / "tiny.part"


def files():
    return sorted(path.name for path in cache.folder().rglob("*") if path.is_file() and path.suffix != ".lock")


def is_published(name, weights):
    """The cached weights equal the published ones."""
    official = torch.load(io.BytesIO(weights), weights_only=True)["state_dict"]
    found = zoo.load(name).state_dict()
    return all(torch.equal(found[k.removeprefix("module.")], v) for k, v in official.items())


def is_whole(weights):
    """And nothing unfinished is left."""
    return is_published("tiny", weights) and files() == ["tiny.json", "tiny.safetensors"]


def test_a_download_is_converted_and_found(address, served, weights):
    assert "mattecli models pull tiny" in run("show", "tiny").stdout
    with pytest.raises(UsageError, match="`mattecli models pull tiny` downloads them"):
        zoo.load("tiny")
    result = run("pull", "tiny")
    assert result.exit_code == 0 and not result.stdout and is_whole(weights)
    digest = hashlib.sha256(weights).hexdigest()
    assert f"could not be verified; its sha256, {digest}, is pinned in {cache.pin_file('tiny')}" in result.stderr
    assert "not free for every use; their licence: for research only" in result.stderr
    (path, headers), *others = served.asked
    assert path == "/tiny.pth" and headers["User-Agent"] == f"mattecli/{mattecli.__version__}" and not others
    entry = json.loads(run("where", "--json").stdout)["weights"][0]
    assert entry["network"] == "tiny" and entry["source"] == address and entry["sha256"] == digest
    assert entry["tensors"] == 2 and entry["bytes"] == (cache.folder() / "tiny.safetensors").stat().st_size
    assert "in the cache" in run().stdout and address in run("show", "tiny").stdout


def test_what_is_here_is_not_downloaded_again(address, served, weights):
    run("pull", "tiny", "--quiet")
    again = run("pull", "tiny")
    assert again.exit_code == 0 and "is here already" in again.stderr and len(served.asked) == 1
    forced = run("pull", "tiny", "--force")
    assert forced.exit_code == 0 and "verified" not in forced.stderr and len(served.asked) == 2 and is_whole(weights)


def test_quiet_prints_nothing(address):
    result = run("pull", "tiny", "-q")
    assert result.exit_code == 0 and not result.output


@pytest.mark.parametrize("tag", ['"1"', "Sat, 21 Nov 2026 10:00:00 GMT"])
def test_an_interrupted_download_goes_on(address, served, weights, tag):
    served.tag, served.cut = tag, 5 * BLOCK
    assert "what has come is kept" in refused(1, "pull", "tiny")
    assert part().read_bytes() == weights[: 5 * BLOCK] and "tiny.safetensors" not in files()
    assert "unfinished download" in run("where").stdout
    assert refused(1, "pull", "tiny") and part().stat().st_size == 10 * BLOCK
    served.cut = None
    assert run("pull", "tiny").exit_code == 0 and is_whole(weights)
    assert served.froms == [None, "bytes=5000-", "bytes=10000-"]
    assert [headers["If-Range"] for _, headers in served.asked] == [None, tag, tag]


def test_without_a_length_the_end_is_the_end(address, served, weights):
    served.length = False
    assert run("pull", "tiny").exit_code == 0 and is_whole(weights)


def test_a_download_that_lacks_its_conversion_only(address, served, weights, monkeypatch):
    """Interrupted after its last byte."""
    with monkeypatch.context() as patch:
        patch.setattr(cache, "checksum", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        assert run("pull", "tiny").exit_code == 130
    assert part().read_bytes() == weights
    assert run("pull", "tiny").exit_code == 0 and is_whole(weights) and len(served.asked) == 1


@pytest.mark.parametrize(
    "change", ["no ranges", "another file", "no mark", "weak mark", "shorter file", "another address"]
)
def test_what_cannot_go_on_starts_again(address, served, weights, change, monkeypatch):
    served.cut = 5 * BLOCK
    if change in ("no mark", "weak mark"):
        served.tag = None if change == "no mark" else 'W/"1"'
    served.content = bytes(len(weights)) if change == "another file" else weights
    refused(1, "pull", "tiny")
    served.cut = None
    if change == "no ranges":
        served.ranges = False
    elif change == "another file":
        served.content, served.tag = weights, '"2"'
    elif change == "shorter file":
        part().write_bytes(bytes(2 * len(weights)))
    elif change == "another address":
        publish(monkeypatch, address.replace("tiny.pth", "new.pth"))
    assert run("pull", "tiny").exit_code == 0 and is_whole(weights)
    if change in ("no mark", "weak mark", "another address"):
        assert served.froms[-1] is None, "nothing promises that the rest is of the same file"


def test_ctrl_c_keeps_what_has_come(address, served, weights, monkeypatch):
    @contextlib.contextmanager
    def impatient(*_):
        def report(done, total):
            if done >= 4 * BLOCK:
                raise KeyboardInterrupt

        yield report

    with monkeypatch.context() as patch:
        patch.setattr(models, "_bar", impatient)
        assert "the same command goes on" in refused(130, "pull", "tiny")
    assert part().read_bytes() == weights[: 4 * BLOCK]
    assert run("pull", "tiny").exit_code == 0 and is_whole(weights) and served.froms[-1] == "bytes=4000-"


def test_a_redirect_is_followed(address, served, weights):
    served.moved = "/elsewhere/tiny.pth"
    assert run("pull", "tiny").exit_code == 0 and is_whole(weights)
    assert [path for path, _ in served.asked] == ["/tiny.pth", served.moved]


def test_the_cards_checksum(address, served, weights, monkeypatch):
    publish(monkeypatch, address, sha256="0" * 64)
    assert "another file than the card tells" in refused(1, "pull", "tiny") and files() == []
    publish(monkeypatch, address, sha256=hashlib.sha256(weights).hexdigest())
    result = run("pull", "tiny")
    assert result.exit_code == 0 and "verified" not in result.stderr and files() == ["tiny.safetensors"]


def test_the_first_downloads_checksum_holds(address, served, weights):
    run("pull", "tiny")
    buffer = io.BytesIO()
    torch.save(torch.nn.Linear(60, 60).state_dict(), buffer)
    served.content = buffer.getvalue()
    said = refused(1, "pull", "tiny", "--force")
    assert "another file than at the first download" in said and str(cache.pin_file("tiny")) in said
    assert is_whole(weights)
    cache.pin_file("tiny").unlink()
    assert run("pull", "tiny", "--force").exit_code == 0 and not is_whole(weights)


@pytest.mark.parametrize(
    "content, kind, code, words",
    [
        (b"<!DOCTYPE html><title>Sign in</title>", "text/html; charset=utf-8", 1, "gave a web page"),
        (b"<!DOCTYPE html><title>Sign in</title>", "application/octet-stream", 1, "broken or no checkpoint"),
        (b"weights", "application/octet-stream", 1, "broken or no checkpoint"),
        (None, "application/octet-stream", 2, "no checkpoint of tiny: its keys are those of large"),
    ],
)
@pytest.mark.parametrize("before", [False, True])
def test_wrong_content_is_refused(address, served, weights, content, kind, code, words, before):
    if before:
        run("pull", "tiny")
        cache.pin_file("tiny").unlink()
    there = {name: (cache.folder() / name).read_bytes() for name in files()}
    if content is None:
        buffer = io.BytesIO()
        torch.save(torch.nn.Linear(61, 60).state_dict(), buffer)
        content = buffer.getvalue()
    served.content, served.kind = content, kind
    said = refused(code, "pull", "tiny", "--force")
    assert words in said and address in said
    assert {name: (cache.folder() / name).read_bytes() for name in files()} == there


@pytest.mark.parametrize("status", [404, 403, 503])
def test_a_servers_refusal(address, served, status):
    served.answer = lambda handler: handler.send_error(status)
    assert f"the server answers {status}" in refused(1, "pull", "tiny") and files() == []


def test_a_redirect_in_a_circle(address, served):
    served.moved = "nowhere"  # never the path that is asked for
    assert "redirect" in refused(1, "pull", "tiny")


def test_no_network(address, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        publish(monkeypatch, f"http://127.0.0.1:{free.getsockname()[1]}/tiny.pth")
    assert "Connection refused" in refused(1, "pull", "tiny")
    publish(monkeypatch, "http://nowhere.invalid/tiny.pth")
    assert "Cannot download http://nowhere.invalid/tiny.pth" in refused(1, "pull", "tiny")


def test_a_silent_server(address, served, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.05)
    released = threading.Event()
    served.answer = lambda handler: released.wait(5)
    assert "timed out" in refused(1, "pull", "tiny")
    released.set()


@pytest.mark.parametrize("how", ["option", "variable"])
def test_offline_makes_no_connection(address, served, monkeypatch, how):
    if how == "variable":
        monkeypatch.setenv("MATTECLI_OFFLINE", "1")
    arguments = ["--offline"] if how == "option" else []
    assert "Offline: no connection was made" in refused(2, "pull", "tiny", *arguments) and not served.asked
    cache.keep("tiny", saved(served))
    assert run("pull", "tiny", *arguments).exit_code == 0 and not served.asked


def saved(served):
    path = cache.folder().parent / "tiny.pth"
    path.write_bytes(served.content)
    return path


def test_the_proxy_variable_is_followed(address, served, weights, monkeypatch):
    """The server is the proxy: it is asked for a whole address, of a host that there is not."""
    publish(monkeypatch, "http://weights.invalid/tiny.pth")
    monkeypatch.setenv("http_proxy", address.removesuffix("/tiny.pth"))
    assert run("pull", "tiny").exit_code == 0 and is_whole(weights)
    assert [path for path, _ in served.asked] == ["http://weights.invalid/tiny.pth"]


def test_a_proxy_that_fails_is_named_without_its_password(address, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        proxy = f"127.0.0.1:{free.getsockname()[1]}"
    publish(monkeypatch, "http://weights.invalid/tiny.pth")
    monkeypatch.setenv("http_proxy", f"http://me:secret@{proxy}")
    said = refused(1, "pull", "tiny")
    assert f"asked of the proxy {proxy}" in said and "secret" not in said
    monkeypatch.setenv("no_proxy", "weights.invalid")
    assert "proxy" not in refused(1, "pull", "tiny")


def test_two_at_once(address, served):
    part().parent.mkdir(parents=True)
    with download.alone(part().with_suffix(".lock")):
        assert "Another process" in refused(1, "pull", "tiny") and not served.asked
    assert run("pull", "tiny").exit_code == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk that is always full")
def test_a_full_disk(address, served):
    part().parent.mkdir(parents=True)
    part().symlink_to("/dev/full")
    said = refused(1, "pull", "tiny")
    assert "no space left on device" in said and str(part()) in said and "tiny.safetensors" not in files()


def test_a_page_for_browsers_is_not_downloaded(address, served, monkeypatch):
    publish(monkeypatch, address, direct=False)
    said = refused(2, "pull", "tiny")
    assert f"take the file from {address} in a browser, then `mattecli models import tiny FILE`" in said
    assert not served.asked
    assert "none are published" in refused(2, "pull", "large")


def test_the_bar_counts_bytes(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(models, "console", Console(file=screen, force_terminal=True, width=100))
    with models._bar("tiny", quiet=False) as report:
        report(1_000_000, 4_000_000)
        report(3_000_000, 4_000_000)
    assert "3.0/4.0 MB" in screen.getvalue()


def test_a_file_that_two_networks_take_is_downloaded_and_kept_once(address, served, weights, monkeypatch):
    tiny = registry.card("tiny")
    monkeypatch.setattr(registry, "_table", lambda: (tiny, replace(tiny, name="twin")))
    assert run("pull", "twin").exit_code == 0 and is_whole(weights)
    assert "is here already" in run("pull", "tiny").stderr and len(served.asked) == 1
    assert torch.equal(zoo.load("twin").weight, zoo.load("tiny").weight)
    assert run("pull", "tiny", "--force").exit_code == run("pull", "twin", "--force").exit_code == 0
    assert is_whole(weights)


def test_a_users_own_weights_are_neither_shared_nor_replaced(address, served, weights, monkeypatch, tmp_path):
    tiny = registry.card("tiny")
    monkeypatch.setattr(registry, "_table", lambda: (tiny, replace(tiny, name="twin")))
    torch.save({"weight": torch.ones(60, 60), "bias": torch.ones(60)}, tmp_path / "own.pth")
    run("import", "tiny", tmp_path / "own.pth")
    with pytest.raises(UsageError, match="`mattecli models pull twin` downloads them"):
        zoo.load("twin")
    assert run("pull", "twin").exit_code == 0 and len(served.asked) == 1
    assert zoo.load("tiny").bias.sum() == 60 != zoo.load("twin").bias.sum()
    run("import", "twin", tmp_path / "own.pth")
    assert run("pull", "tiny", "--force").exit_code == 0 and is_published("tiny", weights)
    assert zoo.load("twin").bias.sum() == 60
