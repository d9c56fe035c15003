"""`regioncap data check` on a folder with everything wrong in it, and on one that is well."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from regioncap.experiments.cli import main
from regioncap.experiments.data.check.caption_health import MIN_COUNTS, caption_health
from regioncap.experiments.data.check.contact_sheet import COLUMNS, contact_sheet
from regioncap.experiments.data.check.detect import detect, kind_of
from regioncap.experiments.data.check.findings import findings, tables, verdict
from regioncap.experiments.data.check.health import Health, check_health
from regioncap.experiments.data.check.page import health_page
from regioncap.experiments.data.check.picture_health import open_pictures
from regioncap.experiments.data.check.report import markdown, print_health
from regioncap.experiments.data.coco_captions import CocoConfig
from regioncap.experiments.data.dataset import CaptionedImage, DataError
from regioncap.experiments.data.flickr8k import Flickr8kConfig
from regioncap.experiments.data.flickr30k import Flickr30kConfig

pytestmark = pytest.mark.timeout(120)  # a browser that hangs must not hang the tests
HOSTILE = "</style><script>document.documentElement.dataset.hacked = 1</script><img src=x onerror='hacked()'> | *b*"


@pytest.fixture
def sick(photographs: Path, tmp_path: Path) -> Path:
    """One picture truncated, one gone, one bare, one in train and dev, one twice in train, captions that are none."""
    root = Path(shutil.copytree(photographs, tmp_path / "flickr"))
    images = root / "images"
    shutil.copy(images / "1000_photo.jpg", images / "1006_photo.jpg")
    shutil.copy(images / "1001_photo.jpg", images / "1002_photo.jpg")
    whole = (images / "1003_photo.jpg").read_bytes()
    (images / "1003_photo.jpg").write_bytes(whole[: len(whole) // 2])
    (images / "1004_photo.jpg").unlink()
    captions = root / "captions.txt"
    kept = [line for line in captions.read_text().splitlines() if not line.startswith("1005_photo.jpg")]
    more = ["... !", "Ein Hund auf dem Gras mit einem Ball", "Собака на траве", "see www.example.org", HOSTILE]
    kept += [f"1001_photo.jpg#{9 + k}\t{text}" for k, text in enumerate(more)]
    captions.write_text("\n".join(kept) + "\n")
    return root


@pytest.fixture
def health(sick: Path, tmp_path: Path) -> Health:
    return check_health(Flickr8kConfig(root=sick), tmp_path / "cache", jobs=1)


def test_everything_wrong_is_found(health: Health, sick: Path):
    at = sick / "images"
    assert health.missing == (at / "1004_photo.jpg",)
    assert health.bare == (at / "1005_photo.jpg",)
    assert [picture.path for picture in health.unreadable] == [at / "1003_photo.jpg"]
    assert [[image.name for _, image in group] for group in health.leaks] == [["1000_photo.jpg", "1006_photo.jpg"]]
    assert [[image.name for _, image in group] for group in health.duplicates] == [["1001_photo.jpg", "1002_photo.jpg"]]
    assert [odd.why for odd in health.captions.odd] == [
        "no words",
        "hardly English: words",
        "hardly English: letters",
        "an address",
    ]
    train = health.splits["train"]
    assert health.unlisted == 0
    assert (train.listed, train.there, train.captioned, train.captions, train.fewest, train.most) == (
        6,
        5,
        4,
        30,
        0,
        10,
    )
    said = " ".join(health.problems)
    for part in ("1005_photo.jpg has no caption", "two splits", "truncated", "--unreadable leave-out"):
        assert part in said


def test_a_folder_that_is_well_has_no_problem(photographs: Path, tmp_path: Path):
    health = check_health(Flickr8kConfig(root=photographs), tmp_path, jobs=1)
    assert health.problems == ()
    assert findings(health) == []
    assert verdict(health) == "Fit to train on."
    assert health.unlisted == 0


def test_what_a_study_lacks_is_a_problem(photographs: Path, tmp_path: Path, coco: Path):
    root = Path(shutil.copytree(photographs, tmp_path / "flickr"))
    (root / "dev.txt").unlink()
    (root / "train.txt").unlink()
    health = check_health(Flickr8kConfig(root=root), tmp_path / "cache", jobs=1)
    assert health.unlisted == 9
    assert [problem.split(";")[0] for problem in health.problems] == [
        "there is no train split to learn from",
        "there is no dev or val split to choose on",
    ]
    (problem,) = check_health(CocoConfig(root=coco), tmp_path / "cache", jobs=1).problems
    assert "113,287" in problem
    assert check_health(CocoConfig(root=coco, sizes="any"), tmp_path / "cache", jobs=1).problems == ()


def test_leaks_that_are_left_out_stop_nothing(photographs: Path, tmp_path: Path):
    root = Path(shutil.copytree(photographs, tmp_path / "flickr"))
    shutil.copy(root / "images" / "1000_photo.jpg", root / "images" / "1006_photo.jpg")
    refused = check_health(Flickr8kConfig(root=root), tmp_path / "cache", jobs=1)
    left_out = check_health(Flickr8kConfig(root=root, leaks="leave-out"), tmp_path / "cache", jobs=1)
    assert (len(refused.problems), left_out.problems) == (1, ())
    assert refused.leaks == left_out.leaks != ()


def test_some_of_the_pictures_are_opened_if_that_is_asked_for(photographs: Path, tmp_path: Path):
    source = Flickr8kConfig(root=photographs)
    some = check_health(source, tmp_path, pictures=5, jobs=1)
    other = check_health(source, tmp_path, pictures=5, jobs=1, seed=1)
    assert len(some.opened) == len(other.opened) == 5
    assert some.opened != other.opened
    assert check_health(source, tmp_path, pictures=0).opened == ()


def test_pictures_have_their_own_size(photographs: Path):
    paths = sorted((photographs / "images").iterdir())
    found = open_pictures(paths, 2)
    for picture in found:
        with Image.open(picture.path) as image:
            assert picture.size == image.size
    assert [picture.path for picture in found] == paths


def test_coverage_is_that_of_a_slow_count():
    train = CaptionedImage(name="a", path=Path("a"), captions=("A dog, a dog.", "a dog and 12 cats", "A cat!"))
    dev = CaptionedImage(name="b", path=Path("b"), captions=("a cat and a zebra",))
    found = caption_health({"train": (train,), "dev": (dev,)}, "dev", numbers=True)
    assert found.lengths == {2: 1, 4: 1, 5: 2}
    learned = ["a", "dog", "a", "dog", "a", "dog", "and", "<num>", "cats", "a", "cat"]
    for row, least in zip(found.coverage, MIN_COUNTS, strict=True):
        known = {word for word in learned if learned.count(word) >= least}
        assert row.words == len(known)
        assert row.train == pytest.approx(sum(word in known for word in learned) / len(learned))
        assert row.dev == pytest.approx(sum(word in known for word in ["a", "cat", "and", "a", "zebra"]) / 5)
    assert found.most_frequent[:2] == (("a", 4), ("dog", 3))


def test_repeated_captions_are_counted_as_the_decoder_reads_them():
    image = CaptionedImage(name="a", path=Path("a"), captions=("A dog.", "a dog", "a cat"))
    assert caption_health({"train": (image,)}, None, numbers=False).repeated == 1
    assert all(row.dev is None for row in caption_health({"train": (image,)}, None, numbers=False).coverage)


@pytest.mark.parametrize(
    "caption",
    ["Black dog chasing brown dog", "A café in Zürich", "man", "Two men in tuxedos et al .", "En garde !", "12 dogs"],
)
def test_plain_captions_are_not_odd(caption: str):
    image = CaptionedImage(name="a", path=Path("a"), captions=(caption,))
    assert caption_health({"train": (image,)}, None, numbers=False).odd == ()


# Kinds


def test_kinds_are_told_by_their_files(coco: Path, flickr30k: Path, photographs: Path, scenes_root: Path, mine: Path):
    (mine / "captions.json").write_text(json.dumps({"0.jpg": "A dog"}))
    found = {kind_of(detect(root)) for root in (coco, flickr30k, photographs, scenes_root, mine)}
    assert found == {"coco", "flickr30k", "flickr8k", "scenes", "folder"}
    (coco / "dataset_coco.json").unlink()
    (flickr30k / "dataset_flickr30k.json").unlink()
    assert (detect(coco), detect(flickr30k)) == (
        CocoConfig(root=coco, splits="paper"),
        Flickr30kConfig(root=flickr30k, splits="paper"),
    )
    with pytest.raises(DataError, match=r"holds no data set that is recognised by its files.*--data scenes, flickr8k"):
        detect(mine / "images")
    with pytest.raises(DataError, match="does not exist"):
        detect(mine / "no")


def test_scenes_are_checked_too(scenes_root: Path, tmp_path: Path):
    health = check_health(detect(scenes_root), tmp_path, jobs=1)
    assert health.problems == ()
    assert {split: own.listed for split, own in health.splits.items()} == {"train": 24, "val": 8, "test": 4}


# Reports


class Elements(HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_says_it_all_and_nothing_in_it_can_become_code(health: Health):
    image = health.images["train"][1]
    hostile = CaptionedImage(name=HOSTILE, path=image.path, captions=image.captions)
    page = health_page(
        Health(**{name: getattr(health, name) for name in Health.__dataclass_fields__} | {"bare": (Path(HOSTILE),)}),
        contact_sheet({"train": (hostile,)}),
    )
    elements = Elements(page)
    assert "script" not in elements.tags
    assert elements.tags.count("img") == 1
    assert HOSTILE in elements.text
    assert "default-src 'none'" in page
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!data:)""", re.sub(r"&lt;.*?&gt;", "", page))
    for table in tables(health):
        assert table.title in elements.text
    for problem in health.problems:
        assert problem in elements.text
    assert "{{" not in page


