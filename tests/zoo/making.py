"""A card that the tests of weights and their cache share."""

from dataclasses import replace

from mattecli import zoo


def card(**changes):
    """Of a network of eight numbers, published at an address, but for `changes`."""
    made = zoo.Card(
        name="tiny",
        builder="torch.nn:Linear",
        options={"in_features": 3, "out_features": 2},
        paper="None",
        year=2026,
        inputs="image",
        parameters=8,
        code_licence="MIT",
        weights_licence="MIT",
        address="https://example.org/tiny.pth",
    )
    return replace(made, **changes)
