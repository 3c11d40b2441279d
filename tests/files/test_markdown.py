"""Text from elsewhere stays text in Markdown, whatever it is and wherever it stands."""

from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from hypothesis import given
from hypothesis import strategies as st

from minidbp.files.markdown import code_span, escaped, markdown_table
from minidbp.files.page import as_html
from minidbp.files.reading import printable

TEXTS = st.text(st.sampled_from("abAB019 \n\t#-+=*_`~<>[](){}!|\\/&;:'\"$.,@λ\x1b\u202e"), max_size=20)
HOSTILE = (
    "![a](http://example.org/a.png)", "<img src=http://example.org/a.png>", "[a](javascript:alert(1))", "# a", "a #",
    "a\n# b", "a | b", "| a |", "```", "~~~ a", "`", "``a", "a`", "<script>a</script>", "<!-- a", "&lt;b&gt;",
    "&#35; a",
    "*a*", "_a_", "__a__ n_train", "~~a~~", "$a$", "\\", "\\*", "1. a", "1) a", "12.", "1.5", "- a", "+ a", "---",
    "===",
    "> a", "<http://example.org>", "[a]: http://example.org", "    a", "***", "a  ", "",
)  # fmt: skip


def shown(markdown: str) -> BeautifulSoup:
    body = BeautifulSoup(as_html(markdown, "t", Path()), "html.parser").body
    assert body is not None
    return body


def check(text: str) -> None:
    """As a heading, within a sentence, in a list, in a table and as code, the text is itself and nothing else."""
    as_is = printable(text).strip()
    rows = [["x", escaped(text)]]
    page = shown(
        f"# {escaped(text)}\n\nBefore {escaped(text)}; after\n\n- {escaped(text)}\n\n{markdown_table(['a', 'b'], rows)}"
    )
    tags = {tag.name for tag in page.find_all()}
    assert tags == {"h1", "p", "ul", "li", "table", "thead", "tbody", "tr", "th", "td"}
    assert page("p")[0].get_text() == f"Before {as_is}; after"
    assert [page(tag)[-1].get_text() for tag in ("h1", "li", "td")] == [as_is] * 3
    if as_is:
        page = shown(f"Before {code_span(text)} after")
        assert [tag.name for tag in page.find_all()] == ["p", "code"]
        assert page("code")[0].get_text().strip() == as_is


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_is_shown_as_it_is(text: str) -> None:
    check(text)


@given(TEXTS)
def test_any_text_is_shown_as_it_is(text: str) -> None:
    check(text)


def test_a_usual_text_is_not_changed() -> None:
    for text in "model C, lambda 0.1, n_train 100, seed 0: it diverged (step 2/9).", "AMD EPYC 9V74 80-Core", "0.2.0":
        assert escaped(text) == text
        assert code_span(text) == f"`{text}`"
