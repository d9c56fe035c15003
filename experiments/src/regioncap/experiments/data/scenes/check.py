"""Whether `scenes` is a fair task: what gives the pair away, and what each kind of mistake costs. On val alone.

    python -m regioncap.experiments.data.scenes.check

No picture is drawn; facts and captions follow from the config. `docs/scenes.md` explains the figures.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from random import Random
from statistics import mean

from pycocoevalcap.cider.cider import Cider

from regioncap.experiments.data.scenes.generate import ScenesConfig, captions_of, scenes_of
from regioncap.experiments.data.scenes.language import LIGHT_PHRASES, PATTERN_WORDS, PLACE_PHRASES, caption
from regioncap.experiments.data.scenes.shortcuts import attribute_guesses, pair_shares, relation_guesses
from regioncap.experiments.data.scenes.world import (
    COLOURS,
    LIGHTS,
    NEARBY,
    OPPOSITE,
    PATTERNS,
    PLACES,
    RELATIONS,
    Relation,
    Scene,
    neighbours,
)


def main() -> None:
    """Print the tables of `docs/scenes.md`."""
    for title, rows in tables(ScenesConfig()).items():
        print(f"\n{title}")
        for name, value in rows.items():
            print(f"  {name:<52}{value:>8.3f}" if isinstance(value, float) else f"  {name:<52}{value:>8}")


def tables(config: ScenesConfig) -> dict[str, Mapping[str, float | int]]:
    """All figures, by the table's title. Whatever is learned, is learned on train; all is asked of val."""
    train, val = tuple(scenes_of(config, "train")), tuple(scenes_of(config, "val"))
    spoken, references = tuple(captions_of(config, "train")), tuple(captions_of(config, "val"))
    return {
        "Holds the captioned pair, share of val": pair_shares(val),
        "Guesses the relation, share of val": relation_guesses(train, val),
        "Guesses an attribute from the class, share of val": attribute_guesses(train, val),
        "CIDEr on val of a caption that is": caption_scores(val, references, spoken),
        "Main relations of val": Counter(scene.main.relation for scene in val),
        "Wording of train": wording(spoken),
    }


def caption_scores(
    scenes: Sequence[Scene], references: Sequence[tuple[str, ...]], training: Sequence[tuple[str, ...]]
) -> dict[str, float]:
    """CIDEr against the five references of one fresh caption per scene: right, or wrong in one respect."""
    wrong: dict[str, Callable[[Scene, Random], Scene]] = {
        "right": lambda scene, rng: scene,
        "right but for the opposite relation": lambda scene, rng: _related(scene, OPPOSITE[scene.main.relation]),
        "right but for a random relation": lambda scene, rng: _related(scene, rng.choice(RELATIONS)),
        "right but for the landmark: another near prop": _other_landmark,
        "right but for the subject: another actor": _other_subject,
        "right but for random attributes": _repainted,
        "right but for a random place and light": lambda scene, rng: replace(
            scene, place=rng.choice(PLACES), light=rng.choice(LIGHTS)
        ),
    }
    said = {
        name: [caption(change(scene, Random(f"{i}/change")), Random(f"{i}/check")) for i, scene in enumerate(scenes)]
        for name, change in wrong.items()
    }
    said["right, attributes left out"] = [_without_attributes(text) for text in said["right"]]
    said["right, place and light left out"] = [_without_surroundings(text) for text in said["right"]]
    common = Counter(text for texts in training for text in texts).most_common(1)[0][0]
    said["the commonest training caption"] = [common] * len(scenes)
    rng = Random("floor")
    said["a random training caption"] = [rng.choice(rng.choice(training)) for _ in scenes]
    scores = {name: _cider(references, texts) for name, texts in said.items()}
    alone = mean(
        _cider([five[:n] + five[n + 1 :] for five in references], [five[n] for five in references]) for n in range(5)
    )
    return scores | {"a reference, against the other four": alone}


def wording(training: Sequence[tuple[str, ...]]) -> dict[str, float | int]:
    """How varied the training captions are."""
    texts = [text for five in training for text in five]
    lengths = [len(text.split()) for text in texts]
    return {
        "different words": len({word for text in texts for word in text.split()}),
        "words in a caption, mean": float(mean(lengths)),
        "words in a caption, least": min(lengths),
        "words in a caption, most": max(lengths),
        "captions that occur once, share": float(mean(n == 1 for n in Counter(texts).values())),
        "five different captions for a picture, share": float(mean(len(set(five)) == 5 for five in training)),
    }


def _related(scene: Scene, relation: Relation) -> Scene:
    return replace(scene, main=replace(scene.main, relation=relation))


def _other_landmark(scene: Scene, rng: Random) -> Scene:
    """Another prop near the subject in the landmark's stead, where there is one."""
    near = neighbours(scene.things, scene.main.subject)[: 2 * NEARBY]
    props = [i for i in near if not scene.things[i].acts and i != scene.main.landmark]
    return replace(scene, main=replace(scene.main, landmark=rng.choice(props))) if props else scene


def _other_subject(scene: Scene, rng: Random) -> Scene:
    actors = [i for i, thing in enumerate(scene.things) if thing.acts and i != scene.main.subject]
    return replace(scene, main=replace(scene.main, subject=rng.choice(actors)))


def _repainted(scene: Scene, rng: Random) -> Scene:
    colours = tuple(COLOURS)
    things = (replace(t, colour=rng.choice(colours), pattern=rng.choice(PATTERNS)) for t in scene.things)
    return replace(scene, things=tuple(things))


def _without_attributes(text: str) -> str:
    dropped = {*COLOURS, *(word for words in PATTERN_WORDS.values() for word in words)}
    # No noun begins with a vowel, so with no colour before it none takes "an".
    return " ".join("a" if word == "an" else word for word in text.split() if word not in dropped)


def _without_surroundings(text: str) -> str:
    for phrases in (*PLACE_PHRASES.values(), *LIGHT_PHRASES.values()):
        for phrase in phrases:
            text = text.replace(f" {phrase}", "")
    return text


def _cider(references: Sequence[Sequence[str]], candidates: Sequence[str]) -> float:
    """Corpus CIDEr on words as they stand: the captions hold no capitals and no punctuation."""
    said = {i: [text] for i, text in enumerate(candidates)}
    score, _ = Cider().compute_score({i: list(texts) for i, texts in enumerate(references)}, said)
    return float(score)


if __name__ == "__main__":
    main()
