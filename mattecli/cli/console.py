"""What all subcommands share: talk on stderr, a progress bar, errors as one sentence, JSON lines.

    with progress("matte", total=len(photos), quiet=quiet) as advance:
        for photo in photos:
            ...
            advance()

Data goes to stdout, everything here but `emit_json` to stderr. NO_COLOR is respected (Rich does).
"""

from __future__ import annotations

import errno
import functools
import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, ParamSpec, TextIO, TypeVar, cast

import typer
from rich.console import Console
from rich.text import Text

from mattecli.errors import InputError, MatteError, UsageError, reason

if TYPE_CHECKING:
    from rich.table import Table

P = ParamSpec("P")
R = TypeVar("R")


def _beneath(stream: TextIO) -> TextIO:
    """The stream itself, where Rich has put the console in its place for as long as a bar is shown."""
    return cast(TextIO, getattr(stream, "rich_proxied_file", stream))


class _Stderr:
    """What `sys.stderr` is at the time. Where nobody hears it any more (the terminal was closed, Ctrl-C ended the `tee`
    behind it too), the work goes on.
    """

    def write(self, text: str) -> None:
        with suppress(OSError):
            self._now.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._now.flush()

    def __getattr__(self, name: str) -> Any:
        if name == "rich_proxied_file":
            raise AttributeError(name)
        return getattr(self._now, name)

    @property
    def _now(self) -> TextIO:
        return _beneath(sys.stderr)


console = Console(file=cast(TextIO, _Stderr()), highlight=False)
INTERRUPTED = 130
WIDTH_OF_FILES = 200
"""What a table may take where no terminal limits it."""


def say(message: str, style: str = "") -> None:
    """One line on stderr, as it is: brackets in file names are no markup."""
    console.print(Text(message, style), soft_wrap=True)


def complain(message: str) -> None:
    """An error of the user's, on stderr."""
    console.print(Text.assemble(("error: ", "bold red"), message), soft_wrap=True)


def guard(command: Callable[P, R]) -> Callable[P, R]:
    """`command` with its errors made sentences and exit codes.

    MatteError: the sentence and its `exit_code`; OSError (a folder that may not be read, a full disk): 1;
    KeyboardInterrupt: 130. A parameter `debug` of the command, if true, lets the traceback through.
    """

    @functools.wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except MatteError as error:
            if kwargs.get("debug"):
                raise
            complain(str(error))
            raise typer.Exit(error.exit_code) from None
        except OSError as error:
            if kwargs.get("debug") or error.errno == errno.EPIPE:  # who reads our output may stop: Typer ends quietly
                raise
            where = f"{error.filename}: " if error.filename else ""
            complain(f"{where}{reason(error)}.")
            raise typer.Exit(MatteError.exit_code) from None
        except KeyboardInterrupt as error:
            if kwargs.get("debug"):
                raise
            complain(str(error) or "interrupted; no file is half-written.")
            raise typer.Exit(INTERRUPTED) from None

    return guarded


def guard_all(app: typer.Typer) -> typer.Typer:
    """`app`, its callback and its commands guarded."""
    for registered in (app.registered_callback, *app.registered_commands):
        if registered and registered.callback:
            registered.callback = guard(registered.callback)
    return app


def patiently(work: Callable[[], R]) -> R:
    """`work()` in a thread, so that Ctrl-C ends the wait for it: reading a pipe, C code may not come back for long."""
    done: Future[R] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return done.result()


@contextmanager
def progress(description: str, total: int | None, quiet: bool = False) -> Iterator[Callable[[float], None]]:
    """A bar with rate and time left, on a terminal only; yields `advance(steps)`. `say` prints above it."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:.1f}/s" if speed else "", "progress.data.speed")

    columns = (TextColumn(description), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    hidden = quiet or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task(description, total=total)
        yield lambda steps: bar.advance(task, steps)


def print_table(table: Table) -> None:
    """On stdout; in a file or a pipe as wide as it needs."""
    output = Console(highlight=False)
    if not output.is_terminal:
        output.width = WIDTH_OF_FILES
    output.print(table)


def check_stdout(what: str) -> None:
    """Raises InputError where stdout is closed, UsageError where it is a terminal: `what` can't be written there."""
    if sys.__stdout__ is None:
        raise InputError("stdout is closed; name a file with -o, or redirect stdout.")
    if sys.stdout.isatty():
        raise UsageError(f"This would print {what} to the terminal; name a file with -o, or redirect stdout.")


def emit_json(record: Mapping[str, Any], to_stderr: bool = False) -> None:
    """One JSON object on one line of stdout (of stderr while stdout carries data)."""
    stream = sys.stderr if to_stderr else sys.stdout
    print(json.dumps(record), file=stream if stream.isatty() else _beneath(stream), flush=True)
