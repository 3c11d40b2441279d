"""The page, the pictures and the terminal's version of a step taken apart."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from bs4 import BeautifulSoup
from explained import explained
from PIL import Image

from minidbp import nn
from minidbp.data import Dataset
from minidbp.explain import figures, report, terminal
from minidbp.explain.comparisons import Comparison
from minidbp.explain.explanation import Explanation, explain
from minidbp.explain.step import TrainingStep
from minidbp.files.console import Console
from minidbp.files.page import as_html
from minidbp.training.environment import environment

COMMAND, ORIGIN = "minidbp explain --image 7", "The weights are from 4 steps."
SECTIONS = (
    "1. The digit", "2. Which pixels raise", "3. Which pixels move", "4. sign(J)", "5. Two passes", "6. Each dW",
    "7. The step", "Are these numbers right?", "Machine",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("explain")
    calls: list[int] = []
    e = explained("C")
    report.write(e, home, report.as_markdown(e, COMMAND, ORIGIN, environment()), lambda: calls.append(1))
    assert len(calls) == len(report.FILES)
    return home


def kinked() -> Explanation:
    e = explained("C")
    loss = Comparison("‖g‖₁: slope along v", 1.5, why="not differentiable here: relu")
    return dataclasses.replace(e, comparisons={**e.comparisons, "loss": [loss]}, lowered={1: [3, 5]})


@pytest.mark.slow
def test_it_writes_all_files_and_nothing_else(folder: Path) -> None:
    assert {p.name for p in folder.iterdir()} == set(report.FILES)
    for name in figures.FIGURES:
        with Image.open(folder / name) as picture:
            assert picture.width > 700
            assert len(picture.convert("RGB").getcolors(1 << 20) or []) > 10  # not blank


@pytest.mark.slow
def test_the_page_has_every_section_and_each_picture_with_its_description(folder: Path) -> None:
    page = (folder / "explain.html").read_text(encoding="utf-8")
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    assert len(headings) == len(SECTIONS)
    for heading, begin in zip(headings, SECTIONS, strict=True):
        assert heading.startswith(begin)
    images = re.findall(r"<img [^>]*>", page)
    assert len(images) == len(figures.FIGURES)
    for image in images:
        assert 'src="data:image/png;base64,' in image
        (alt,) = re.findall(r'alt="([^"]*)"', image)
        assert len(alt) > 80
    assert "://" not in re.sub(r"<code>.*?</code>", "", page)  # nothing is fetched from anywhere
    assert COMMAND in page
    assert ORIGIN in page


def test_each_number_is_on_the_page_beside_its_difference(folder: Path) -> None:
    e, text = explained("C"), (folder / "explain.md").read_text(encoding="utf-8")
    for checks in e.comparisons.values():
        for check in checks:
            row = next(line for line in text.splitlines() if line.startswith(f"| {check.quantity} |"))
            assert check.difference is not None
            cells = [cell.strip() for cell in row.strip("|").split("|")]
            assert float(cells[1]) == pytest.approx(check.engine, rel=1e-8)
            assert float(cells[2]) == pytest.approx(check.difference, rel=1e-8)
    assert "45 of 45 numbers" in text
    assert "ReLU′(0) = 0" not in text  # nothing was lowered


def test_a_number_without_a_difference_says_so() -> None:
    e = kinked()
    text = report.as_markdown(e, COMMAND, ORIGIN, environment())
    assert "| ‖g‖₁: slope along v | 1.5 | none: on a kink | – |" in text
    assert "44 of 45 numbers" in text
    assert "The others: not differentiable here: relu" in text
    assert "(layer 1: 3, 5)" in text


def test_the_name_of_a_file_is_text_on_the_page() -> None:
    name = "![x](http://example.org/a.png)<img src=b.png> | `# y` $z$"
    text = report.as_markdown(explained("C"), f"minidbp explain --weights '{name}'", f"Of {name}.", environment())
    page = BeautifulSoup(as_html(text, name, Path()), "html.parser")
    assert not page(["img", "a"])
    assert f"minidbp explain --weights '{name}'" in [code.get_text() for code in page("code")]
    assert f"Of {name}." in page("p")[0].get_text()


def test_the_json_has_the_figures(folder: Path) -> None:
    e, numbers = explained("C"), json.loads((folder / "explain.json").read_text())
    assert numbers == report.as_dict(e)
    assert (numbers["model"], numbers["image"], numbers["label"], numbers["lambda"]) == ("C", 7, 9, 10.0)
    assert numbers["logits"] == e.at_x.logits.tolist()
    assert sum(numbers["signs"].values()) == 7840
    assert len(numbers["checks"]) == 45
    assert [layer["bias_penalty_part"] for layer in numbers["layers"]] == [0.0] * 4


@pytest.mark.parametrize("name", [pytest.param("A", marks=pytest.mark.slow), "C"])
def test_pictures_have_titles_and_axes_with_units(name: str) -> None:
    e = explained(name)
    assert set(figures.describe(e)) == set(figures.FIGURES)
    for file, draw in figures.FIGURES.items():
        figure = draw(e)
        panels = [a for a in figure.axes if a.images or a.patches]
        for axes in panels if file != "passes.png" else []:
            words = axes.get_xlabel() + figure.get_supxlabel(), axes.get_ylabel() + figure.get_supylabel()
            assert all(words), (file, axes.get_title())
    words = " ".join(text.get_text() for text in figures.passes(e).axes[0].texts)
    for part in e.layers:
        assert f"V{part.number}\n{part.V.shape}" in words
        assert f"dW{part.number} from T{part.number - 1}, V{part.number}" in words


def test_bars_and_crosses_are_where_the_numbers_are() -> None:
    e = explained("C")
    axes = figures.split(e).axes[0]
    heights = sorted(bar.get_height() for bar in axes.patches)
    crosses = sorted(float(y) for line in axes.lines for y in line.get_ydata())  # type: ignore[union-attr]
    assert len(crosses) == len(heights) == 12
    assert crosses == pytest.approx(heights, rel=1e-6)


def on_a_terminal(e: Explanation, colours: bool, width: int = 100) -> str:
    console = Console(width=width, color_system="truecolor" if colours else None, force_terminal=True, record=True)
    with console.capture() as captured:
        for piece in terminal.on_screen(e, ORIGIN, colours):
            console.print(piece, highlight=False, markup=False)
    return captured.get()


@pytest.mark.parametrize("name", [pytest.param("A", marks=pytest.mark.slow), "C"])
def test_the_terminal_shows_all_within_100_columns(name: str) -> None:
    e = explained(name)
    coloured, plain = on_a_terminal(e, True), on_a_terminal(e, False)
    assert coloured.count("▀") == 28 * 14 * 3 + 20 * 14 * 7  # three images, and twenty small ones
    assert "\x1b[" not in plain.replace("\x1b[1m", "").replace("\x1b[0m", "")
    assert "▀" not in plain
    assert max(map(len, plain.splitlines())) <= 100
    for k in range(1, 8):
        assert f"\n{k}. " in plain
    for checks in e.comparisons.values():
        for check in checks:
            assert check.quantity in plain


@pytest.mark.parametrize("width", [6, 28, 32, 70])
def test_pictures_of_any_size_fit_80_columns(width: int) -> None:
    """A picture that is too wide for the terminal would be broken into pieces."""
    wide, images = Console(width=200), np.ones((10, width, width, 3))
    ten = terminal._small(images, False, [f"J{k} ‖·‖₁ 123.4" for k in range(10)])
    assert wide.measure(ten).maximum <= 80
    image = wide.measure(terminal.ink(images[0], False)).maximum
    assert image + 4 + max(image, wide.measure(terminal._logits(explained("C"))).maximum) <= 80


def test_on_a_kink_the_terminal_says_so() -> None:
    text = " ".join(on_a_terminal(kinked(), False).split())
    assert "none: on a kink" in text
    assert "layer 1: 3, 5" in text


def test_small_pictures() -> None:
    x = np.zeros((28, 28, 1))
    x[0:2, 5] = 1.0
    drawn = terminal.ink(x, False).plain.split("\n")
    assert (len(drawn), drawn[0][5], drawn[0].count(" "), set(drawn[1])) == (14, "@", 27, {" "})
    a = np.zeros((4, 3, 1))
    a[:2, 0], a[2:, 2] = 1.0, -1.0
    assert terminal.signed(a, False).plain == "+  \n  o"
    top, bottom = terminal.signed(a, True).plain.split("\n")
    assert (top, bottom) == ("▀▀▀", "▀▀▀")
    styles = [str(span.style) for span in terminal.signed(a, True).spans]
    assert styles[0] == "rgb(94,60,153) on rgb(94,60,153)"
    assert styles[-1] == "rgb(230,159,0) on rgb(230,159,0)"
    assert styles[1] == "rgb(255,255,255) on rgb(255,255,255)"


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        ({"color_system": "truecolor", "force_terminal": True}, True),
        ({"color_system": "truecolor", "force_terminal": True, "no_color": True}, False),
        ({"color_system": None}, False),
    ],
)
def test_colours_only_where_they_are_seen(options: dict, seen: bool) -> None:
    assert terminal.has_colours(Console(**options)) is seen


# -- other images than MNIST's ---------------------------------------------------------------------------------------


def of_colour_images(n_classes: int = 3) -> Explanation:
    rng = np.random.default_rng(0)
    x, y = rng.random((2 * n_classes, 5, 6, 3)), np.arange(2 * n_classes) % n_classes
    data = Dataset.from_arrays(x, y, x, y, name="mine.npz")
    model = nn.build_model("C", seed=1, dtype="float64", input_shape=(5, 6, 3), n_classes=n_classes)
    step = TrainingStep(model, x[[1]], y[[1]], 10.0)
    return explain(step, "C", 1, rng, data=data.identity)


def test_colour_images_in_three_classes() -> None:
    e = of_colour_images()
    assert e.J.shape == (3, 5, 6, 3)
    assert e.worst.relative_error is not None
    assert e.worst.relative_error < 1e-6
    page = report.as_markdown(e, COMMAND, ORIGIN, environment())
    assert report.title(e) == "One training step of model C on test image 1 (class 1), taken apart"
    for words in "P = Σᵢ ‖Jᵢ‖₁ / 270", "J, 3 rows from one pass", "u = e₀ … e₂", "the image is class 1", report.COLOUR:
        assert words in page
    assert "digit" not in page.replace("digit.png", "")
    assert "7840" not in page
    for draw in figures.FIGURES.values():
        draw(e)
    assert np.asarray(figures.digit(e).axes[0].images[0].get_array()).shape == (5, 6, 3)
    assert np.asarray(figures.jacobian(e).axes[0].images[0].get_array()).shape == (5, 6)
    assert on_a_terminal(e, True).count("▀") == 3 * 6 * (3 + 2 * 3)  # three images, J and S
    assert report.as_dict(e)["data"]["name"] == "mine.npz"


def test_of_many_classes_twenty_are_drawn() -> None:
    e = of_colour_images(n_classes=23)
    assert len([axes for axes in figures.jacobian(e).axes if axes.images]) == 20
    assert figures.describe(e)["jacobian.png"].startswith("The first 20 of 23 rows of J")
    assert "‖J₂₂‖₁: slope of f₂₂ along S₂₂" in {c.quantity for c in e.all_comparisons}
    assert max(map(len, on_a_terminal(e, False).splitlines())) <= 100


def test_large_images_are_shrunk_for_the_terminal() -> None:
    a = np.arange(2 * 70 * 3, dtype=float).reshape(2, 70, 3)
    small = terminal.shrunk(a, 32)
    assert small.shape == (2, 24, 3)  # blocks of 3 x 3; the last ones repeat the edges
    assert small[0, 0, 0] == pytest.approx(np.mean([a[0, :3, 0], a[1, :3, 0], a[1, :3, 0]]))
    np.testing.assert_array_equal(terminal.shrunk(a[:, :32], 32), a[:, :32])


def test_the_loss_part_is_zero_at_the_pixels_that_the_page_names() -> None:
    """Not "under black pixels": the pixels of 0 are drawn white for a digit, black for a colour image."""
    e = explained("C")
    assert "a multiple of the digit, and 0 where the digit is 0" in report.as_markdown(
        e, COMMAND, ORIGIN, environment()
    )
    blank = e.at_x.x.ravel() == 0
    loss_part = e.layers[0].loss_part
    assert np.any(blank)
    assert not np.any(loss_part[blank])
    assert np.any(loss_part[~blank])
