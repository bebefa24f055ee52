"""Write the commands into ``docs/cli.md``, from where the code declares them.

    python docs/generate_cli.py

``tests/docs`` fails when the page does not say what this would write.
"""

from __future__ import annotations

from pathlib import Path

from xcargo.cli.command import Argument, Command
from xcargo.cli.main import all_commands

PAGE = Path(__file__).resolve().parent / "cli.md"
BEGIN = "<!-- written by generate_cli.py: begin -->"
END = "<!-- written by generate_cli.py: end -->"


def reference() -> str:
    """All commands, each under a heading of its own."""
    return "\n\n".join(_command(command) for command in all_commands())


def page(current: str) -> str:
    """The page with its generated part renewed."""
    before, _, rest = current.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{reference()}\n\n{END}{after}"


def _command(command: Command) -> str:
    parts = [f"### xcargo {command.name}", command.description or f"{command.help.capitalize()}."]
    if command.arguments:
        rows = [f"| {_flags(argument)} | {_cell(argument.options.get('help', ''))} |" for argument in command.arguments]
        parts.append("\n".join(("| Argument | |", "|---|---|", *rows)))
    examples = "\n".join(f"xcargo {example.line}\n    # {example.what}" for example in command.examples)
    parts.append(f"```console\n{examples}\n```")
    return "\n\n".join(parts)


def _flags(argument: Argument) -> str:
    flags = ", ".join(argument.flags)
    options = argument.options
    if options.get("action") in ("store_true", "store_false", "count"):
        shown = flags
    elif options.get("choices"):
        choices = "{" + ",".join(map(str, options["choices"])) + "}"
        shown = f"{flags} {choices}" if flags.startswith("-") else choices
    elif flags.startswith("-"):
        shown = f"{flags} {options.get('metavar') or argument.flags[-1].lstrip('-').replace('-', '_').upper()}"
    else:
        shown = options.get("metavar") or flags.upper()
        shown = f"[{shown}]" if options.get("nargs") in ("?", "*") else shown
    return f"`{shown}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
