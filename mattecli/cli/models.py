"""`mattecli models`: the networks, and where their weights come from."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from rich.table import Table

from mattecli import zoo
from mattecli.cli.console import emit_json, print_table

Json = Annotated[bool, typer.Option("--json", help="One JSON object a network, one a line.")]

app = typer.Typer()


@app.callback(invoke_without_command=True)
def models(context: typer.Context, as_json: Json = False) -> None:
    """List the networks, or show one.

    Example: mattecli models

    Example: mattecli models show modnet
    """
    if context.invoked_subcommand is not None:
        return
    cards = [zoo.card(name) for name in zoo.names()]
    if as_json:
        for card in cards:
            emit_json(facts(card))
        return
    table = Table("network", "needs", "parameters", "licence", "weights", box=None, pad_edge=False)
    for card in cards:
        size = f"{card.parameters / 1e6:.1f} M"
        table.add_row(card.name, card.inputs, size, card.weights_licence, _whereabouts(card))
    print_table(table)


@app.command()
def show(name: Annotated[str, typer.Argument(help="A network of `mattecli models`.")], as_json: Json = False) -> None:
    """Show a network's paper, licences, size, and where its weights are.

    Example: mattecli models show realtime
    """
    card = zoo.card(name)
    if as_json:
        emit_json(facts(card))
        return
    rows = {
        "network": card.name,
        "paper": f"{card.paper} ({card.year})",
        "needs": card.inputs,
        "parameters": f"{card.parameters:,}",
        "licence of code": card.code_licence,
        "licence of weights": card.weights_licence,
        "weights": _included(card) or f"not included: --model {name} --weights FILE",
        "published at": card.address,
        "sha256": card.sha256,
        "notes": card.notes,
    }
    for key, value in rows.items():
        if value:
            print(f"{key:<20}{value}")
    if card.model_card:
        print("\n" + card.model_card.rstrip())


def facts(card: zoo.Card) -> dict[str, Any]:
    """A card for machines: its fields, `weights` as the path of the included file, or null."""
    return {**asdict(card), "weights": _included(card), "model_card": card.model_card}


def _included(card: zoo.Card) -> str | None:
    return str(card.shipped) if card.shipped and card.shipped.is_file() else None


def _whereabouts(card: zoo.Card) -> str:
    if _included(card):
        return "included"
    return f"{urlsplit(card.address).hostname}, --weights FILE" if card.address else "--weights FILE"
