"""The page in a real browser: classes are drawn, the learner adapts and recognises; a table is adapted to.

The browser is found by itself, or named by INNERLOOP_BROWSER; where there is none the tests are skipped. With
INNERLOOP_SCREENSHOTS=FOLDER the page is photographed as it is after adapting.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import innerloop as il
from innerloop.core import TaskSpec

pytest.importorskip("gradio")
sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright")
BROWSER = os.environ.get("INNERLOOP_BROWSER") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome here, and INNERLOOP_BROWSER names none"),
    pytest.mark.long,  # two servers and a browser have to start
]


@contextlib.contextmanager
def served(target: Path) -> Iterator[str]:
    """The address of `innerloop serve TARGET`, on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "innerloop", "serve", str(target), "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            assert server.poll() is None, server.stderr.read()
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/openapi.json", timeout=5):
                break
            time.sleep(0.25)
        else:
            pytest.fail("the server did not answer within a minute")
        yield address
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture(scope="module")
def browser():
    sync_api.expect.set_options(timeout=30_000)  # a busy machine; what is there sooner is not waited for
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield found
        found.close()


def opened(browser, address: str, first: str):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(30_000)
    page.troubles = []
    page.on("pageerror", lambda error: page.troubles.append(str(error)))
    page.goto(address)
    page.wait_for_selector(first)
    return page


def photographed(page, name: str) -> None:
    folder = os.environ.get("INNERLOOP_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for width in (1280, 400):
            page.set_viewport_size({"width": width, "height": 900})
            page.wait_for_timeout(500)
            page.screenshot(path=Path(folder) / f"{name}-{width}.png", full_page=True)


def draw(page, canvas: str, line: list[tuple[float, float]]) -> None:
    """One stroke through these places, in parts of the canvas's width and height."""
    box = page.locator(f"#{canvas} canvas").bounding_box()
    points = [(box["x"] + box["width"] * x, box["y"] + box["height"] * y) for x, y in line]
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=4)
    page.mouse.up()


def ink(page, canvas: str) -> int:
    """How many pixels of a canvas are black."""
    script = """name => { const c = document.querySelector(name + ' canvas');
        const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
        let n = 0; for (let i = 0; i < d.length; i += 4) n += d[i] < 128; return n; }"""
    return page.evaluate(script, f"#{canvas}")


def ready(page) -> None:
    """Wait until the canvas takes strokes again."""
    page.wait_for_function("document.querySelector('#support-canvas canvas').style.opacity == 1")


def answer(page) -> dict[str, int]:
    """Labels and percentages as they are shown."""
    found = re.findall(r"^(\w+)\n(\d+)%$", page.locator("#answer").inner_text(), re.M)
    return {name: int(percent) for name, percent in found}


