"""The documentation site: its navigation, and what must not get into it."""

import inspect
import re
import shlex
from pathlib import Path

import pytest
import yaml

from auterity.api import annotations
from auterity.cli.run import run
from auterity.engine.conditions import Reason
from tests.manifests import check
from tools import docs, metrics_page, reference, samples, source_docs
from tools.docs import ROOT, configuration, loads, navigation

PAGES = [
    path.relative_to(ROOT) for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
]
PRAISE = {
    *("amazing", "battle-tested", "best-in-class", "blazing", "cutting-edge", "easily"),
    *("effortless", "effortlessly", "enterprise-grade", "innovative", "next-generation"),
    *("powerful", "production-ready", "revolutionary", "rich", "robust", "seamless"),
    *("seamlessly", "simply", "state-of-the-art", "stunning", "world-class"),
}
MANIFEST_PAGES = [path for path in PAGES if samples.on_page((ROOT / path).read_text())]


def test_every_page_is_in_the_navigation_once() -> None:
    pages = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}

    listed = [page for section in navigation(pages).values() for page in section]

    assert sorted(listed) == sorted(pages)


def test_a_page_is_where_it_is_named_and_not_where_it_fits() -> None:
    found = navigation({"index.md", "new.md", "security.md", "vendors/b.md", "vendors/A.md"})

    assert found == {
        "Home": ["index.md"],
        "Guides": ["new.md"],
        "Operations": ["security.md"],
        "Vendors": ["vendors/A.md", "vendors/b.md"],
    }


def test_a_page_that_fits_nowhere_is_told() -> None:
    with pytest.raises(ValueError, match=r"not in the navigation: lost/page\.md"):
        navigation({"lost/page.md"})


def test_the_navigation_goes_into_the_configuration() -> None:
    base = '[project]\nsite_name = "x"\n'

    assert configuration(base, {"Home": ["a.md", "b.md"]}) == (
        '[project]\nnav = [{ "Home" = ["a.md", "b.md"] }]\nsite_name = "x"\n'
    )


@pytest.mark.parametrize(
    "tag",
    [
        '<link rel="stylesheet" href="https://cdn.example/x.css">',
        '<script src="//cdn.example/x.js"></script>',
        '<img src="https://example/x.png">',
    ],
)
def test_what_comes_from_elsewhere_is_found(tmp_path: Path, tag: str) -> None:
    (tmp_path / "page.html").write_text(f'<a href="https://example">x</a>{tag}')

    (told,) = loads(tmp_path)
    assert told.startswith("page.html loads ")


def test_links_load_nothing(tmp_path: Path) -> None:
    page = '<a href="https://example">x</a><link rel="canonical" href="https://x"><img src="a.svg">'
    (tmp_path / "page.html").write_text(page)

    assert list(loads(tmp_path)) == []


def test_sentences_are_not_taken_for_markdown() -> None:
    assert reference.plain("a <b> of `<c>` *d* [e]") == r"a &lt;b> of `<c>` \*d\* \[e]"
    assert reference.plain("a lone ` tick") == r"a lone \` tick"


def test_what_stands_under_members_is_their_documentation() -> None:
    assert source_docs.of_members(Reason).keys() == {str(reason) for reason in Reason}
    names = source_docs.of_constants(annotations)
    assert "integrations.auterity.io/approve" in names


def test_metrics_are_named_as_queries_name_them() -> None:
    page = metrics_page.metrics_page()

    assert "| `auterity_visits_total` | counter | kind, vendor, outcome |" in page
    assert "| `auterity_queue_depth` | gauge | class |" in page


def test_the_spelling_check_reads_what_people_read() -> None:
    assert all((ROOT / path).exists() for path in docs.READ_BY_PEOPLE)


def test_links_out_of_the_site_become_plain_words(tmp_path: Path) -> None:
    (tmp_path / "docs/sub").mkdir(parents=True)
    (tmp_path / "there.yaml").touch()
    page = tmp_path / "docs/sub/page.md"
    page.write_text("[a](../other.md) [`b`](../../there.yaml) [c](https://example.com) [d](#e)")

    assert docs.inside(page, tmp_path / "docs") == (
        "[a](../other.md) `b` [c](https://example.com) [d](#e)"
    )


def test_a_link_out_of_the_site_must_lead_somewhere(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs/page.md"
    page.write_text("[a](../gone.yaml)")

    with pytest.raises(ValueError, match=r"page\.md: \.\./gone\.yaml does not exist"):
        docs.inside(page, tmp_path / "docs")


def test_every_decision_is_in_the_index() -> None:
    folder = ROOT / "docs/decisions"
    numbered = sorted(path.name for path in folder.glob("[0-9]*.md"))

    linked = re.findall(r"\]\((\d+[^)]*)\)", (folder / "index.md").read_text())

    assert linked == numbered
    assert len({name[:3] for name in numbered}) == len(numbered)


@pytest.mark.parametrize("path", [*PAGES, Path("samples/README.md")], ids=str)
def test_pages_promise_nothing_that_no_figure_carries(path: Path) -> None:
    words = re.findall(r"[a-z-]+", (ROOT / path).read_text().lower())

    assert PRAISE.isdisjoint(words)


def test_every_alert_has_a_section_that_says_what_to_do() -> None:
    rules = yaml.safe_load((ROOT / "charts/auterity/alerts.yaml").read_text())["alerts"]
    page = (ROOT / "docs/alerts.md").read_text()

    assert re.findall(r"^## (Auterity\w+)$", page, re.MULTILINE) == [r["alert"] for r in rules]


def test_pages_name_no_reason_that_does_not_exist() -> None:
    page = (ROOT / "docs/concepts.md").read_text()
    table = page.partition("## Failures")[2].partition("##")[0]
    named = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)

    assert named
    assert set(named) <= {str(reason) for reason in Reason}


def test_every_option_of_the_operator_that_pages_name_exists() -> None:
    options = {f"--{name.replace('_', '-')}" for name in inspect.signature(run).parameters}
    page = (ROOT / "docs/operations.md").read_text()
    named = set(re.findall(r"^\| `(--[a-z-]+)` \|", page, re.MULTILINE))

    assert named
    assert named <= options


def test_pages_name_no_metric_that_is_not_told() -> None:
    told = set(re.findall(r"`(auterity_\w+)`", metrics_page.metrics_page()))
    for path in (ROOT / "docs").rglob("*.md"):
        named = set(re.findall(r"\b(auterity_[a-z_]+)\b", path.read_text()))
        assert {re.sub("_(bucket|count|sum)$", "", name) for name in named} <= told, path


@pytest.mark.parametrize("path", MANIFEST_PAGES, ids=str)
def test_manifests_on_pages_are_what_the_operator_takes(path: Path) -> None:
    for document in samples.on_page((ROOT / path).read_text()):
        check(document)


@pytest.mark.parametrize("path", PAGES, ids=str)
def test_commands_on_pages_name_what_exists(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = (ROOT / path).read_text().replace("\\\n", " ")
    for line in re.findall(r"^\$ (.*)$", text, re.MULTILINE):
        for word in shlex.split(line, comments=True):
            if word.startswith(("samples/", "crds/", "charts/")):
                assert (ROOT / word).exists(), line
        if line.startswith("make "):
            assert line.split()[1] in targets, line


@pytest.mark.parametrize("path", ["README.md", "samples/README.md"])
def test_links_outside_of_the_site_lead_somewhere(path: str) -> None:
    page = ROOT / path
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)|(?:src|href)=\"([^\"]+)\"", page.read_text())
    for link in (one or other for one, other in links):
        assert link.startswith("https://") or (page.parent / link).exists(), link
