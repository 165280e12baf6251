"""Lets the pages, whose links are those of the repository, be a site as well; see mkdocs.yml."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
PAGES = {"README.md": "index.md", "CHANGELOG.md": "changelog.md"}  # outside of docs/, with a place of their own
LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(?=(?:#[^)\s]*)?\))")
ROLE = re.compile(r":(?:attr|class|func|meth|mod):(<code[^>]*>)~?")  # of Sphinx, in docstrings


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files outside of docs/ that pages link to."""
    waiting = [*PAGES, *(f"docs/{file.src_uri}" for file in files.documentation_pages())]
    seen = set(waiting)
    for page in waiting:  # grows: what is linked to may be a page with links
        if not page.startswith("docs/"):
            content = (ROOT / page).read_bytes()
            files.append(File.generated(config, _place(page), content=content, inclusion=InclusionLevel.INCLUDED))
        if page.endswith(".md"):
            new = [target for target in _targets(page) if not target.startswith("docs/") and target not in seen]
            waiting += new
            seen.update(new)
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Point links to where the site has what they name."""
    home = page.file.src_uri
    source = next((name for name, place in PAGES.items() if place == home), None)
    source = source or (home.removeprefix("repository/") if home.startswith("repository/") else f"docs/{home}")

    def pointed(link: re.Match[str]) -> str:
        target = _target(source, link[1])
        return posixpath.relpath(_place(target), posixpath.dirname(home) or ".") if target else link[1]

    return LINK.sub(pointed, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Show the names in docstrings without their roles."""
    return ROLE.sub(r"\1", html)


def _targets(page: str) -> list[str]:
    found = (_target(page, link) for link in LINK.findall((ROOT / page).read_text(encoding="utf-8")))
    return list(dict.fromkeys(target for target in found if target))


def _target(page: str, link: str) -> str | None:
    """Return the file of the repository that a link of ``page`` names, from the root, if there is one."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(page), link))
    return path if not path.startswith("..") and (ROOT / path).is_file() else None


def _place(source: str) -> str:
    """Return where the site has a file of the repository."""
    return PAGES.get(source) or (source[5:] if source.startswith("docs/") else f"repository/{source}")
