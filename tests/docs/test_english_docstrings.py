"""docutils, reading what we made of a docstring, sees the words of that docstring, and complains of nothing."""

import inspect

import pytest
from docutils.core import publish_doctree
from docutils.nodes import line, literal, literal_block, system_message
from english_docstrings import to_rst

import minidbp
from minidbp import data, kernels, nn, robust, training

DOCSTRINGS = {
    f"{module.__name__}.{name}": inspect.getdoc(value)
    for module in (minidbp, minidbp.autodiff, data, kernels, nn, robust, training)
    for name, value in {**vars(module), **vars(minidbp.Tensor)}.items()
    if not name.startswith("__") and (inspect.isroutine(value) or inspect.isclass(value)) and value.__doc__
}


def read(docstring: str):
    return publish_doctree("\n".join(to_rst(docstring.splitlines())), settings_overrides={"report_level": 5})


def words(text: str) -> str:
    return " ".join(text.replace("`", "").split())


@pytest.mark.parametrize("docstring", DOCSTRINGS.values(), ids=DOCSTRINGS)
def test_no_word_of_our_docstrings_is_lost_or_changed(docstring: str) -> None:
    document = read(docstring)
    assert not list(document.findall(system_message))
    assert words(document.astext()) == words(docstring)


@pytest.mark.parametrize(
    "docstring",
    [
        "||J||_1,1 = sum_i |J_i| of *all* a * b, [1]_ and :role: not, x_ neither, `f`s",
        "x: (N, ...)\ny: (N,) labels\n  and more\nmask: where",
        "the code `x`\n`y` at a line's end `z`\nand beginning",
        "- one\n- two\n  goes on",
        "Words.\n\n    x = a * b\n\n    y = `x`\n\nMore: words_",
        ".. note:: no directive",
        "1. no list\n\n=====\n\n>>> no_doctest()",
    ],
)
def test_marks_of_restructuredtext_mean_nothing(docstring: str) -> None:
    document = read(docstring)
    assert not list(document.findall(system_message))
    assert words(document.astext()) == words(docstring)


def test_code_is_code() -> None:
    document = read("Of `a * b`, and\n`c`s:\n\n    x = 1\n\n    y = 2\n\nEnd.")
    assert [node.astext() for node in document.findall(literal)] == ["a * b", "c"]
    assert [node.astext() for node in document.findall(literal_block)] == ["x = 1\n\ny = 2"]


def test_arguments_begin_new_lines() -> None:
    lines = read("eps: in pixel units,\nor else.\nlabel: a word.").findall(line)
    assert [words(node.astext()) for node in lines] == ["eps: in pixel units, or else.", "label: a word."]
