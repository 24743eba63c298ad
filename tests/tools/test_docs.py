"""The documentation site: its navigation, and what must not get into it."""

from pathlib import Path

import pytest

from tools import docs, metrics_page, reference, source_docs
from tools.docs import ROOT, configuration, loads, navigation


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
    assert source_docs.of_members(reference.Reason).keys() == {str(r) for r in reference.Reason}
    names = source_docs.of_constants(reference.annotations)
    assert "integrations.auterity.io/approve" in names


def test_metrics_are_named_as_queries_name_them() -> None:
    page = metrics_page.metrics_page()

    assert "| `auterity_visits_total` | counter | kind, vendor, outcome |" in page
    assert "| `auterity_queue_depth` | gauge | class |" in page


def test_the_spelling_check_reads_what_people_read() -> None:
    assert all((ROOT / path).exists() for path in docs.READ_BY_PEOPLE)
