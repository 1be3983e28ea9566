"""`nox` runs lint, types and tests; `nox -s bench` prints speeds."""

import nox

nox.options.sessions = ["lint", "types", "tests"]
CONSTRAINED = ("-c", "tests/constraints.txt")


@nox.session
def lint(session: nox.Session) -> None:
    session.install(*CONSTRAINED, "ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    session.install(*CONSTRAINED, "-e", ".[cpu,test]", "mypy")
    session.run("mypy")


@nox.session
def tests(session: nox.Session) -> None:
    session.install(*CONSTRAINED, "-e", ".[test]")
    session.run("pytest", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    session.install(*CONSTRAINED, "-e", ".[cpu]")
    session.run("mattecli", "bench", *session.posargs)
