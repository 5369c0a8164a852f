"""The site, the container and the notebooks: what their builders would trip over, without them."""

import json
import re
import subprocess

import pytest
import yaml
from places import ROOT

import replay_jax

LINK = re.compile(r"\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]+))?\)")
# Indented and fenced blocks show code.
CODE = re.compile(r"^```.*?^```$|^(?: {4}|\t)[^\n]*$|`[^`\n]+`", re.M | re.S)
PAGES = [
    *(ROOT / "docs").glob("*.md"),
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *(ROOT / "experiments").rglob("README.md"),
]


def settings():
    """mkdocs.yml; none of its values is a Python object."""
    return yaml.safe_load((ROOT / "mkdocs.yml").read_text())


def entries(nav):
    for entry in nav:
        for place in [entry] if isinstance(entry, str) else entry.values():
            yield from [place] if isinstance(place, str) else entries(place)


def anchors(page):
    """Of the headings, as the site names them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    for title in re.findall(r"^#+ (.+)$", text, re.M):
        kept = re.sub(r"[^\w\s-]", "", re.sub(r"[`*]", "", title).lower())
        yield re.sub(r"[-\s]+", "-", kept.encode("ascii", "ignore").decode().strip())


def test_every_page_stands_in_the_navigation_once():
    named = list(entries(settings()["nav"]))
    outside = {"README.md", "CHANGELOG.md", "CONTRIBUTING.md"}
    pages = {path.name for path in (ROOT / "docs").glob("*.md")}
    assert sorted(named) == sorted(pages | outside)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page):
    for place, anchor in LINK.findall(CODE.sub("", page.read_text())):
        found = page.parent / place if place else page
        assert found.exists(), f"{place} does not exist"
        if anchor:
            assert anchor in set(anchors(found)), f"{place}#{anchor}"


def test_the_page_of_names_has_every_public_name():
    named = re.findall(r"^::: replay_jax\.(\w+)$", (ROOT / "docs/api.md").read_text(), re.M)
    assert sorted(named) == sorted(replay_jax.__all__)


def test_the_container_installs_the_package_and_what_was_asked_for(tmp_path):
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    copied = [word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]]
    assert all((ROOT / path).exists() for path in copied)
    project = (ROOT / "pyproject.toml").read_text()
    needed = re.search(r"^only-include = (\[.*\])$", project, re.M)[1]
    assert {*json.loads(needed), "pyproject.toml", "README.md", "LICENSE"} == set(copied)
    (install,) = [line.removeprefix("RUN ") for line in lines if line.startswith("RUN")]
    said = []
    for extras in ("", "tpu,gcs", "cuda,gcs"):
        command = ["sh", "-c", f'pip() {{ printf "%s\\n" "$@"; }}; {install}']
        done = subprocess.run(command, env={"EXTRAS": extras}, capture_output=True, text=True)
        said.append(done.stdout.split())
    assert said == [
        ["install", "--no-cache-dir", place] for place in (".", ".[tpu,gcs]", ".[cuda,gcs]")
    ]
    extras = set(re.findall(r"^([\w-]+) = \[", project.split("optional-dependencies]")[1], re.M))
    assert {"tpu", "cuda", "gcs"} <= extras
