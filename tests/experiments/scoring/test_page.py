"""The page: what it holds, that nothing in it can become code, and that it works in a browser."""

import json
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from PIL import Image

from regioncap.experiments.metrics import METRICS
from regioncap.experiments.scoring.gallery import PictureFolder
from regioncap.experiments.scoring.page import page_data, page_html

pytestmark = pytest.mark.timeout(120)  # a browser that hangs must not hang the tests

HOSTILE = (
    "</script><script>document.documentElement.dataset.hacked = 1</script>",
    '<img src=x onerror="document.documentElement.dataset.hacked = 1">',
    "<!-- <script> & \u2028 \\u003c {{script}} {{data}} 'quoted' \"twice\"",
    "",
)


class Elements(HTMLParser):
    """The elements of a page with their text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, Any], str]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs), ""))

    def handle_data(self, data: str) -> None:
        if self.found:
            tag, attributes, text = self.found[-1]
            self.found[-1] = (tag, attributes, text + data)


def embedded(page: str) -> Any:
    (text,) = [text for tag, attributes, text in Elements(page).found if attributes.get("id") == "data"]
    return json.loads(text)


def test_data_come_back_as_they_went_in_whatever_the_captions_hold(invented):
    comparison = invented(6, texts=HOSTILE)
    page = page_html(comparison, references="</title><b>.json")
    data = page_data(comparison, references="</title><b>.json")
    assert embedded(page) == json.loads(json.dumps(data))
    assert [image["captions"][0] for image in embedded(page)["images"]][:4] == list(HOSTILE)
    plain = page_html(invented(6), references="r.json")
    tags = [[tag for tag, _, _ in Elements(text).found] for text in (page, plain)]
    assert tags[0] == tags[1]


def test_page_asks_the_network_for_nothing(invented):
    page = page_html(invented(), references="r.json")
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!#|data:)""", page)
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", page)
    assert "default-src 'none'" in page
    assert "{{" not in page.replace(json.dumps("{{"), "")


def test_table_and_distributions_are_of_all_images(invented):
    comparison = invented(50, ("old", "new", "newest"), baseline=1)
    data = page_data(comparison, references="r.json", images=5)
    assert (data["total"], len(data["images"]), data["baseline"]) == (50, 5, 1)
    for metric in METRICS:
        histogram = data["histograms"][metric]
        assert [sum(counts) for counts in histogram["counts"]] == [50] * 3
        assert histogram["means"] == pytest.approx((100 * comparison.per_image[metric].mean(axis=1)).tolist())
        old, new, newest = data["differences"][metric]
        assert new is None
        assert sum(old["counts"][0]) == sum(newest["counts"][0]) == 50
        gains = comparison.per_image[metric][2] - comparison.per_image[metric][1]
        assert (newest["better"], newest["worse"]) == (np.sum(gains > 0), np.sum(gains < 0))
        assert newest["from"] == -newest["to"]
        cells = data["table"][metric]
        assert [cell["value"] for cell in cells] == [f"{100 * cell.value:.1f}" for cell in comparison.measured[metric]]
        assert [cell["p"] == "" for cell in cells] == [False, True, False]


