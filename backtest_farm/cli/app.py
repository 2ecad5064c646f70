"""The tree of verbs, and how a command line that cannot be understood is answered."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.core import TyperGroup, TyperOption

from backtest_farm.cli import demo, doctor, panels, studies, sweeps
from backtest_farm.cli.answer import Answer


class _Verbs(TyperGroup):
    """A group of verbs that tells them without loading what only running one needs."""

    def get_help_option(self, ctx: typer.Context) -> TyperOption | None:  # type: ignore[override]
        option = super().get_help_option(ctx)
        if option is not None:
            # Absent, it would be None, which typer turns into False with all of pydantic: that takes longer
            # than everything else about a help text.
            option.default = False
        return option


app = typer.Typer(
    cls=_Verbs,
    name="backtest-farm",
    help="Backtest sweeps: thousands of trials over one panel, on this machine or a Ray cluster.",
    epilog="Start with: backtest-farm demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
demo.register(app)
sweeps.register(app)
studies.register(app)
doctor.register(app)
app.add_typer(panels.app, name="panel", cls=_Verbs)
app.add_typer(studies.app, name="study", cls=_Verbs)


def _show_version(wanted: bool) -> None:
    if wanted:
        from backtest_farm import __version__

        typer.echo(f"backtest-farm {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and leave.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    pass


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; a usage error becomes one message and 2."""
    as_json = "--json" in arguments
    try:
        return app(list(arguments), prog_name="backtest-farm", standalone_mode=False) or 0
    except typer.TyperException as error:
        message = error.format_message()
        if not message:  # a bare command: typer has printed its help instead
            return 2
        hint = f"see: {_help_command(arguments)}"
        if "unexpected extra argument" in message and arguments[:1] == ["panel"]:
            # The shell has put the names of many files in place of prices/*.csv.
            hint = "put a pattern in quotes, so that the shell leaves it alone: 'prices/*.csv'"
        Answer(as_json, stdout=sys.stdout).refuse(message, hint=hint, exit_code=2)
        return 2
    except typer.Abort:
        return 130


def _help_command(arguments: Sequence[str]) -> str:
    """The --help line of the deepest verb that `arguments` names correctly."""
    node: object = typer.main.get_command(app)
    words = ["backtest-farm"]
    for word in arguments:
        verbs = getattr(node, "commands", {})
        if word not in verbs:
            break
        words.append(word)
        node = verbs[word]
    return " ".join([*words, "--help"])
