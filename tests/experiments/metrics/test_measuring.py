import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regioncap.encoders import ClipEncoderConfig
from regioncap.experiments.metrics import MEASURES, Measures, MeasuresConfig, in_print, measure_text
from regioncap.experiments.metrics.measuring import ChairConfig, ClipScoreConfig

CAPTIONS = {"a.jpg": "a dog", "b.jpg": "a cat"}
REFERENCES = {"a.jpg": ["a dog"], "b.jpg": ["a dog"]}


@pytest.fixture
def chair(tmp_path: Path) -> ChairConfig:
    instances, synonyms = tmp_path / "instances.json", tmp_path / "synonyms.txt"
    images = [{"id": number, "file_name": name} for number, name in enumerate(CAPTIONS)]
    instances.write_text(json.dumps({"images": images, "categories": [], "annotations": []}))
    synonyms.write_text("dog\ncat\n")
    return ChairConfig(instances=(instances,), synonyms=synonyms)


def test_without_settings_what_costs_nothing_is_measured_and_the_rest_says_how() -> None:
    measured = MeasuresConfig().build().measure(CAPTIONS, REFERENCES, {})
    assert list(measured.corpus) == ["distinct-1", "distinct-2", "vocabulary", "length", "repetition"]
    assert list(measured.per_image) == list(measured.corpus)
    assert list(measured.missing) == ["CLIPScore", "RefCLIPScore", "CHAIRs", "CHAIRi", "novelty"]
    assert "--measures.clip-score.weights" in measured.missing["CLIPScore"]
    assert "--measures.chair.synonyms" in measured.missing["CHAIRi"]
    assert "--training" in measured.missing["novelty"]


def test_everything_together(chair: ChairConfig, clip_folder: Path, tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in CAPTIONS}
    for number, file in enumerate(files.values()):
        pixels = np.random.default_rng(number).integers(0, 255, (50, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file)
    config = MeasuresConfig(chair=chair, clip_score=ClipScoreConfig(weights=str(clip_folder), batch_size=1))
    measured = config.build(["A dog."]).measure(CAPTIONS, REFERENCES, files)
    assert list(measured.corpus) == list(MEASURES)
    assert all(set(values) == set(CAPTIONS) for values in measured.per_image.values())
    assert (measured.corpus["novelty"], measured.corpus["CHAIRs"], measured.corpus["CHAIRi"]) == (0.5, 0.5, 0.5)
    assert measured.missing == {}
    assert measured.warnings == ()
    own = ClipEncoderConfig(weights=str(clip_folder), trainable_layers=2).build()
    (warning,) = config.build([], own).measure(CAPTIONS, REFERENCES, files).warnings
    assert "CLIPScore IS BY THE VERY CLIP THAT THE CAPTIONER SEES WITH" in warning


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"weights": ""}, "measures.clip_score.weights is empty"),
        ({"batch_size": 0}, "measures.clip_score.batch_size must be at least 1, got 0"),
    ],
)
def test_bad_judges(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ClipScoreConfig(**settings)  # type: ignore[arg-type]


def test_half_of_chair_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"measures\.chair\.instances is given without measures\.chair\.synonyms"):
        ChairConfig(instances=(tmp_path / "i.json",))
    with pytest.raises(ValueError, match=r"measures\.chair\.synonyms is given without measures\.chair\.instances"):
        ChairConfig(synonyms=tmp_path / "s.txt")


def test_a_judge_that_is_not_there_is_named(tmp_path: Path) -> None:
    config = MeasuresConfig(clip_score=ClipScoreConfig(weights=str(tmp_path)))
    with pytest.raises(ValueError, match=tmp_path.name):
        config.build()


def test_joined_in_the_order_of_the_table() -> None:
    joined = Measures.joined(
        [
            Measures(corpus={"length": 3.0}, per_image={"length": {"a": 3.0}}, warnings=("one", "two")),
            Measures(corpus={"CHAIRs": 0.5}, per_image={"CHAIRs": {"a": 1.0}}, missing={"CLIPScore": "why"}),
            Measures(warnings=("two",)),
        ]
    )
    assert list(joined.corpus.items()) == [("CHAIRs", 0.5), ("length", 3.0)]
    assert list(joined.per_image) == ["CHAIRs", "length"]
    assert joined.missing == {"CLIPScore": "why"}
    assert joined.warnings == ("one", "two")


def test_printed() -> None:
    assert measure_text("distinct-1", 0.1234) == "12.3"
    assert measure_text("length", 10.04) == "10.0"
    assert measure_text("vocabulary", 1234.0) == "1,234"
    assert in_print("novelty", 0.5) == 50
    assert in_print("vocabulary", 0.5) == 0.5


def test_pytorch_is_not_imported_where_no_clip_judges() -> None:
    code = (
        "import sys; from regioncap.experiments.metrics import MeasuresConfig; "
        "MeasuresConfig().build(['a']).measure({'a': 'b'}, {'a': ['b']}, {}); print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": ":".join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "False\n"
