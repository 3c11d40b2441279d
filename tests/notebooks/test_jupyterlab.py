"""The notebooks with sliders, where a class has them: in JupyterLab, in a browser.

A real server, and Chromium without a window, which opens the notebook, runs all cells, and moves a slider with the
keyboard.  Where there is no Chromium the tests are skipped, or fail if the environment sets CI=true.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from minidbp.teaching import notebooks
from minidbp.teaching.exercises import SMOKE

SETTINGS = {
    "notebook-extension/tracker": '{"windowingMode": "none"}',  # else cells out of view are not in the page
    "apputils-extension/notification": '{"fetchNews": "false", "checkForUpdates": false}',  # no network
}
START, RUN, REDRAW = 90, 180, 60  # seconds, for a machine that does other things too

SOURCES = notebooks.read_sources()
IN_JUPYTERLAB = ["04_fgsm", "05_jacobian"]  # the sliders of the others are made by the same `explore`


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A JupyterLab with nothing of the user's: an address to put a name into, and the folder it shows."""
    home = tmp_path_factory.mktemp("jupyter")
    folder, runtime, settings = home / "shown", home / "runtime", home / "settings"
    folder.mkdir()
    for extension, text in SETTINGS.items():
        path = settings / "@jupyterlab" / f"{extension}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    environment = os.environ | {
        SMOKE: "1",
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(runtime),
        "JUPYTERLAB_SETTINGS_DIR": str(settings),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
    }
    options = [
        "--no-browser",
        "--allow-root",
        "--ServerApp.ip=127.0.0.1",
        "--ServerApp.port_retries=100",  # the first port that is free; the server says which in its runtime folder
        "--IdentityProvider.token=for-this-test",
        f"--ServerApp.root_dir={folder}",
    ]
    log = home / "log"
    with log.open("w") as file:
        command = [sys.executable, "-m", "jupyterlab", *options]
        server = subprocess.Popen(command, env=environment, cwd=folder, stdout=file, stderr=subprocess.STDOUT)
        try:
            path = "lab/workspaces/{0}/tree/{0}.ipynb?token=for-this-test"  # or the last notebook would open again
            yield _address(server, runtime, log) + path, folder
        finally:
            server.terminate()  # it ends its kernels
            try:
                server.wait(60)
            except subprocess.TimeoutExpired:
                server.kill()


def _address(server: subprocess.Popen, runtime: Path, log: Path) -> str:
    """The server's address, once it serves."""
    deadline = time.monotonic() + START
    while time.monotonic() < deadline:
        assert server.poll() is None, f"JupyterLab ended: {log.read_text()[-3000:]}"
        for path in runtime.glob("jpserver-*.json"):  # made when the port is bound, and empty for an instant
            with contextlib.suppress(json.JSONDecodeError):
                return str(json.loads(path.read_text())["url"])
        time.sleep(0.1)
    raise AssertionError(f"JupyterLab did not start within {START} s: {log.read_text()[-3000:]}")


@pytest.mark.slow
@pytest.mark.parametrize("name", IN_JUPYTERLAB)
def test_slider_redraws_its_picture(name: str, lab: tuple[str, Path], browser: Browser):
    address, folder = lab
    notebooks.write(folder / f"{name}.ipynb", notebooks.as_text(notebooks.teacher_version(SOURCES[name])))
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    try:
        page.goto(address.format(name), timeout=1000 * START)
        _run_all_cells(page)
        cells = page.locator(".jp-CodeCell", has=page.locator(".noUi-handle"))
        n_sliders = sum("\nexplore(" in cell.source for cell in SOURCES[name].cells)
        expect(cells).to_have_count(n_sliders, timeout=1000 * REDRAW)  # drawn after the kernel is idle
        assert n_sliders >= 1
        for cell in cells.all():
            for handle in cell.locator(".noUi-handle").all():
                _move(cell, handle)
    finally:
        if "MINIDBP_SCREENSHOTS" in os.environ:
            page.screenshot(path=Path(os.environ["MINIDBP_SCREENSHOTS"]) / f"{name}.png")
        page.close()


def _run_all_cells(page: Page) -> None:
    """Menu Run, Run All Cells; raises AssertionError with what a cell says if one fails."""
    expect(page.locator(".jp-Notebook .jp-CodeCell").first).to_be_visible(timeout=1000 * START)
    kernel = page.locator("#jp-main-statusbar").get_by_text("Python 3 (ipykernel) | Idle")  # no cell runs before
    expect(kernel).to_be_visible(timeout=1000 * START)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    error = "[data-mime-type='application/vnd.jupyter.error']"
    page.wait_for_function(
        """error => document.querySelector(error)
            || [...document.querySelectorAll(".jp-Notebook .jp-CodeCell .jp-InputPrompt")]
               .filter(prompt => !prompt.closest(".jp-Placeholder"))  // a folded cell shows no number
               .every(prompt => /\\[\\d+\\]/.test(prompt.textContent))""",
        arg=error,
        timeout=1000 * RUN,
    )
    expect(kernel).to_be_visible(timeout=1000 * RUN)  # folded cells at the end are done too
    assert page.locator(error).all_inner_texts() == []


def _move(cell: Locator, handle: Locator) -> None:
    """One step of the slider by the keyboard: another picture and another description, as text and under it."""
    picture, caption = cell.locator(".jp-OutputArea img"), cell.locator(".jp-OutputArea em")
    src, alt, text = picture.get_attribute("src"), picture.get_attribute("alt"), caption.inner_text()
    value = handle.get_attribute("aria-valuetext")
    assert alt
    assert alt == text
    handle.focus()
    handle.press("ArrowRight")
    expect(handle).not_to_have_attribute("aria-valuetext", value, timeout=1000 * REDRAW)
    expect(picture).not_to_have_attribute("src", src, timeout=1000 * REDRAW)
    expect(caption).not_to_have_text(text, timeout=1000 * REDRAW)
    expect(picture).to_have_attribute("alt", caption.inner_text(), timeout=1000 * REDRAW)
