"""The page of a report: that it holds what was measured, asks the network for nothing, and works in a browser."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from regioncap.experiments.overlay import PALETTE
from regioncap.experiments.reporting.content import gather
from regioncap.experiments.reporting.page import report_data, report_page

pytestmark = pytest.mark.timeout(120)  # a browser that hangs must not hang the tests

HOSTILE = (
    "</script><script>document.documentElement.dataset.hacked = 1</script>",
    '<img src=x onerror="document.documentElement.dataset.hacked = 1">',
    "<!-- <script> & \u2028 {{script}} {{data}} 'quoted'",
    "",
)
NAMES = "[...document.querySelectorAll('.card h3 span:first-child')].map((name) => name.textContent)"


@pytest.fixture(scope="module")
def study(invent: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return invent(tmp_path_factory.mktemp("runs") / "study", images=20, texts=HOSTILE)


@pytest.fixture
def page(browser: Any, study: Path, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Opens the report of the study; at the end it must have met no error and run no caption."""

    def page(width: int = 1200, scheme: str = "light", folder: Path = study, **options: Any) -> Any:
        file = tmp_path / "report.html"
        file.write_text(report_page(gather(folder, **options)), encoding="utf-8")
        browser.open(file, width, scheme)
        return browser

    yield page
    assert json.loads(browser.run("JSON.stringify({...document.documentElement.dataset})")) == {}


def change(browser: Any, control: str, value: object, event: str = "change") -> None:
    browser.run(
        f"(() => {{ const control = document.getElementById({json.dumps(control)});"
        f"control.value = {json.dumps(str(value))}; control.dispatchEvent(new Event('{event}')); }})()"
    )


def text(browser: Any, selector: str) -> str:
    return str(browser.run(f"document.querySelector({json.dumps(selector)}).textContent"))


def count(browser: Any, selector: str) -> int:
    return int(browser.run(f"document.querySelectorAll({json.dumps(selector)}).length"))


def test_page_asks_the_network_for_nothing_and_says_no_path_of_its_maker(study: Path) -> None:
    page = report_page(gather(study))
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!#|data:)""", page)
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", page)
    assert "default-src 'none'" in page
    assert str(study) not in page


def test_every_section_draws_itself(page: Callable[..., Any], study: Path) -> None:
    browser = page()
    data = report_data(gather(study))
    assert text(browser, "h1") == text(browser, "title") == "Ablation study on scenes: invented"
    assert count(browser, "#summary tbody tr") == len(data["arms"]) == 4
    assert count(browser, "#bars rect") == 4
    assert count(browser, "#bars circle") == 3 * 2  # a dot a seed, of the arms with more than one
    assert count(browser, "#curves path.curve") == count(browser, "#curves path.band") == 3
    assert count(browser, ".card") == 12
    assert text(browser, "#tables h3") == "Cost of each arm"
    links = browser.run("[...document.querySelectorAll('nav a')].map((link) => link.hash)")
    assert links == ["#scores", "#learning", "#costs", "#captions"]
    cells = browser.run("[...document.querySelectorAll('#summary .best .value')].map((cell) => cell.textContent)")
    assert cells
    assert cells == [cell["value"].split(" ")[0] for row in data["table"].values() for cell in row if cell["best"]]


def test_bars_are_of_the_chosen_metric(page: Callable[..., Any]) -> None:
    browser = page()
    before = browser.run("document.querySelector('#bars svg').getAttribute('aria-label')")
    browser.run("document.querySelector('input[value=METEOR]').click()")
    after = browser.run("document.querySelector('#bars svg').getAttribute('aria-label')")
    assert (before[:6], after[:7]) == ("CIDEr:", "METEOR:")


def test_curves_are_chosen_hidden_and_told_as_numbers(page: Callable[..., Any]) -> None:
    browser = page()
    browser.run("document.querySelector('#curve-arms button').click()")
    assert count(browser, "#curves path.curve") == 2
    assert browser.run("document.querySelector('#curve-arms button').getAttribute('aria-pressed')") == "false"
    change(browser, "curve", "loss.total")
    change(browser, "curve-scale", "log")
    assert "loss, total" in text(browser, "#curves figcaption")
    assert count(browser, "#curves path.curve") == 2
    numbers = browser.run("[...document.querySelectorAll('#curves tbody tr')].map((line) => line.textContent)")
    assert numbers == ["203" + "3", "401.51.5", "6011"]
    assert "NaN" not in browser.run("document.querySelector('#curves svg').outerHTML")


