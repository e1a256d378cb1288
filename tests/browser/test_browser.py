"""Each notebook in a real browser, as a reader has it: JupyterLab on a copy of the repository, in Debian's chromium.

`make test-browser` runs it; screenshots go to runs/browser/. Without CLR_BROWSER=1 it is skipped.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if os.environ.get("CLR_BROWSER") != "1":
    pytest.skip("a browser is tried by make test-browser alone", allow_module_level=True)
if CHROMIUM is None:
    pytest.skip("there is no chromium: apt install chromium", allow_module_level=True)
pytest.importorskip("jupyterlab", reason="JupyterLab is missing: pip install '.[notebooks,browser]'")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is missing: pip install '.[browser]'")

ROOT = Path(__file__).parents[2]
SCREENSHOTS = ROOT / "runs" / "browser"
MINUTES = float(os.environ.get("CLR_BROWSER_MINUTES", "5"))  # that a notebook may take
SETTINGS = {
    "notebook-extension/tracker": '{"windowingMode": "none"}',
    "apputils-extension/notification": '{"fetchNews": "false"}',
}
IDENTITY = ["-c", "user.name=reader", "-c", "user.email=reader@localhost"]


def git(folder, *arguments):
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of what git tracks, as a repository of its own: git then tells which files have changed."""
    folder = tmp_path_factory.mktemp("copy")
    for name in git(ROOT, "ls-files").splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, *IDENTITY, "commit", "--quiet", "--message", "copy")
    return folder


@pytest.fixture(scope="module")
def address(copy, tmp_path_factory):
    """The address of a JupyterLab on the copy, whose settings draw all cells, also those that are not in sight."""
    place = tmp_path_factory.mktemp("jupyter")
    for name, text in SETTINGS.items():
        path = place / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(text, encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CLR_")}
    environment |= {
        "CLR_DATA": "synthetic", "PYTHONPATH": str(copy), "JUPYTERLAB_SETTINGS_DIR": str(place / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(place / "workspaces"), "IPYTHONDIR": str(place / "ipython"),
        "JUPYTER_CONFIG_DIR": str(place / "config"),
    }  # fmt: skip
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.port_retries=0"]
    command += [f"--port={port}", "--IdentityProvider.token=reader", f"--ServerApp.root_dir={copy}"]
    with (place / "log").open("w") as log, subprocess.Popen(command, env=environment, stdout=log, stderr=log) as server:
        try:
            wait_for(lambda: answers(f"http://127.0.0.1:{port}/api?token=reader"), 2)
            yield f"http://127.0.0.1:{port}/lab/tree/notebooks/{{}}.ipynb?token=reader&reset"  # no tabs of before
        finally:
            server.terminate()


def answers(url):
    try:
        return urllib.request.urlopen(url, timeout=5).status == 200
    except OSError:
        return False


def wait_for(condition, minutes=MINUTES):
    """Wait until the condition holds, and return what it returned."""
    end = time.monotonic() + 60 * minutes
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.5)
    return found


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield running
        running.close()


@pytest.fixture
def page(browser):
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    opened = browser.new_page(viewport={"width": 1300, "height": 1000})
    opened.set_default_timeout(60_000 * MINUTES)
    yield opened
    opened.screenshot(path=SCREENSHOTS / "last.png")
    opened.close()


def open_notebook(page, address, name):
    page.goto(address.format(name))
    page.wait_for_selector(".jp-Notebook .jp-CodeCell")
    page.get_by_text("| Idle").wait_for()  # before that, JupyterLab asks which kernel to start


def menu(page, name, item):
    page.locator(".lm-MenuBar-itemLabel", has_text=name).first.click()
    page.locator(".lm-Menu-itemLabel", has_text=item).first.click()


def prompts(page):
    return [text for text in page.locator(".jp-CodeCell .jp-InputArea-prompt").all_inner_texts() if text.strip()]


def run_all(page):
    menu(page, "Run", "Run All Cells")
    wait_for(lambda: "[*]:" in prompts(page), 1)


def wait_until_done(page):
    wait_for(lambda: "[*]:" not in prompts(page))


def save_and_reopen(page, address, name, copy):
    """Save, and open the saved file anew; return its outputs."""
    path = copy / "notebooks" / f"{name}.ipynb"
    before = path.stat().st_mtime_ns
    page.get_by_text("| Idle").wait_for()
    menu(page, "File", "Save Notebook")
    wait_for(lambda: path.stat().st_mtime_ns > before)
    open_notebook(page, address, name)
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [output for cell in cells for output in cell.get("outputs", ())]


def shoot(page, name):
    page.screenshot(path=SCREENSHOTS / f"{name}.png")


def changed(copy):
    return {line[3:] for line in git(copy, "status", "--porcelain").splitlines()}


def check_saved(page, address, name, copy):
    before = changed(copy)
    outputs = save_and_reopen(page, address, name, copy)
    shoot(page, f"{name}-reopened")
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert page.locator("text=Error displaying widget").count() == 0
    assert changed(copy) - before <= {f"notebooks/{name}.ipynb"}
    git(copy, "checkout", "--quiet", "--", f"notebooks/{name}.ipynb")
    assert changed(copy) == set()


def pictures_beside(area):
    return [image.get_attribute("src") for image in area.locator("img").all()]


@pytest.mark.parametrize(("name", "slider"), [("Schedulers", 1), ("Figures", 0), ("RangeTest", 0)])
def test_a_slider_moves_its_picture_and_what_is_saved_has_no_error(page, address, copy, name, slider):
    open_notebook(page, address, name)
    run_all(page)
    wait_until_done(page)
    shoot(page, name)
    area = page.locator(".jp-Cell-outputArea", has=page.locator(".widget-slider")).first
    wait_for(lambda: pictures_beside(area))
    before = pictures_beside(area)
    handle = area.locator(".noUi-handle").nth(slider)
    handle.scroll_into_view_if_needed()
    handle.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight" if name != "RangeTest" else "ArrowUp")
    after = wait_for(lambda: (now := pictures_beside(area)) and now != before and now, 1)
    assert after != before
    shoot(page, f"{name}-slider")
    check_saved(page, address, name, copy)


def test_training_grows_a_curve_and_is_interrupted_in_one_line(page, address, copy):
    path = copy / "notebooks" / "Experiments.ipynb"
    text = path.read_text(encoding="utf-8")
    assert text.count('"TRAIN = False') == 1
    path.write_text(text.replace('"TRAIN = False', '"TRAIN = True'), encoding="utf-8")
    open_notebook(page, address, "Experiments")
    run_all(page)
    cell = page.locator(".jp-CodeCell", has_text="watch(shortened").first
    cell.locator("text=/Training fixed .*: about .* here/").wait_for()
    first = wait_for(lambda: pictures_beside(cell))
    wait_for(lambda: pictures_beside(cell) != first)
    time.sleep(20)  # for some evaluations
    cell.scroll_into_view_if_needed()
    shoot(page, "Experiments-training")
    menu(page, "Kernel", "Interrupt Kernel")
    cell.locator("text=/Interrupted. Kept: .*Run the cell again to go on/").wait_for()
    shoot(page, "Experiments-interrupted")
    wait_until_done(page)
    shoot(page, "Experiments")
    check_saved(page, address, "Experiments", copy)
