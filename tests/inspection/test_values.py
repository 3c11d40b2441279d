"""How notebooks show values."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from minidbp import Tensor, exp
from minidbp.inspection.values import array_html, shades


def pictures(html: str) -> list[np.ndarray]:
    return [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(png))))
        for png in re.findall(r"base64,([A-Za-z0-9+/=]+)", html)
    ]


def test_shades() -> None:
    values = np.array([0.0, 2.0, -2.0, 1.0, np.nan, np.inf, -np.inf])
    assert shades(values).tolist() == [
        [255, 255, 255], [0, 114, 178], [213, 94, 0], [128, 184, 216], [190, 190, 190], [0, 114, 178], [213, 94, 0],
    ]  # fmt: skip
    assert shades(np.zeros(2)).tolist() == [[255] * 3] * 2
    assert shades(np.array([2.0, -1.0]), strength=0.5).tolist() == [[128, 184, 216], [244, 215, 191]]


def test_few_numbers_are_a_table() -> None:
    html = array_html(np.array([[1.5, -2.0, np.nan], [0.0, 3e-5, 1e10]]))
    assert re.findall(r">([^<>]+)</td>", html) == ["1.5", "-2", "nan", "0", "3e-05", "1e+10"]
    assert html.count("<tr>") == 2
    assert re.findall(r">([^<>]+)</td>", array_html(np.array(3.0))) == ["3"]
    assert array_html(np.arange(16.0)).count("</td>") == 16


def test_images_are_pictures() -> None:
    images = np.random.default_rng(0).normal(size=(12, 5, 7, 1))
    html = array_html(images)
    shown = pictures(html)
    assert [p.shape for p in shown] == [(5, 7, 3)] * 10
    np.testing.assert_array_equal(shown[3], shades(images[:10])[3, :, :, 0])
    assert "the first 10 of 12" in html
    assert html.count('alt="values as colours, ') == 10
    assert len(pictures(array_html(images.reshape(2, 6, 5, 7, 1)))) == 10
    assert "first" not in array_html(images[:3])
    images[0, 0, 0] = np.nan
    assert f"from {np.nanmin(images[0]):.3g} to {np.nanmax(images[0]):.3g}" in array_html(images)


def test_a_large_matrix_is_a_picture_of_its_corner() -> None:
    html = array_html(np.ones((300, 20)))
    (shown,) = pictures(html)
    assert shown.shape == (128, 20, 3)
    assert "the upper left 128 x 20 of 300 x 20" in html


@pytest.mark.parametrize("array", [np.zeros((0, 3)), np.ones((2, 3, 4)), np.ones(3) * 1j, np.arange(200.0)])
def test_the_rest_is_text(array: np.ndarray) -> None:
    assert array_html(array).startswith("<pre>")


def test_a_tensor() -> None:
    t = Tensor([[1.0, 2.0]], requires_grad=True, name="<script>")
    assert t._repr_html_().startswith(
        "<div><b>&lt;script&gt;, requires_grad</b>: float64 (1, 2), min 1, mean 1.5, max 2</div><table"
    )
    assert "<b>Tensor, made by exp</b>" in exp(t)._repr_html_()
    assert repr(t) == "Tensor([[1., 2.]], float64, requires_grad=True, name='<script>')"