def test_drawings_are_learned_and_recognised(browser, tmp_path):
    torch.manual_seed(0)
    net = il.models.mlp((1, 28, 28), 32, hidden=())  # random projections tell a bar from a dash
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(3)  # surely: distances are squared
    learner = il.protonet(net)
    family = il.tasks.glyphs(queries=1)
    il.fit(learner, family, steps=1, num_tasks=1, valid_tasks=1, out=tmp_path / "run", quiet=True, strategy="vmapped")
    with served(tmp_path / "run") as address:
        page = opened(browser, address, "#support-canvas canvas")
        photographed(page, "pictures-before")
        expect, status = sync_api.expect, page.locator("#status")
        page.click("#add-drawing")  # an empty canvas: one line, nothing added
        expect(page.get_by_text("got an empty canvas")).to_be_visible()
        ready(page)
        name = page.locator("#class-name input, #class-name textarea")
        said = ["1 picture of 1 class.", "2 pictures of 1 class.", "to 3 pictures of 2 classes", "to 4 pictures of 2"]
        strokes = [("bar", 0.5), ("bar", 0.45), ("dash", 0.5), ("dash", 0.45)]
        for (label, at), text in zip(strokes, said, strict=True):
            name.fill(label)
            draw(page, "support-canvas", [(at, 0.2), (at, 0.8)] if label == "bar" else [(0.2, at), (0.8, at)])
            assert ink(page, "support-canvas") > 500
            page.click("#add-drawing")
            expect(status).to_contain_text(text)
            ready(page)
            assert ink(page, "support-canvas") == 0  # ready for the next
        for label, line in (("bar", [(0.52, 0.2), (0.5, 0.75)]), ("dash", [(0.2, 0.52), (0.75, 0.5)])):
            page.click("#query-canvas .wipe")
            draw(page, "query-canvas", line)
            page.click("#ask-drawing")
            expect(page.locator("#answer h2")).to_have_text(label)
            shown = answer(page)
            assert set(shown) == {"bar", "dash"} and shown[label] > 60 and 98 <= sum(shown.values()) <= 102
        photographed(page, "pictures")
        page.click("#start-over")
        expect(status).to_have_text("Nothing shown yet.")
        from PIL import Image

        for i, label in enumerate(("black", "white")):
            Image.new("L", (30, 30), 255 * i).save(tmp_path / f"{label}.png")
        page.get_by_role("tab", name="Pictures").click()
        for label in ("black", "white"):
            name.fill(label)
            page.set_input_files("#support-files input[type=file]", tmp_path / f"{label}.png")
            expect(page.locator("#support-files")).to_contain_text(label)
            page.click("#add-pictures")
            expect(status).to_contain_text("picture of 1 class" if label == "black" else "2 pictures of 2 classes")
        page.get_by_role("tab", name="Picture", exact=True).click()
        page.set_input_files("#query-file input[type=file]", tmp_path / "white.png")
        expect(page.locator("#query-file")).to_contain_text("white")
        page.click("#ask-picture")
        expect(page.locator("#answer h2")).to_have_text("white")
        photographed(page, "pictures-dropped")
        expect(page.get_by_role("link", name="中文")).to_have_attribute("href", "/zh/")
        page.goto(f"{address}/zh")
        expect(page.get_by_role("button", name="加入这幅画")).to_be_visible()
        page.locator("#class-name input, #class-name textarea").fill("竖线")
        draw(page, "support-canvas", [(0.5, 0.2), (0.5, 0.8)])
        page.click("#add-drawing")
        expect(status).to_have_text("已有1 个类别的 1 张图片。请再给它看第二个类别。")
        photographed(page, "pictures-zh")
        page.click("#ask-drawing")  # an empty canvas
        expect(page.get_by_text("画布是空的")).to_be_visible()
        assert page.troubles == []
        page.close()


def test_a_table_is_adapted_to(browser, tmp_path):
    torch.manual_seed(0)
    learner = il.maml(il.models.mlp(1, 1, hidden=(4,)), inner_steps=1)
    learner.spec = TaskSpec(input_shape=(1,), objective="mse")
    task = learner.adapt(torch.zeros(2, 1), torch.zeros(2, 1)).save(tmp_path / "task.il")
    with served(task) as address:
        page = opened(browser, address, "#go")
        page.locator("#new-rows textarea").fill("0\n1\n2.5")
        page.click("#go")
        sync_api.expect(page.locator("#status")).to_contain_text("Adapted to 5 rows")
        page.wait_for_selector("#curve img")
        rows = [line.split("\t") for line in page.locator("#predictions").inner_text().split("\n")]
        cells = [cell for row in rows for cell in row if re.fullmatch(r"-?\d+(\.\d+)?", cell)]
        expected = learner.adapt([[-3.0], [-1.5], [0.5], [2.0], [3.5]], [[-0.2], [-1.0], [0.5], [0.9], [-0.4]]).predict(
            [[0.0], [1.0], [2.5]]
        )
        assert [float(v) for v in cells[-5::2]] == pytest.approx(expected[:, 0].tolist(), abs=1e-3)
        photographed(page, "table")
        page.locator("#rows textarea").fill("1,2\n3")
        page.click("#go")
        sync_api.expect(page.get_by_text("row 2 expected 2 cells")).to_be_visible()
        assert page.troubles == []
        page.close()
