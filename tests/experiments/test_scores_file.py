import json
from pathlib import Path

import pytest

from regioncap.experiments.data.dataset import CaptionedImage
from regioncap.experiments.metrics import Scores
from regioncap.experiments.scores_file import read_scores, write_scores

SCORES = Scores(
    corpus={"BLEU-4": 0.123456789, "CIDEr": 0.75},
    per_image={"b.jpg": {"BLEU-4": 0.1, "CIDEr": 0.5}, "a.jpg": {"BLEU-4": 0.2, "CIDEr": 1.0}},
    missing={"SPICE": "no jars"},
    warnings=("small",),
)
CAPTIONS = {"b.jpg": "a dog", "a.jpg": 'says "Café"'}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_scores(tmp_path / "s.json", SCORES, CAPTIONS)
    stored = read_scores(tmp_path / "s.json")
    assert stored.scores.corpus == pytest.approx(dict(SCORES.corpus))
    assert {name: dict(row) for name, row in stored.scores.per_image.items()} == {
        name: pytest.approx(dict(row)) for name, row in SCORES.per_image.items()
    }
    assert list(stored.scores.per_image) == ["b.jpg", "a.jpg"]
    assert (stored.scores.missing, stored.scores.warnings) == (SCORES.missing, SCORES.warnings)
    assert (stored.captions, stored.images) == (CAPTIONS, ())


def test_file_that_stands_alone_tells_its_images(tmp_path: Path) -> None:
    images = [CaptionedImage(name=name, path=tmp_path / name, captions=("one", "zwei ü")) for name in CAPTIONS]
    write_scores(tmp_path / "s.json", SCORES, CAPTIONS, images)
    assert read_scores(tmp_path / "s.json").images == tuple(images)


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"corpus": {}}',
        '{"corpus": {"CIDEr": 1}, "missing": {}, "warnings": [], "per_image": {"a": {}}}',
        json.dumps({"corpus": {}, "missing": {}, "warnings": [], "per_image": {}, "images": [{"name": "a"}]}),
    ],
)
def test_other_files_are_refused_by_name(tmp_path: Path, content: str) -> None:
    (tmp_path / "s.json").write_text(content)
    with pytest.raises(ValueError, match=r"s\.json holds no scores of RegionCap .*regioncap score"):
        read_scores(tmp_path / "s.json")
