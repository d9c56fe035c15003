import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from regioncap.experiments.robustness.figures import draw_curves, draw_worst, worst_images
from regioncap.experiments.robustness.results import Measured, Results

IMAGES = {f"{number}.png": Path(f"{number}.png") for number in range(40)}


def row(subject: str, corruption: str, level: int, factor: float, seed: int) -> Measured:
    """CIDEr of an image is about `factor`, and the same images are the easy ones at every level."""
    drawn = np.random.default_rng(seed).uniform(0.5, 1.5, len(IMAGES))
    cider = dict(zip(IMAGES, (factor * drawn).tolist(), strict=True))
    return Measured(
        subject=subject,
        corruption=corruption,
        level=level,
        strength=level / 10,
        scores={"BLEU-4": 0.1, "CIDEr": float(np.mean([*cider.values()]))},
        cider=cider,
        captions={name: f"a caption of {name} at {corruption} {level}" for name in IMAGES},
    )


def results(**clean: float) -> Results:
    """Each captioner keeps 80 %, then 40 % under occlusion; `b` half of that."""
    measured = []
    for seed, (subject, factor) in enumerate(clean.items()):
        keeps = 0.5 if subject == "b" else 1.0
        measured.append(row(subject, "clean", 0, factor, seed))
        measured += [
            row(subject, "occlusion", level, factor * keeps * kept, seed) for level, kept in ((1, 0.8), (3, 0.4))
        ]
    return Results.of_measured(measured, IMAGES)


def test_kept_is_a_share_of_the_captioners_own_clean_score() -> None:
    made = results(a=0.8, b=0.4)
    for subject, shares in (("a", (1, 0.8, 0.4)), ("b", (1, 0.4, 0.2))):
        kept = [made.kept(one) for one in made.of(subject, "occlusion")]
        assert [one.share for one in kept] == pytest.approx(shares)
        # Every image loses the same share, so whatever is drawn keeps it.
        assert [one.low for one in kept] == pytest.approx(shares)
        assert [one.high for one in kept] == pytest.approx(shares)
    assert made.over_levels("a", "occlusion").share == pytest.approx(0.6)
    assert made.over_first("b", "occlusion").share == pytest.approx(0.3 - 0.6)
    assert made.over_first("b", "occlusion").high == pytest.approx(0.3 - 0.6)
    assert made.over_first("a", "occlusion").share == 0


def test_interval_is_that_of_a_slow_bootstrap() -> None:
    clean, changed = row("a", "clean", 0, 1.0, 1), row("a", "occlusion", 1, 0.5, 2)
    kept = Results.of_measured([clean, changed], IMAGES).kept(changed)
    a, b = (np.array([*one.cider.values()]) for one in (changed, clean))
    drawn = np.random.default_rng(5)
    shares = []
    for _ in range(4000):
        images = drawn.integers(len(IMAGES), size=len(IMAGES))
        shares.append(a[images].mean() / b[images].mean())
    assert kept.share == pytest.approx(a.mean() / b.mean())
    assert [kept.low, kept.high] == pytest.approx(np.percentile(shares, [2.5, 97.5]).tolist(), abs=0.012)
    assert kept.low < kept.share < kept.high


def test_files_say_what_was_measured(tmp_path: Path) -> None:
    made = results(a=0.8, b=0.4)
    made.write(tmp_path)
    stored = json.loads((tmp_path / "robustness.json").read_text())
    assert stored["images"] == 40
    assert [entry["captioner"] for entry in stored["rows"]] == ["a"] * 3 + ["b"] * 3
    strongest = stored["rows"][2]
    assert (strongest["corruption"], strongest["level"], strongest["strength"]) == ("occlusion", 3, 0.3)
    assert strongest["kept"]["share"] == pytest.approx(40)
    assert strongest["scores"]["CIDEr"] == pytest.approx(100 * made.measured[2].scores["CIDEr"])
    assert strongest["per_image"]["7.png"]["caption"] == "a caption of 7.png at occlusion 3"
    assert stored["means"][1]["over_first"]["share"] == pytest.approx(-30)
    table = (tmp_path / "robustness.md").read_text().splitlines()
    clean = f"{100 * made.clean('a').scores['CIDEr']:.1f}"
    assert f"| a | {clean} | 60 (60 to 60) |" in table
    assert "| b | -30 (-30 to -30) |" in table
    assert "| b | CIDEr kept, % | 100 | 40 | 20 |" in table


def test_a_captioner_that_scores_nothing_keeps_no_share(tmp_path: Path) -> None:
    results(a=0.0, b=0.4).write(tmp_path)
    content = (tmp_path / "robustness.json").read_text()
    assert "NaN" not in content
    assert json.loads(content)["rows"][1]["kept"]["share"] is None
    assert "| a | 0.0 | – |" in (tmp_path / "robustness.md").read_text()
    draw_curves(results(a=0.0, b=0.4), tmp_path)


def test_worst_are_the_largest_losses_and_gains_are_none() -> None:
    made = results(a=1.0)
    clean, changed = made.clean("a"), made.of("a", "occlusion")[-1]
    cider = dict(clean.cider) | {"3.png": clean.cider["3.png"] - 0.2, "9.png": clean.cider["9.png"] - 0.3, "5.png": 9.0}
    assert worst_images(made, replace(changed, cider=cider), 5) == ["9.png", "3.png"]
    assert worst_images(made, replace(changed, cider=cider), 1) == ["9.png"]


def test_a_figure_of_worst_pictures_for_every_captioner(tmp_path: Path, scenes_root: Path) -> None:
    files = sorted(scenes_root.rglob("*.png")) + sorted(scenes_root.rglob("*.jpg"))
    made = results(**{"a": 0.8, "hf:some/b": 0.4})
    draw_worst(replace(made, images=dict.fromkeys(IMAGES, files[0])), tmp_path, 2)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["worst_a.png", "worst_hf:some_b.png"]
