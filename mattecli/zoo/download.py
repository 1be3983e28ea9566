"""A file from an address, going on where an earlier attempt stopped. Proxy variables of the environment are followed.

Beside the unfinished `NAME.part` lies `NAME.part.json`: the address, how long the file is to be, and the ETag or date
by which the server tells whether it is still the same file. Without such a mark the next attempt starts again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO, TypedDict, cast
from urllib.error import HTTPError, URLError
from urllib.request import Request, build_opener, getproxies, proxy_bypass

import mattecli
from mattecli.errors import InputError, reason

Report = Callable[[int, int | None], None]
"""Told the bytes that are there and how many there will be, None where the server does not say."""

TIMEOUT = 30.0
"""Seconds without an answer or a byte after which a server counts as gone."""

BLOCK = 2**18
PARTIAL, UNSATISFIABLE = 206, 416


class _Mark(TypedDict):
    address: str
    validator: str | None
    total: int | None


def fetch(address: str, part: Path, report: Report) -> None:
    """Bring the file at `address` (http or https) to `part`, of which an earlier attempt may have left a beginning.

    Raises `InputError` where the network, the server or the disk fails; what has come by then stays for the next
    attempt.
    """
    mark = _recall(part, address)
    have = part.stat().st_size if mark and part.is_file() else 0
    if mark and have and have == mark["total"]:
        report(have, have)
        return
    with _answer(address, have, mark and mark["validator"]) as response:
        if response.headers.get_content_type() == "text/html":
            raise InputError(f"{address} gave a web page, not weights; look at it in a browser.")
        if response.status != PARTIAL:
            have = 0
        total = _total(response, have)
        try:
            with part.open("ab" if have else "wb") as file:
                if not have:  # not earlier: the mark of one file beside bytes of another would join the two
                    mark = _Mark(address=address, validator=_validator(response.headers), total=total)
                    _note(part).write_text(json.dumps(mark))
                report(have, total)
                for block in _blocks(response, address):
                    file.write(block)
                    have += len(block)
                    report(have, total)
        except OSError as error:
            raise InputError(f"Cannot write {part}: {reason(error)}; the same command goes on from here.") from error
    if total is not None and have != total:
        raise _broken(address, f"{have:,} of {total:,} bytes came")


def discard(part: Path) -> None:
    """Remove an unfinished download, if there is one."""
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Only one process at a time; a lock goes with its process, however that ends. Raises `InputError` while taken."""
    with lock.open("ab") as file:
        try:
            _claim(file)
        except (BlockingIOError, PermissionError) as error:
            raise InputError("Another process is downloading the same weights; wait for it.") from error
        except OSError:
            pass  # a file system without locks
        yield


if sys.platform == "win32":

    def _claim(file: IO[bytes]) -> None:
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

else:

    def _claim(file: IO[bytes]) -> None:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _note(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _recall(part: Path, address: str) -> _Mark | None:
    """What is known of the unfinished download, None where it cannot go on."""
    try:
        mark = json.loads(_note(part).read_text())
        fits = mark["address"] == address and mark["validator"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return cast(_Mark, mark) if fits else None


@contextmanager
def _answer(address: str, have: int, validator: str | None) -> Iterator[HTTPResponse]:
    """The server's answer, from byte `have` on where it can and the file is still the one that `validator` marks."""
    headers = {"User-Agent": f"mattecli/{mattecli.__version__}"}
    if have and validator:
        headers |= {"Range": f"bytes={have}-", "If-Range": validator}
    try:
        response = build_opener().open(Request(address, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        error.close()
        if error.code == UNSATISFIABLE and have:
            with _answer(address, 0, None) as whole:
                yield whole
            return
        answer = str(error.reason).partition("\n")[0].removesuffix(".")
        raise InputError(f"{address} cannot be had: the server answers {error.code} {answer}.") from error
    except (OSError, HTTPException) as error:
        raise _broken(address, error) from error
    with response:
        start = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
        if response.status == PARTIAL and start != str(have):
            raise _broken(address, "the server sent another part than was asked for")
        yield response


def _blocks(response: HTTPResponse, address: str) -> Iterator[bytes]:
    try:
        while block := response.read(BLOCK):
            yield block
    except (OSError, HTTPException) as error:
        raise _broken(address, error) from error


def _broken(address: str, cause: object) -> InputError:
    if isinstance(cause, URLError):
        cause = cause.reason
    text = (cause.strerror or str(cause)) if isinstance(cause, OSError) else str(cause) or type(cause).__name__
    return InputError(
        f"Cannot download {address} ({text}{_by_proxy(address)}); try again later, what has come is kept."
    )


def _by_proxy(address: str) -> str:
    """What to add where a proxy is asked for `address`; without the user and password that may be in its own."""
    request = Request(address)
    proxy = getproxies().get(request.type)
    if not proxy or proxy_bypass(request.host):
        return ""
    return f", asked of the proxy {proxy.rpartition('@')[2]}"


def _total(response: HTTPResponse, have: int) -> int | None:
    length = response.headers.get("Content-Length", "")
    return have + int(length) if length.isdigit() else None


def _validator(headers: Message) -> str | None:
    """A strong ETag, else the date: a weak ETag does not promise the same bytes."""
    tag = headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")