def test_the_page_fits_a_screen_of_any_width(health: Health, browser: Any, tmp_path: Path):
    file = tmp_path / "report.html"
    file.write_text(health_page(health, contact_sheet(health.images)), encoding="utf-8")
    for width in (360, 800, 1400):
        browser.open(file, width)
        assert browser.run("document.documentElement.scrollWidth") <= width
        assert browser.run("document.querySelector('img').complete && document.querySelector('img').naturalWidth") > 0
        assert browser.run("document.documentElement.dataset.hacked") is None
    bars = browser.run("document.querySelectorAll('svg rect').length")
    assert bars == max(health.captions.lengths) - min(health.captions.lengths) + 1
    heights = browser.run("[...document.querySelectorAll('svg rect')].map((bar) => bar.height.baseVal.value)")
    assert max(heights) == 200


def test_markdown_has_every_table_and_finding(health: Health):
    text = markdown(health, "contact_sheet.jpg")
    for title in [table.title for table in tables(health)] + [finding.title for finding in findings(health)]:
        assert f"## {title}" in text
    assert "| train | 6 | 5 | 4 | 30 | 0 to 10 |" in text
    assert "![contact sheet](contact_sheet.jpg)" in text
    assert "   0 #" in text  # one caption without a word
    assert "<script>" not in text


