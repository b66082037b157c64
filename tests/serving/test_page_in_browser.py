"""The page in a real browser, on a desk and on a phone: every tab is shown a few examples and asked, and keeps them in a file.

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
    pytest.mark.slow,  # servers and a browser have to start
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
        camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        found = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", *camera])
        yield found
        found.close()


DESK, PHONE = 1280, 390  # pixels across


def opened(browser, address: str, first: str, width: int = DESK):
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.set_default_timeout(30_000)
    page.troubles, page.elsewhere = [], []
    page.on("pageerror", lambda error: page.troubles.append(str(error)))
    page.on("request", lambda sent: page.elsewhere.append(sent.url) if not sent.url.startswith(OWN) else None)
    page.goto(address)
    page.wait_for_selector(first)
    return page


OWN = ("http://127.0.0.1:", "data:", "blob:")  # what a page without a network may ask for


def closed(page) -> None:
    """Nothing went wrong, nothing was asked of another host, and nothing stands out at the side."""
    assert page.troubles == [] and page.elsewhere == []
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    page.close()


def refused(page, said: str) -> None:
    """One message says so; it is closed."""
    sync_api.expect(page.locator(".toast-body").filter(has_text=said)).to_be_visible()
    page.locator(".toast-close").first.click()


def saved_and_opened(page, folder: Path) -> None:
    """The task is saved, and after a fresh start opened from its file."""
    with page.expect_download() as download:
        page.click("#save a")
    download.value.save_as(folder / "task.il")
    page.reload()
    page.wait_for_selector("#open-task")
    choose(page, folder / "task.il")


def choose(page, path: Path) -> None:
    page.set_input_files("input[type=file][accept*='.il']", path)


def seen(page, number: int) -> None:
    sync_api.expect(page.locator("#seen img")).to_have_count(number)


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
    page.locator(f"#{canvas} canvas").scroll_into_view_if_needed()
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


def ready(page, canvas: str = "support-canvas") -> None:
    """Wait until the canvas takes strokes again."""
    page.wait_for_function(f"document.querySelector('#{canvas} canvas').style.opacity == 1")


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
            draw(page, "query-canvas", line)
            page.click("#ask-drawing")
            expect(page.locator("#answer h2")).to_have_text(label)
            ready(page, "query-canvas")
            assert ink(page, "query-canvas") == 0
            expect(page.locator("#asked img")).to_have_count(1)  # what was asked
            shown = answer(page)
            assert set(shown) == {"bar", "dash"} and shown[label] > 60 and 98 <= sum(shown.values()) <= 102
        photographed(page, "pictures")
        page.once("dialog", lambda dialog: dialog.accept("dash"))
        page.get_by_role("button", name="Rename the class bar").click()
        refused(page, "expected a name that no other class has, got 'dash'")
        page.once("dialog", lambda dialog: dialog.accept("post"))
        page.get_by_role("button", name="Rename the class bar").click()
        expect(page.get_by_role("button", name="Rename the class post")).to_be_visible()
        expect(page.locator("#answer")).to_contain_text("post")  # what was asked is asked again
        page.get_by_role("button", name="Take away picture 2 of post").press("Enter")
        seen(page, 3)
        saved_and_opened(page, tmp_path)
        seen(page, 3)
        expect(status).to_contain_text("Opened: adapted before, to 3 pictures of 2 classes")
        (tmp_path / "broken.il").write_bytes(b"no task")
        choose(page, tmp_path / "broken.il")
        refused(page, "expected a task file")
        page.click("#start-over")
        expect(status).to_have_text("Nothing shown yet.")
        expect(page.locator("#save a")).to_have_count(0)
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
        closed(page)
        page = opened(browser, address, "#add-drawing", PHONE)
        choose(page, tmp_path / "task.il")
        seen(page, 3)
        draw(page, "query-canvas", [(0.2, 0.5), (0.8, 0.5)])
        page.click("#ask-drawing")
        expect(page.locator("#answer h2")).to_have_text("dash")
        closed(page)
        page = opened(browser, f"{address}/docs", "section", PHONE)  # the reference
        page.locator("section").filter(has_text="POST /predict").locator("summary").last.click()
        page.get_by_label("the body of POST /predict").fill('{"task": "nobody", "x": [[0]]}')
        page.locator("section", has_text="POST /predict").get_by_role("button", name="Send").click()
        expect(page.locator("section", has_text="POST /predict").locator("pre")).to_contain_text("404")
        closed(page)


def test_a_table_is_adapted_to(browser, tmp_path):
    torch.manual_seed(0)
    learner = il.maml(il.models.mlp(1, 1, hidden=(4,)), inner_steps=1)
    learner.spec = TaskSpec(input_shape=(1,), objective="mse")
    task = learner.adapt(torch.zeros(2, 1), torch.zeros(2, 1)).save(tmp_path / "task.il")
    with served(task) as address:
        page = opened(browser, address, "#go")
        page.locator("#new-rows textarea").fill("0\n1")
        page.click("#go")  # the task of the file, as it is
        sync_api.expect(page.locator("#predictions")).to_contain_text("y1")
        page.locator("#rows textarea").fill("x1,y\n-3,-0.2\n-1.5,-1\n0.5,0.5\n2,0.9\n3.5,-0.4")
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
        refused(page, "row 2 expected 2 cells")
        closed(page)
        page = opened(browser, address, "#go", PHONE)
        page.locator("#rows textarea").fill("x1,y\n0,1\n1,2")
        page.click("#go")
        sync_api.expect(page.locator("#status")).to_contain_text("Adapted to 2 rows")
        saved_and_opened(page, tmp_path)
        sync_api.expect(page.locator("#rows textarea")).to_have_value("x1,y\n0,1\n1,2\n")
        closed(page)


@pytest.mark.parametrize("width", [DESK, PHONE])
def test_photographs_begin_with_files_and_the_camera(browser, tmp_path, width):
    torch.manual_seed(0)
    learner = il.protonet(il.models.mlp((3, 8, 8), 16, hidden=()))
    learner.spec = TaskSpec(input_shape=(3, 8, 8), objective="cross_entropy")
    task = learner.adapt(torch.rand(4, 3, 8, 8), ["a", "a", "b", "b"]).save(tmp_path / "first.il", support=True)
    with served(task) as address:
        page = opened(browser, address, "#add-pictures", width)
        seen(page, 4)  # the file's own
        tabs = page.get_by_role("tab").all_inner_texts()
        assert tabs == ["Pictures", "Camera", "Picture", "Camera"]
        page.locator("#class-name input, #class-name textarea").fill("green")
        page.get_by_role("tab", name="Camera").first.click()
        page.click("#add-taken")
        refused(page, "got none from the camera")
        page.get_by_role("button", name="Turn the camera on").click()
        page.get_by_role("button", name="Take the picture").click()
        page.get_by_role("button", name="Take another").wait_for()
        page.click("#add-taken")
        seen(page, 5)
        sync_api.expect(page.locator("#status")).to_contain_text("to 5 pictures of 3 classes")
        photographed(page, f"photographs-{width}")
        (tmp_path / "no.png").write_text("no picture")
        page.set_input_files("#query-file input[type=file]", tmp_path / "no.png")
        sync_api.expect(page.locator("#query-file")).to_contain_text("no")
        page.click("#ask-picture")
        refused(page, "expected a picture, got a file that is")
        closed(page)


@pytest.mark.parametrize("width", [DESK, PHONE])
def test_more_of_a_kind_is_seen(browser, tmp_path, width):
    torch.manual_seed(0)
    family = il.tasks.drawings(source="glyphs", size=12)
    learner = il.score_model(family.train.default_model())
    il.fit(learner, family, steps=1, num_tasks=1, quiet=True, validate_every=0, out=tmp_path / "run")
    with served(tmp_path / "run") as address:
        page = opened(browser, address, "#make-more", width)
        page.click("#make-more")
        refused(page, "empty canvas")
        for number in (1, 2):
            draw(page, "support-canvas", [(0.3, 0.2), (0.3, 0.8), (0.5 + number / 10, 0.8)])
            page.click("#add-drawing")
            seen(page, number)
            ready(page)
        page.click("#make-more")
        sync_api.expect(page.locator("#made img")).to_have_count(16, timeout=120_000)
        saved_and_opened(page, tmp_path)
        seen(page, 2)
        page.get_by_role("button", name="Take away picture 1").click()
        seen(page, 1)
        closed(page)


def test_sentences_are_told_apart(browser, tmp_path):
    pytest.importorskip("tokenizers", reason="no trained network of sentences here (extra text)")
    texts = [
        f"{verb} the {thing}"
        for verb in ("play", "book", "cook", "paint", "sell", "fix")
        for thing in ("song", "trip", "rice", "wall")
    ]
    family = il.tasks.from_arrays(texts, [t.split()[0] for t in texts], embedding="sentences", shots=1)
    learner = il.protonet(il.models.adapter(384))
    il.fit(learner, family, steps=1, num_tasks=1, quiet=True, validate_every=0, out=tmp_path / "run")
    with served(tmp_path / "run") as address:
        for width in (DESK, PHONE):
            page = opened(browser, address, "#go", width)
            page.click("#go")
            refused(page, "write them as class: sentence")
            page.locator("#said textarea").fill("travel: book me a flight\nmusic: play some jazz")
            page.locator("#new-sentences textarea").fill("reserve a seat on the train")
            page.click("#go")
            sync_api.expect(page.locator("#predictions")).to_contain_text("travel %")
            saved_and_opened(page, tmp_path)
            sync_api.expect(page.locator("#said textarea")).to_have_value(
                "travel: book me a flight\nmusic: play some jazz"
            )
            closed(page)
