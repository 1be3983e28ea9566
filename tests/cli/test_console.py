"""Talk on stderr, data on stdout, whoever listens."""

import io
import json
import subprocess
import sys

import pytest
from rich.console import Console
from rich.progress import Progress

from mattecli.cli.console import complain, console, emit_json, say


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(5, "Input/output error")])
@pytest.mark.parametrize("moment", ["write", "flush"])
def test_talk_that_nobody_hears_ends_nothing(monkeypatch, error, moment):
    def broken(*_):
        raise error

    deaf = io.StringIO()
    monkeypatch.setattr(deaf, moment, broken, raising=False)
    monkeypatch.setattr(sys, "stderr", deaf)
    say("Finishing the file.")
    complain("interrupted.")
    with Progress(console=console):
        say("While there is a bar.")


def test_what_is_said_goes_to_stderr_as_it_is_now(capsys):
    say("[1] of 2")
    assert capsys.readouterr().err == "[1] of 2\n"


def test_events_go_to_stdout_while_a_bar_is_shown_on_stderr(capsys):
    terminal = Console(file=io.StringIO(), force_terminal=True, width=20)
    record = {"event": "progress", "said": "longer than the terminal is wide"}
    with Progress(console=terminal):
        emit_json(record)
    assert json.loads(capsys.readouterr().out) == record and "event" not in terminal.file.getvalue()


@pytest.mark.parametrize(("daemon", "ended_at_once"), [(True, True), (False, False)])
def test_a_thread_that_cannot_be_ended_does_not_abort_the_end(daemon, ended_at_once):
    """The rest is done: files are removed, what was said comes out."""
    done = subprocess.run([sys.executable, "-c", LEFT, str(daemon)], capture_output=True, text=True, timeout=60)
    said = "said removed\n" if ended_at_once else "said back removed\n"
    assert (done.returncode, done.stdout) == (7, said), done.stderr


LEFT = """
import sys, threading, time, weakref
from mattecli.cli.clip_ending import leave_threads

threading.Thread(target=time.sleep, args=(0.1 if sys.argv[1] == "False" else 60,), daemon=sys.argv[1] == "True").start()
weakref.finalize(threading.main_thread(), print, "removed")
print("said", end=" ")
leave_threads(7)
print("back", end=" ")
sys.exit(7)
"""