def test_scores_that_are_all_alike_have_a_distribution(invented):
    data = page_data(invented(4, gain=0.0), references="r.json")
    difference = data["differences"]["CIDEr"][1]
    assert (difference["better"], difference["worse"], difference["means"]) == (0, 0, [0.0])
    assert difference["counts"][0][len(difference["counts"][0]) // 2] == 4


def test_paths_of_the_maker_stay_out(invented):
    assert "/home/someone" not in page_html(invented(), references="r.json")


def test_pictures_are_embedded_for_the_images_shown_alone(invented, tmp_path):
    for index in range(5):
        Image.new("RGB", (60, 40), "green").save(tmp_path / f"{index}.jpg")
    (tmp_path / "1.jpg").write_text("broken")
    (tmp_path / "2.jpg").unlink()
    comparison, folder = invented(5), PictureFolder(tmp_path)
    data = page_data(comparison, references="r.json", folder=folder)
    assert [image["picture"].startswith("data:image/jpeg;base64,") for image in data["images"]] == [
        *(True, False, False, True, True)
    ]
    assert [image["why"] for image in data["images"]][1:3] == [
        "the picture does not decode",
        "not in the folder of pictures",
    ]
    moved = page_data(comparison, references="r.json", folder=folder, pictures={"0.jpg": "none.jpg"})
    assert moved["images"][0]["picture"] == ""
    few = page_html(comparison, references="r.json", folder=folder, images=2)
    assert few.count("data:image/jpeg") <= 2


@pytest.fixture
def open_page(browser, tmp_path):
    """Opens the page of a comparison; at the end it must have met no error and run no caption."""

    def open_page(comparison, width: int = 1200, scheme: str = "light", **options: Any) -> Any:
        file = tmp_path / "page.html"
        file.write_text(page_html(comparison, references="r.json", **options), encoding="utf-8")
        browser.open(file, width, scheme)
        return browser

    yield open_page
    state = browser.run("JSON.stringify({...document.documentElement.dataset})")
    assert json.loads(state) == {}


NAMES = "[...document.querySelectorAll('.card h3 span:first-child')].map((name) => name.textContent)"
CHANGE = (
    (
        "(id, value, event = 'change') => {{ const control = document.getElementById(id);"
        "control.value = value; control.dispatchEvent(new Event(event)); }}"
    )
    .replace("{{", "{")
    .replace("}}", "}")
)


def change(browser: Any, control: str, value: object, event: str = "change") -> None:
    browser.run(f"({CHANGE})({json.dumps(control)}, {json.dumps(str(value))}, '{event}')")


def text(browser: Any, selector: str) -> str:
    return str(browser.run(f"document.querySelector({json.dumps(selector)}).textContent"))


def test_error_trap_of_the_page_catches(browser, invented, tmp_path):
    page = page_html(invented(), references="r.json")
    file = tmp_path / "page.html"
    file.write_text(page.replace('"total":30', '"total":30,"metrics":[1]').replace('"histograms"', '"no"'))
    browser.open(file, 1200)
    assert browser.run("document.documentElement.dataset.error")


@pytest.mark.parametrize("names", [("one",), ("one", "two"), ("one", "two", "three")])
def test_page_draws_itself(open_page, invented, names):
    browser = open_page(invented(30, names), images=20)
    systems = len(names)
    assert browser.run("document.querySelectorAll('#summary tbody tr').length") == systems
    assert browser.run("document.querySelectorAll('#spread svg').length") == 2 * systems - 1
    assert browser.run("document.querySelectorAll('#spread rect').length") == 40 * systems + 41 * (systems - 1)
    assert browser.run("document.querySelectorAll('.card').length") == 12
    assert "20 of 30 images are here" in text(browser, "#shown")
    assert text(browser, "#position") == "1–12 of 20"
    assert browser.run("document.getElementById('compare-label').hidden") == (systems < 3)


def test_parts_of_spice_have_a_table(open_page, invented):
    browser = open_page(invented(parts=("Object", "Color")))
    heads = "[...document.querySelectorAll('#parts thead th')].map((cell) => cell.textContent)"
    assert browser.run(heads) == ["system", "Object", "Color"]
    assert text(browser, "#parts tbody tr:last-child td:last-child .value") == "50.0"


def test_hostile_captions_are_shown_as_text(open_page, invented):
    browser = open_page(invented(4, texts=HOSTILE))
    shown = browser.run("[...document.querySelectorAll('.said p')].map((line) => line.textContent)")
    assert set(HOSTILE) - {""} <= set(shown)
    assert "(no caption)" in shown
    assert browser.run("document.querySelectorAll('#gallery script, #gallery img').length") == 0


def test_orders_search_and_pages(open_page, invented):
    comparison = invented(30, gain=1.0)
    browser = open_page(comparison)
    names, cider = list(comparison.references), comparison.per_image["CIDEr"]
    gains = cider[1] - cider[0]
    change(browser, "per-page", 6)
    for order, key in (("gain", -gains), ("loss", gains), ("best", -cider.mean(axis=0)), ("worst", cider.mean(axis=0))):
        change(browser, "order", order)
        assert browser.run(NAMES) == [names[index] for index in np.argsort(key)[:6]]
    change(browser, "order", "random")
    first = browser.run(NAMES)
    change(browser, "seed", 1, "input")
    assert browser.run(NAMES) != first
    change(browser, "seed", 0, "input")
    assert browser.run(NAMES) == first
    browser.run("document.getElementById('next').click()")
    assert text(browser, "#position") == "7–12 of 30"
    assert not set(browser.run(NAMES)) & set(first)
    change(browser, "search", "17.JPG", "input")
    assert browser.run(NAMES) == ["17.jpg"]
    assert browser.run("document.getElementById('next').disabled && document.getElementById('previous').disabled")
    change(browser, "search", "no such words", "input")
    assert browser.run(NAMES) == []
    assert "No caption" in text(browser, "#position")


def test_metric_and_system_are_chosen(open_page, invented):
    comparison = invented(30, ("one", "two", "three"), gain=1.0)
    browser = open_page(comparison)
    browser.run("document.querySelector('input[value=SPICE]').click()")
    change(browser, "compare", 2)
    change(browser, "order", "gain")
    spice = comparison.per_image["SPICE"]
    assert browser.run(NAMES)[0] == list(comparison.references)[int(np.argmax(spice[2] - spice[0]))]
    assert "SPICE" in text(browser, "#spread-note")
    assert text(browser, ".card h3 span:last-child").startswith("three +")
    assert browser.run("document.querySelector('#order option[value=gain]').textContent") == "largest gain of three"


def test_page_without_images_has_no_gallery(open_page, invented):
    browser = open_page(invented(), images=0)
    assert browser.run("getComputedStyle(document.getElementById('captions')).display") == "none"
    assert browser.run("document.querySelectorAll('#spread svg').length") == 3


def test_words_that_no_reference_has_are_marked(open_page, invented):
    browser = open_page(invented(1, names=("one",), texts=("a DOG zebra's runs",), absent={"CIDEr": "one image"}))
    assert "zebra's" in browser.run("[...document.querySelectorAll('.own-word')].map((word) => word.textContent)")


def test_pictures_and_placeholders(open_page, invented, tmp_path):
    Image.new("RGB", (60, 40), "green").save(tmp_path / "0.jpg")
    browser = open_page(invented(2), folder=PictureFolder(tmp_path))
    loaded = "Promise.all([...document.images].map((image) => (image.loading = 'eager', image.decode())))"
    assert browser.run(f"{loaded}.then(() => [...document.images].map((image) => image.naturalWidth))") == [60]
    assert text(browser, ".placeholder") == "1.jpg: not in the folder of pictures"


def test_page_fits_a_phone_and_has_two_colour_schemes(open_page, invented):
    comparison = invented(5, ("a_rather_long_name_of_a_system_with_no_space_in_it_at_all", "two"))
    grounds = set()
    for scheme in ("light", "dark"):
        browser = open_page(comparison, width=390, scheme=scheme)
        assert browser.run("document.documentElement.scrollWidth") <= 390
        grounds.add(browser.run("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2


def test_every_control_has_a_name_and_the_keyboard_reaches_it(open_page, invented):
    browser = open_page(invented(30, ("one", "two", "three")))
    nameless = browser.run(
        "[...document.querySelectorAll('input, select')].filter((c) => !c.labels.length || !c.labels[0].textContent)"
        ".map((control) => control.id)"
    )
    assert nameless == []
    assert browser.run("[...document.querySelectorAll('svg')].every((svg) => svg.getAttribute('aria-label'))")
    reached = []
    for _ in range(12):
        for kind in ("keyDown", "keyUp"):
            browser.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
        reached.append(browser.run("document.activeElement.id || document.activeElement.name || 'other'"))
    assert {"metric", "compare", "order", "search", "per-page", "next"} <= set(reached)
