"""`python -m tools.docs`: build the documentation site, and let nothing broken pass."""

import html.parser
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import cyclopts

from tools.cache import InstallError
from tools.environments import install

ROOT: Final = Path(__file__).parents[1]
OUT: Final = ROOT / "build" / "docs"
READ_BY_PEOPLE: Final = ("README.md", "docs", "samples")
"""What is checked for misspelt words."""
SPARED: Final = ("AKS", "dimenson")
"""Names that the spelling check takes for mistakes, and a mistake that a page shows on purpose."""
NAVIGATION: Final[Mapping[str, tuple[str, ...]]] = {
    "Home": ("index.md", "quick-start.md", "install.md", "concepts.md", "use-cases.md"),
    "Guides": ("demo.md", "cli.md", "gitops/index.md", "gitops/*.md", "ci/*.md", "*.md"),
    "Operations": (
        "operations.md",
        "alerts.md",
        "cost.md",
        "moving.md",
        "security.md",
        "scale.md",
        "reference/metrics.md",
    ),
    "Reference": (
        "reference/index.md",
        "reference/common.md",
        "reference/connection.md",
        "reference/*.md",
    ),
    "Vendors": ("providers.md", "vendors/*.md"),
    "Project": (
        "comparison.md",
        "adding-a-provider.md",
        "decisions/index.md",
        "decisions/*.md",
    ),
}
"""Sections in order. A page is in the first section that names it in full, else in the first whose
pattern it fits."""

_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")

_OUTWARDS: Final = re.compile(r"\[(?P<text>[^\]]+)\]\((?P<path>\.\./[^)#\s]+)(#[^)]*)?\)")

app = cyclopts.App(name="python -m tools.docs", help="Build the documentation site.")


def navigation(pages: set[str]) -> dict[str, list[str]]:
    """Every page in its section. Raises ValueError for one that fits nowhere."""
    named = {page for patterns in NAVIGATION.values() for page in patterns if "*" not in page}
    left = set(pages)
    found: dict[str, list[str]] = {}
    for section, patterns in NAVIGATION.items():
        found[section] = []
        for pattern in patterns:
            fitting = {
                page for page in left if _fits(page, pattern) and _free(page, pattern, named)
            }
            found[section] += sorted(fitting, key=str.lower)
            left -= fitting
    if left:
        raise ValueError(f"not in the navigation: {', '.join(sorted(left))}")
    return {section: listed for section, listed in found.items() if listed}


def _fits(page: str, pattern: str) -> bool:
    return re.fullmatch(re.escape(pattern).replace(r"\*", "[^/]*"), page) is not None


def _free(page: str, pattern: str, named: set[str]) -> bool:
    return page == pattern or page not in named


def configuration(base: str, sections: Mapping[str, list[str]]) -> str:
    """The base with its navigation."""
    entries = ", ".join(f"{{ {json.dumps(s)} = {json.dumps(p)} }}" for s, p in sections.items())
    return base.replace("[project]\n", f"[project]\nnav = [{entries}]\n", 1)


def inside(page: Path, root: Path) -> str:
    """A page's text, with links to files of the repository outside of the site as plain words.

    Raises ValueError if such a file does not exist.
    """

    def plain(link: re.Match[str]) -> str:
        target = (page.parent / link["path"]).resolve()
        if target.is_relative_to(root.resolve()):
            return link[0]
        if not target.exists():
            raise ValueError(f"{page.relative_to(root)}: {link['path']} does not exist")
        return link["text"]

    return _OUTWARDS.sub(plain, page.read_text())


class _Loads(html.parser.HTMLParser):
    """What a page makes a browser load from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "link" and given.get("rel") in {"canonical", "next", "prev", "alternate"}:
            return
        name = {"link": "href", "object": "data"}.get(tag, "src")
        value = given.get(name) or ""
        if tag != "a" and re.match(r"(https?:)?//", value):
            self.found.append(value)


def loads(site: Path) -> Iterator[str]:
    """What pages would load from other servers."""
    for path in sorted(site.rglob("*.html")):
        parser = _Loads()
        parser.feed(path.read_text())
        for found in parser.found:
            yield f"{path.relative_to(site)} loads {found}"


@app.default
def build() -> None:
    """Build into build/docs/site; fail on broken links, misspelt words and foreign loads."""
    try:
        programs = install("docs") / "bin"
    except InstallError as reason:
        sys.exit(str(reason))
    words = f"--ignore-words-list={','.join(SPARED).lower()}"
    _run([str(programs / "codespell"), words, *(str(ROOT / path) for path in READ_BY_PEOPLE)])
    shutil.rmtree(OUT, ignore_errors=True)
    docs = OUT / "docs"
    shutil.copytree(ROOT / "docs", docs)
    pages = {str(path.relative_to(docs)) for path in docs.rglob("*.md")}
    for page in pages:
        (docs / page).write_text(inside(ROOT / "docs" / page, ROOT / "docs"))
    config = OUT / "zensical.toml"
    config.write_text(configuration((ROOT / "zensical.toml").read_text(), navigation(pages)))
    _run([str(programs / "zensical"), "build", "--strict", "--clean", f"--config-file={config}"])
    if foreign := list(loads(OUT / "site")):
        sys.exit("\n".join(foreign))
    print(f"{len(pages)} pages in {(OUT / 'site').relative_to(ROOT)}")


def _run(args: list[str]) -> None:
    """Run a program; on failure show what it told, without its traceback, and end."""
    done = subprocess.run(args, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        told = _COLOUR.sub("", done.stdout + done.stderr).partition("Traceback (most recent")[0]
        sys.exit(told.strip() or f"{args[0]}: exit status {done.returncode}")


if __name__ == "__main__":
    app()
