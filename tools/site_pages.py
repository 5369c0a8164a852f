"""What `mkdocs build` needs beside docs/: the pages and figures outside it that a page links to.

README.md is the first page. A link that leads out of docs/ is followed to the file in this project,
which becomes part of the site under its own path; one that leads nowhere is left to mkdocs, which
ends a strict build. Named in mkdocs.yml.
"""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
FIRST = "README.md"
# A link's place, without its fragment; links to other sites have a scheme.
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")
# A fence whose language is followed by a word that tells our tests what an example needs.
FENCE = re.compile(r"^(```\w+) \w+$", re.M)
# Not linked from a page.
OTHERS = ("CHANGELOG.md", "CONTRIBUTING.md")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what is linked to, from README.md and from every page, and from what is added."""
    found = {FIRST, *OTHERS}
    todo = [*found, *(f"docs/{file.src_uri}" for file in files.documentation_pages())]
    while todo:
        page = todo.pop()
        new = set(_linked(page, (ROOT / page).read_text(encoding="utf-8"))) - found
        found |= new
        todo += [place for place in new if place.endswith(".md")]
    for place in sorted(found):
        files.append(File.generated(config, place, abs_src_path=str(ROOT / place)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links as the site has them: docs/ is its root, and all else lies below that; plain fences."""
    here = page.file.src_uri
    outside = page.file.generated_by is not None
    origin = here if outside else f"docs/{here}"

    def moved(match: re.Match[str]) -> str:
        place = _resolved(origin, match[1])
        on_site = place.removeprefix("docs/")
        return posixpath.relpath(on_site, posixpath.dirname(here) or ".")

    return FENCE.sub(r"\1", LINK.sub(moved, markdown))


def _linked(page: str, text: str) -> Iterator[str]:
    """Files of the project outside docs/ that a page links to."""
    for match in LINK.finditer(text):
        place = _resolved(page, match[1])
        if not place.startswith(("docs/", "../")) and (ROOT / place).is_file():
            yield place


def _resolved(page: str, link: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), link))