def test_orders_and_filters_of_the_gallery(page: Callable[..., Any], study: Path) -> None:
    images = gather(study).gallery["images"]
    browser = page()
    change(browser, "per-page", 48)

    def ranked(key: Callable[[list[float]], float]) -> list[str]:
        return [image["name"] for image in sorted(images, key=lambda image: key(image["scores"]["CIDEr"]))]

    change(browser, "arm", 2)
    change(browser, "other", 1)
    orders: dict[str, Callable[[list[float]], float]] = {
        "apart": lambda own: min(own) - max(own),
        "alike": lambda own: max(own) - min(own),
        "gain": lambda own: own[1] - own[2],
        "loss": lambda own: own[2] - own[1],
        "best": lambda own: -own[2],
        "worst": lambda own: own[2],
    }
    for order, key in orders.items():
        change(browser, "order", order)
        assert browser.run(NAMES) == ranked(key), order
        assert browser.run("document.getElementById('other-label').hidden") == (order not in ("gain", "loss"))
    change(browser, "from", 30, "input")
    change(browser, "to", 50, "input")
    within = {image["name"] for image in images if 30 <= image["scores"]["CIDEr"][2] <= 50}
    assert set(browser.run(NAMES)) == within
    assert 0 < len(within) < len(images)
    change(browser, "from", "", "input")
    change(browser, "to", "", "input")
    change(browser, "words", "17.JPG", "input")
    assert browser.run(NAMES) == ["17.jpg"]
    change(browser, "words", "no such words", "input")
    assert text(browser, "#position") == "No image is as wanted."
    change(browser, "words", "", "input")
    change(browser, "per-page", 6)
    browser.run("document.getElementById('next').click()")
    assert text(browser, "#position") == "7–12 of 20"


def test_what_an_arm_saw_lies_over_its_picture(page: Callable[..., Any]) -> None:
    browser = page()
    change(browser, "words", "0.jpg", "input")
    change(browser, "order", "name")
    assert count(browser, ".card:first-child .seen rect.region") == 3
    assert count(browser, ".card:first-child .seen path.edge") == 2
    words = "[...document.querySelectorAll('.card:first-child .seen text')].map((word) => word.textContent)"
    assert browser.run(words) == ["dog", "beach"]
    drawn = "getComputedStyle(document.querySelector('.card .seen text'))"
    assert browser.run(f"[{drawn}.fill, {drawn}.fontSize]") == ["rgb({}, {}, {})".format(*PALETTE[0]), "46px"]
    overlaid = browser.run(
        "(() => { const [a, b] = ['img', 'svg'].map((tag) => document.querySelector(`.card .seen ${tag}`)"
        ".getBoundingClientRect()); return [a.width - b.width, a.height - b.height, a.x - b.x, a.y - b.y]; })()"
    )
    assert [abs(side) < 1 for side in overlaid] == [True] * 4
    assert text(browser, ".scene span") == "sunset"
    for layer, selector in (("regions", "rect.region"), ("edges", "path.edge"), ("words", "text")):
        browser.run(f"document.getElementById('layer-{layer}').click()")
        assert count(browser, f".card:first-child .seen {selector}") == 0
    browser.run("document.querySelector('.card:first-child .said button').click()")  # the floor saw nothing
    assert count(browser, ".card:first-child .seen svg") == 0
    assert (
        browser.run("document.querySelector('.card:first-child .said button').getAttribute('aria-pressed')") == "true"
    )


def test_hostile_captions_are_shown_as_text(page: Callable[..., Any]) -> None:
    browser = page()
    change(browser, "per-page", 48)
    shown = browser.run("[...document.querySelectorAll('.said p')].map((line) => line.textContent)")
    assert set(HOSTILE) - {""} <= set(shown)
    assert count(browser, "#gallery script, #gallery .said img") == 0


def test_report_fits_a_phone_and_has_two_colour_schemes(page: Callable[..., Any]) -> None:
    grounds = set()
    for scheme in ("light", "dark"):
        browser = page(width=390, scheme=scheme)
        assert browser.run("document.documentElement.scrollWidth") <= 390
        grounds.add(browser.run("getComputedStyle(document.body).backgroundColor"))
        assert browser.run("document.querySelector('#bars svg').clientWidth") > 250
    assert len(grounds) == 2


def test_the_keyboard_reaches_every_control_and_each_has_a_name(page: Callable[..., Any]) -> None:
    browser = page()
    nameless = browser.run(
        "[...document.querySelectorAll('input, select')].filter((c) => !c.labels.length || !c.labels[0].textContent)"
        ".map((control) => control.id)"
    )
    assert nameless == []
    assert browser.run(
        "[...document.querySelectorAll('#bars svg, #curves svg')].every((svg) => svg.getAttribute('aria-label'))"
    )
    reached = []
    for _ in range(40):
        for kind in ("keyDown", "keyUp"):
            browser.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
        reached.append(browser.run("document.activeElement.id || document.activeElement.name || 'other'"))
    assert {"metric", "curve", "order", "arm", "from", "words", "layer-edges", "next"} <= set(reached)


def test_single_run_and_study_without_pictures_have_a_page(page: Callable[..., Any], study: Path) -> None:
    browser = page(folder=study / "+graph" / "seed0", images=0)
    assert count(browser, "#summary tbody tr") == 1
    assert browser.run("getComputedStyle(document.getElementById('captions')).display") == "none"
    assert count(browser, "#bars path.rod") == 0


def test_error_trap_of_the_page_catches(browser: Any, study: Path, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(report_page(gather(study)).replace('"bars":', '"no":'))
    browser.open(file, 1200)
    assert browser.run("document.documentElement.dataset.error")
