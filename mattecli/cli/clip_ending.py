"""Ctrl-C for those that don't press it: service managers, `kill`, a terminal that is closed; and the way out."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import typer

from mattecli.cli.console import INTERRUPTED, complain


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM, and SIGHUP where it exists, do what Ctrl-C does, but the exit code is 128 and their number.

    What was to be ignored (`nohup`) is, and another program's own handlers are left alone.
    """
    received: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        received.append(number)
        pressed = signal.getsignal(signal.SIGINT)
        if not callable(pressed):
            raise KeyboardInterrupt
        pressed(signal.SIGINT, frame)

    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    free = [number for name in names if signal.getsignal(number := getattr(signal, name)) is signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        free = []
    for number in free:
        signal.signal(number, end)
    try:
        yield
    except KeyboardInterrupt as error:
        if not received:
            raise
        complain(str(error) or "interrupted; no file is half-written.")
        raise typer.Exit(128 + received[0]) from None
    except typer.Exit as ending:
        if received and ending.exit_code == INTERRUPTED:
            raise typer.Exit(128 + received[0]) from None
        raise
    finally:
        for number in free:
            signal.signal(number, signal.SIG_DFL)


def leave_threads(code: int) -> None:
    """Ends the program where a thread is left that can't be ended: it waits for a silent source, or compiles a network.
    If it woke up while Python (before 3.14) ends, C++ would abort the program, and the exit code be lost.
    """
    if not any(thread.daemon for thread in threading.enumerate()):
        return
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
