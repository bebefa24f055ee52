"""Write the options of ``[xcargo]`` into ``docs/settings.md``, from where the code declares them.

    python docs/generate_settings.py

``tests/docs`` fails when the page does not say what this would write.
"""

from __future__ import annotations

from pathlib import Path

from xcargo.airflow.provider_info import OPTIONS, SECTION

PAGE = Path(__file__).resolve().parent / "settings.md"
BEGIN = "<!-- written by generate_settings.py: begin -->"
END = "<!-- written by generate_settings.py: end -->"


def options() -> str:
    """All options, each under a heading of its own."""
    return "\n\n".join(_option(name) for name in OPTIONS)


def page(current: str) -> str:
    """The page with its generated part renewed."""
    before, _, rest = current.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{options()}\n\n{END}{after}"


def _option(name: str) -> str:
    option = OPTIONS[name]
    default = option.get("default")
    shown = "see above" if default is None else "empty" if default == "" else f"`{default}`"
    return "\n".join(
        (
            f"### {name}",
            "",
            option["description"],
            "",
            "| | |",
            "|---|---|",
            f"| Variable | `AIRFLOW__{SECTION.upper()}__{name.upper()}` |",
            f"| Type | {option['type']} |",
            f"| Default | {shown} |",
            f"| Example | `{option['example']}` |",
        )
    )


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
