from pathlib import Path

import pytest
from PIL import Image

from regioncap.experiments.explaining.evidence import CAPTION, Evidence, SaidWord, SeenRegion
from regioncap.experiments.explaining.figure import draw_evidence


def evidence(regions: int, words: int) -> Evidence:
    return Evidence(
        caption=" ".join(["word"] * words),
        scene=(("beach", 0.7), ("sunny", 0.3)) if words else (),
        keywords=(("dog", 1.2), ("red", -40.0)) if words else (),
        keywords_are="log-odds",
        gate={"mean": 0.5, "closed": 0.1},
        regions=tuple(
            SeenRegion(
                number=at + 1, box=(0.02 * at, 0.1, 0.02 * at + 0.2, 0.9), words=(("dog", 0.9),) if at % 2 else (),
                gate=0.4 if at % 2 else None, attention=0.01 * at if at % 3 else None,
            )
            for at in range(regions)
        ),
        words=tuple(
            SaidWord(
                word="word", probability=0.5, attention={"fused": 0.2, "regions": 0.3, CAPTION: 0.5},
                region=1 if regions else None, gate=0.5, bias=-0.2,
            )
            for _ in range(words)
        ),
    )  # fmt: skip


@pytest.mark.parametrize(("regions", "words"), [(0, 0), (1, 1), (36, 30)])
@pytest.mark.parametrize("size", [(64, 300), (500, 90)])
def test_any_evidence_can_be_drawn(tmp_path: Path, regions: int, words: int, size: tuple[int, int]) -> None:
    path = tmp_path / "new" / "a.png"
    draw_evidence(Image.new("RGB", size, "navy"), evidence(regions, words), path)
    with Image.open(path) as picture:
        assert min(picture.size) > 500
    assert list(path.parent.iterdir()) == [path]


def test_what_was_chosen_is_drawn(tmp_path: Path) -> None:
    photo = Image.new("RGB", (200, 200), "navy")
    drawn = []
    for name, shown in (("a", evidence(3, 4)), ("b", evidence(3, 4)), ("c", evidence(2, 4)), ("d", evidence(3, 5))):
        draw_evidence(photo, shown, tmp_path / f"{name}.png")
        drawn.append(Image.open(tmp_path / f"{name}.png").convert("RGB").tobytes())
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]
    assert drawn[0] != drawn[3]