def test_the_terminal_shows_problems_and_the_verdict(health: Health):
    out = StringIO()
    print_health(health, Console(file=out, width=160))
    text = out.getvalue()
    assert text.count("stops training: ") == len(health.problems) == 3
    assert "Not fit to train on: 3 problems" in text


def test_the_sheet_shows_pictures_of_every_split_and_grey_for_those_that_are_none(health: Health):
    sheet = contact_sheet(health.images, count=12)
    assert sheet.width > COLUMNS * 220
    assert contact_sheet(health.images, count=12, seed=0).tobytes() == sheet.tobytes()
    assert contact_sheet(health.images, count=12, seed=3).tobytes() != sheet.tobytes()
    truncated = [image for image in health.images["train"] if image.name == "1003_photo.jpg"]
    grey = contact_sheet({"train": truncated})
    assert grey.getpixel((30, 30)) == (0xD4, 0xD6, 0xD8)
    assert contact_sheet({}).size[0] == sheet.width


# The command


@dataclass(frozen=True, kw_only=True)
class Outcome:
    status: int
    out: str
    err: str


@pytest.fixture
def check(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Outcome]:
    """`regioncap data ...`, without what studies need to be imported."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("REGIONCAP_CACHE", str(tmp_path / "cache"))

    def run(*words: object) -> Outcome:
        try:
            status = main(["data", *map(str, words)])
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 0
        said = capsys.readouterr()
        return Outcome(status=status, out=said.out, err=said.err)

    return run


def test_the_command_writes_the_report_and_ends_with_its_verdict(
    check: Callable[..., Outcome], sick: Path, photographs: Path, tmp_path: Path
):
    out = tmp_path / "out"
    done = check("check", photographs, "--out", out, "--jobs", 1)
    assert (done.status, done.err) == (0, "")
    assert "Fit to train on." in done.out
    assert sorted(file.name for file in out.iterdir()) == ["contact_sheet.jpg", "report.html", "report.md"]
    with Image.open(out / "contact_sheet.jpg") as sheet:
        assert sheet.width > COLUMNS * 220
    done = check("check", sick, "--jobs", 1)
    assert done.status == 1
    assert "Not fit to train on" in done.out


def test_the_command_takes_fields_of_the_kind(check: Callable[..., Outcome], coco: Path):
    words = ("check", coco, "--jobs", 1)
    assert check(*words).status == 1
    assert check(*words, "--data.sizes", "any").status == 0
    done = check(*words, "--data", "coco", "--data.splits", "paper", "--data.sizes", "any", "--data.dev-images", 2)
    assert done.status == 0
    assert "coco paper (coco)" in done.out


def test_what_cannot_be_read_at_all_is_one_line(check: Callable[..., Outcome], tmp_path: Path, mine: Path):
    for words, said in (
        ((tmp_path / "no",), "does not exist"),
        ((mine,), "holds no data set that is recognised"),
        ((mine, "--data", "flickr30k"), "stops training"),
        ((mine, "--data", "imagenet"), "--data wants scenes, flickr8k, flickr30k, coco, folder, got 'imagenet'"),
    ):
        done = check("check", *words)
        assert done.status == 1
        (line,) = done.err.splitlines()
        assert said in line
    assert check("mend").status == 2
    assert check("--help").status == 0
    assert "regioncap data check" in check().out


@pytest.mark.parametrize("flag", ["--pictures", "--jobs", "--sheet"])
def test_numbers_out_of_range_are_refused(check: Callable[..., Outcome], photographs: Path, flag: str):
    done = check("check", photographs, flag, -1)
    assert done.status != 0
    assert "at least" in done.err
