"""`mattecli models`: the networks, and where their weights come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer
from rich.filesize import decimal
from rich.table import Table

from mattecli import zoo
from mattecli.cli.console import INTERRUPTED, complain, console, emit_json, print_table, say
from mattecli.errors import UsageError
from mattecli.zoo import cache

if TYPE_CHECKING:
    from mattecli.zoo.download import Report

Json = Annotated[bool, typer.Option("--json", help="One JSON object a network, one a line.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="A network of `mattecli models`.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]

app = typer.Typer()


@app.callback(invoke_without_command=True)
def models(context: typer.Context, as_json: Json = False) -> None:
    """List the networks, show one, or bring its weights.

    Example: mattecli models

    Example: mattecli models show modnet

    Example: mattecli models pull rvm-mobilenetv3
    """
    if context.invoked_subcommand is not None:
        if as_json:
            raise UsageError("--json goes behind `list`, `show NAME` or `where`, or alone for the list.")
        return
    list_networks(as_json)


@app.command("list")
def list_networks(as_json: Json = False) -> None:
    """List the networks, as `mattecli models` alone does.

    Example: mattecli models list --json
    """
    cards = [zoo.card(name) for name in zoo.names()]
    if as_json:
        for card in cards:
            emit_json(facts(card))
        return
    table = Table("network", "needs", "parameters", "licence", "weights", box=None, pad_edge=False)
    for card in cards:
        size = f"{card.parameters / 1e6:.1f} M" if card.parameters else "none"
        table.add_row(card.name, card.inputs, size, card.weights_licence, _whereabouts(card))
    print_table(table)


@app.command()
def show(name: Name, as_json: Json = False) -> None:
    """Show a network's paper, licences, size, and where its weights are.

    Example: mattecli models show realtime
    """
    card = zoo.card(name)
    if as_json:
        emit_json(facts(card))
        return
    kept = cache.entry(name)
    rows = {
        "network": card.name,
        "paper": f"{card.paper} ({card.year})",
        "needs": card.inputs,
        "parameters": f"{card.parameters:,}",
        "licence of code": card.code_licence,
        "licence of weights": card.weights_licence,
        "weights": _where(card),
        "from": kept and not card.included and kept.source,
        "published at": card.address,
        "sha256": card.sha256 or cache.pinned(card),
        "notes": card.notes,
    }
    for key, value in rows.items():
        if value:
            print(f"{key:<20}{value}")
    if card.model_card:
        print("\n" + card.model_card.rstrip())


@app.command()
def pull(
    name: Name,
    force: Annotated[bool, typer.Option("--force", help="Download again what is here.")] = False,
    offline: Annotated[
        bool, typer.Option("--offline", envvar="MATTECLI_OFFLINE", help="Make no connection; fail if one is needed.")
    ] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Download a network's published weights into the cache.

    A download that broke off goes on where it stopped. The checksum is compared with the card's; where that knows none,
    with the first download's. HTTP_PROXY, HTTPS_PROXY and NO_PROXY are followed. No code in the file is run.

    Example: mattecli models pull rvm-mobilenetv3
    """
    card, tell = zoo.card(name), _silence if quiet else say
    here = cache.entry(name)
    if here and not force:
        tell(f"{name} is here already: {here.path}, from {here.source} (--force downloads again).")
        return
    first = not (card.sha256 or cache.pinned(card))
    try:
        with _bar(name, quiet) as report:
            kept = cache.pull(name, report, offline)
    except KeyboardInterrupt:
        if debug:
            raise
        complain("interrupted; what has come is kept, and the same command goes on.")
        raise typer.Exit(INTERRUPTED) from None
    tell(f"{name} → {kept.path} ({decimal(kept.bytes)}, {kept.tensors} tensors)")
    if first:
        tell(
            f"No checksum of it is known, so this first download could not be verified; its sha256, {kept.sha256}, "
            f"is pinned in {cache.pin_file(name)}, and later ones must equal it."
        )
    _tell_licence(name, tell)


@app.command("import")
def import_(
    name: Name,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A checkpoint, as its authors publish it or as ours.")],
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Convert a network's checkpoint to safetensors and keep it in the cache, where `--model NAME` finds it.

    The file itself is not changed or needed any more. No code in it is run.

    Example: mattecli models import modnet modnet_photographic_portrait_matting.ckpt
    """
    card, tell = zoo.card(name), _silence if quiet else say
    before = cache.entry(name)
    kept = cache.keep(name, file)
    known = card.sha256 or cache.pinned(card)
    verdict = (
        "matches" if known == kept.sha256 else "is not that of" if known else "cannot be compared: none is known of"
    )
    tell(f"{name} → {kept.path} ({decimal(kept.bytes)}, {kept.tensors} tensors)")
    tell(f"sha256 of {kept.source}: {kept.sha256}; it {verdict} the published file.")
    if before:
        tell(f"It takes the place of {before.source or 'another file'}.")
    _tell_licence(name, tell)


@app.command()
def where(as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False) -> None:
    """Show the folder of the cache, and what lies in it.

    It is $MATTECLI_HOME, else $XDG_CACHE_HOME/mattecli, else the platform's usual place.

    Example: mattecli models where
    """
    kept, unfinished = cache.entries(), cache.unfinished()
    if as_json:
        weights = [{**asdict(entry), "path": str(entry.path)} for entry in kept]
        emit_json({"folder": str(cache.folder()), "weights": weights, "unfinished": unfinished})
        return
    print(cache.folder())
    table = Table("network", "size", "from", "date", box=None, pad_edge=False)
    for entry in kept:
        table.add_row(entry.network, decimal(entry.bytes), entry.source or "unknown", entry.date)
    for name, size in unfinished.items():
        table.add_row(name, decimal(size), "unfinished download", "")
    if table.rows:
        print_table(table)


def facts(card: zoo.Card) -> dict[str, Any]:
    """A card for machines: its fields, `weights` as the path of the file that is taken for it, or null."""
    found = cache.find(card)
    return {**asdict(card), "weights": str(found) if found else None, "model_card": card.model_card}


def _where(card: zoo.Card) -> str:
    if not card.parameters:
        return "none needed"
    found = cache.find(card)
    return str(found) if found else f"not here: {cache.remedy(card)}"


def _whereabouts(card: zoo.Card) -> str:
    if not card.parameters:
        return "none needed"
    if card.included:
        return "included"
    if cache.find(card):
        return "in the cache"
    if card.download:
        return "models pull"
    return f"{urlsplit(card.address).hostname}, models import" if card.address else "none published"


def _silence(_: str) -> None:
    pass


def _tell_licence(name: str, tell: Callable[[str], None]) -> None:
    if notice := cache.licence_notice(name, None):
        tell(notice)


@contextmanager
def _bar(name: str, quiet: bool) -> Iterator[Report]:
    """A bar of bytes with rate and time left, on a terminal only."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn(name), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    hidden = quiet or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:

        def report(done: int, total: int | None) -> None:
            if bar.tasks:
                bar.update(bar.task_ids[0], completed=done)
            else:
                bar.add_task(name, total=total, completed=done)

        yield report
