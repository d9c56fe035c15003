"""What SPICE needs beside its wheel, CoreNLP 3.6.0, and where it is looked for.

Of the models (378 MB) SPICE needs 14 files: the parser's grammar, and the word lists of its rules for pronouns. As
published it also loads the entity models (70 MB) and the rules for dates, but nothing in it looks at what they find,
and `java_spice` leaves them out. A folder for SPICE holds the two jars under their published names; the models' jar may
be the published one or one with no more than these files.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from regioncap.experiments.cache import cache_folder

CODE_JAR = "stanford-corenlp-3.6.0.jar"
MODELS_JAR = "stanford-corenlp-3.6.0-models.jar"
REPOSITORY_PATH = "edu/stanford/nlp/stanford-corenlp/3.6.0"
"""Where a Maven repository keeps both jars."""

GET_SPICE = (
    f"SPICE needs two jars of CoreNLP 3.6.0 that no wheel holds: `regioncap metrics setup-spice --from DIR_OR_URL` "
    "gets them from a Maven repository's address (about 17 MB) or from a folder, for every later command; "
    f"a folder that holds {CODE_JAR} and {MODELS_JAR} may also be named with --metrics.spice-folder or the environment "
    "variable REGIONCAP_SPICE"
)
"""What to tell whoever misses SPICE."""


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A file as it was published: its size in bytes and its SHA-256 tell it from any other."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SpiceFiles:
    """Everything that a folder for SPICE is made of."""

    code: PublishedFile
    members: tuple[PublishedFile, ...]
    """Taken from the models' jar."""


_MODELS = "edu/stanford/nlp/models"

SPICE_FILES = SpiceFiles(
    code=PublishedFile(CODE_JAR, 7270741, "d341d5863276f55782c5ef73212222d6b3b48e02ae1951ab6de7618d28b12742"),
    members=tuple(
        PublishedFile(f"{_MODELS}/{name}", size, sha256)
        for name, size, sha256 in (
            ("dcoref/animate.unigrams.txt", 312302, "f098d0dec513de3729b4274d16bb0cc35c4bf2b801219885ee3c7e7fbbf56374"),
            ("dcoref/countries", 3940, "aca387cfc0033623bcdf6d0d876e850abcda0d88cdef58ea6dc6dccf7caaae87"),
            ("dcoref/demonyms.txt", 11222, "59d6f108e8d9d7511f386a76c8aacf1ae67a8a1d0635d91b82fdb27da15ac5f2"),
            ("dcoref/female.unigrams.txt", 43972, "4fa5c1129926d60c68676e649a1690039ff2c85b9ad884d6dd6b22368f7602c0"),
            ("dcoref/gender.map.ser.gz", 6505394, "5b186bd60d88cdf7cb6fda51ec6bcb24975d503e155283b1b1e49f30b393ae76"),
            (
                "dcoref/inanimate.unigrams.txt",
                678395,
                "3e4bcd3c30f80138bafb4c7995b358f84d698632246b552286cad629592b3754",
            ),
            ("dcoref/male.unigrams.txt", 334475, "e35e709b4554c3a28ce406a765226a30e2247bb7a7816bc7fe3018c5939586f8"),
            (
                "dcoref/namegender.combine.txt",
                196640,
                "118d83bfbdbfdf50100063a7ee60ed69eb78df91a5f3d5b182a886558c4ede8c",
            ),
            ("dcoref/neutral.unigrams.txt", 254147, "1aa4883acb54fa0fd1bfa71234484549fda1a9d129d38bb76c0006146f7e7ee3"),
            ("dcoref/plural.unigrams.txt", 88748, "695a15678659e74de31e0cc3d0dae5a504e43b2407a23cda7f2ce78ab4ebdd55"),
            (
                "dcoref/singular.unigrams.txt",
                543846,
                "fd80ed3695783b55db47207b7f20cbe2a0897696cfcda4f11ffae34b92f2ea6d",
            ),
            ("dcoref/state-abbreviations.txt", 932, "390bf299f876b557ecf7d383059b77957466b172e1c6d953b0479594d7424430"),
            ("dcoref/statesandprovinces", 1284, "00cd22f600bb20c7906e754322486968b8d76d8905b02e634a2142c8083d2484"),
            (
                "lexparser/englishPCFG.ser.gz",
                1883795,
                "ed674cce7311f76c018806e61cdb045e219258ee30014da4e3e686b9230ebea9",
            ),
        )
    ),
)


def spice_jars(folder: Path) -> list[Path]:
    """The two CoreNLP jars that SPICE needs in a folder."""
    return [folder / CODE_JAR, folder / MODELS_JAR]


def default_spice_folder() -> Path:
    """The folder that `regioncap metrics setup-spice` makes unless told another."""
    return cache_folder() / "spice-models"


def find_spice_folder(named: Path | None) -> Path | None:
    """The folder to run SPICE from: `named`, else REGIONCAP_SPICE, else what setup-spice made; None without all three.

    Looks only whether the jars are there. Raises ValueError if a folder is named, either way, that lacks one: whoever
    names a folder wants SPICE from it and no other.
    """
    from_environment = os.environ.get("REGIONCAP_SPICE")
    folder = named or (Path(from_environment).expanduser() if from_environment else None)
    if folder is None:
        folder = default_spice_folder()
        return None if missing_jars(folder) else folder
    missing = missing_jars(folder)
    if missing:
        who = "metrics.spice_folder" if named else "REGIONCAP_SPICE"
        raise ValueError(f"{who} names {folder}, which does not hold {' and '.join(missing)}. {GET_SPICE}")
    return folder


def missing_jars(folder: Path) -> list[str]:
    """Names of the jars for SPICE that a folder lacks; none are missing from one that is complete."""
    return [jar.name for jar in spice_jars(folder) if not jar.is_file()]
