"""What makes a site of these pages: `mkdocs.yml` names this file as its hook.

The pages are written for GitHub, where they link to files all over the repository. Here the pages of the root become
pages of the site, and a link to any other file leads to the repository. The navigation is what `docs/index.md` lists:
a page that is added there is in the site.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
ROOT_PAGES = {
    "README.md": "start.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "threats.md",
    "CHANGELOG.md": "changelog.md",
    "changes/README.md": "changes.md",
}
"""Pages outside of this folder -> their name in the site."""

_LINK = re.compile(r"(?P<before>\]\()(?P<path>[^)#\s]*)(?P<anchor>#[^)\s]*)?\)")
_FENCED = re.compile(r"(^ *```.*?^ *```$)", re.DOTALL | re.MULTILINE)
_SOURCES = {site: repository for repository, site in ROOT_PAGES.items()}


def on_config(config: Any) -> Any:
    """The navigation, out of the map of all pages."""
    index = (ROOT / "docs" / "index.md").read_text("utf-8")
    nav: list[Any] = [{"Home": "index.md"}]
    for section in re.split(r"^## ", index, flags=re.MULTILINE)[1:]:
        title, _, body = section.partition("\n")
        pages = re.findall(r"^(?:\| |\d+\. |- )\[([^\]]+)\]\(([^)#]+\.md)\)", body, re.MULTILINE)
        nav.append({title.strip(): [{_bare(name): _in_site(path, "docs/index.md")} for name, path in pages]})
    config.nav = nav
    return config


def on_files(files: Any, config: Any) -> Any:
    """The pages of the root join in."""
    for repository, site in ROOT_PAGES.items():
        files.append(File.generated(config, site, content=(ROOT / repository).read_text("utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Links lead to where the page is in the site. What is folded is Markdown too."""
    source = page.file.src_uri
    source = _SOURCES.get(source, f"docs/{source}")
    parts = _FENCED.split(markdown.replace("<details", "<details markdown"))
    for n in range(0, len(parts), 2):  # the others are fenced
        parts[n] = _LINK.sub(lambda found: _linked(found, source, config), parts[n])
    return "".join(parts)


def _linked(found: re.Match[str], source: str, config: Any) -> str:
    path, anchor = found["path"], found["anchor"] or ""
    if not path or re.match(r"[a-z]+:", path):
        return found[0]
    target = _in_site(path, source)
    if target is None:
        there = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        return f"]({config.repo_url}/blob/main/{there}{anchor})"
    here = source.removeprefix("docs/") if source.startswith("docs/") else ROOT_PAGES[source]
    return f"]({posixpath.relpath(target, posixpath.dirname(here) or '.')}{anchor})"


def _in_site(path: str, source: str) -> str | None:
    """Where a file that a page links to is in the site, or None if it is not there."""
    there = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    if there in ROOT_PAGES:
        return ROOT_PAGES[there]
    return there.removeprefix("docs/") if there.startswith("docs/") and not there.endswith((".py", ".yml")) else None


def _bare(text: str) -> str:
    return text.replace("`", "")
