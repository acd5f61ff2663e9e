"""Files of entropy-coded weights: small, the same network, and nothing else than a writer makes is read."""

from __future__ import annotations

import bz2
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from subbyte.artifact import Artifact, load, save
from subbyte.artifact.compact import MAX_REST
from subbyte.artifact.file import serialize, version_of
from subbyte.errors import ArtifactError
from subbyte.quant.entropy import fitted, histogram
from tests.fuzz.document import Document, Pairs, get
from tests.fuzz.graphs import seeds
from tests.unit.artifact.compare import same_artifact
from tests.unit.artifact.test_pattern_files import layer_of

SEED = 4


def network(text: str, codes: np.ndarray) -> Artifact:
    """A linear layer of these codes [O, I], to be stored compactly."""
    return replace(layer_of(text, codes), coding="entropy")


def crowded(outputs: int, inputs: int) -> np.ndarray:
    """8-bit codes, most of them near zero."""
    print(f"seed {SEED}")
    values = np.rint(np.random.default_rng(SEED).normal(size=(outputs, inputs)) * 1.5)
    return values.astype(np.int8).view(np.uint8)


def written(artifact: Artifact) -> Document:
    return Document.split(b"".join(serialize(artifact)))


def part(document: Document, name: str) -> bytes:
    begin, end = get(get(document.header, name), "data_offsets")
    return bytes(document.body[begin:end])


def put(document: Document, **parts: bytes) -> Document:
    """With other bytes in place of tensors."""
    old = {name: part(document, name) for name, _ in document.header}
    document.header[:], document.body[:] = [], b""
    for name, data in (old | parts).items():
        begin = len(document.body)
        document.body += data
        entry = Pairs([["dtype", "U8"], ["shape", [len(data)]], ["data_offsets", [begin, begin + len(data)]]])
        document.header.append([name, entry])
    return document


def test_it_takes_what_the_codes_entropy_is(tmp_path: Path) -> None:
    codes = crowded(128, 256)
    artifact = network("int8", codes)
    save(tmp_path / "a.subbyte", artifact)
    assert same_artifact(load(tmp_path / "a.subbyte"), artifact)
    # a word and a state at most beyond what the tables say, and 2**-4 in a state's growth (test_rans.py)
    bits = fitted(histogram(codes, 8)).bits
    assert bits / 8 < len(part(written(artifact), "coded")) < bits / 8 + codes.size * 0.0875 / 8 + 8 * 4
    fixed = len(b"".join(serialize(replace(artifact, coding="fixed"))))
    assert len((tmp_path / "a.subbyte").read_bytes()) < 0.5 * fixed


def test_narrow_code_books_and_patterns_too(tmp_path: Path) -> None:
    """Dense weights of all widths are coded; what has a pattern, or is float, stands in the rest."""
    for name in ("mixed", "quantized2", "quantized3", "sparse", "real"):
        artifact = replace(seeds()[name], coding="entropy")
        save(tmp_path / "a.subbyte", artifact)
        loaded = load(tmp_path / "a.subbyte")
        assert same_artifact(loaded, artifact if version_of(artifact) == "4" else seeds()[name])
    assert version_of(replace(seeds()["real"], coding="entropy")) < "4"  # there is nothing to code


def test_too_much_beside_codes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subbyte.artifact.compact.MAX_REST", 63)
    # 8 scales and biases of 4 bytes
    with pytest.raises(
        ArtifactError, match="64 bytes beside coded weights, at most 63 are supported; use cod"
    ):
        save(tmp_path / "a.subbyte", network("int8", crowded(8, 8)))


Change = Callable[[Document], object]


def graph(key: str, value: object) -> Change:
    """Another value of a field of the graph; None: it is left out."""

    def change(document: Document) -> None:
        kept = [[name, old] for name, old in document.graph if name != key]
        document.graph[:] = kept + ([] if value is None else [[key, value]])

    return change


def rest(change: Callable[[bytes], bytes]) -> Change:
    return lambda document: put(document, rest=bz2.compress(change(bz2.decompress(part(document, "rest")))))


def coded(change: Callable[[bytes], bytes]) -> Change:
    return lambda document: put(document, coded=change(part(document, "coded")))


def without_stream(document: Document) -> None:
    """The rest alone."""
    found = part(document, "rest")
    document.header[:] = [entry for entry in document.header if entry[0] == "rest"]
    get(document.header, "rest")[:] = Pairs(
        [["dtype", "U8"], ["shape", [len(found)]], ["data_offsets", [0, len(found)]]]
    )
    document.body[:] = found


def version(document: Document) -> None:
    document.fields[:] = [[key, "3" if key == "version" else value] for key, value in document.fields]


TABLE = [126, 1024, 2048, 1024]  # symbols 126, 127, 128
BAD: dict[str, tuple[Change, str]] = {
    "no tables": (graph("tables", None), "needs tables and rest, or neither"),
    "no rest": (graph("rest", None), "needs tables and rest, or neither"),
    "neither": (lambda d: (graph("tables", None)(d), graph("rest", None)(d)), "it has the tensors"),
    "an empty list": (graph("tables", []), "tables"),
    "33 tables": (graph("tables", [TABLE] * 33), "tables"),
    "an empty table": (graph("tables", [[5]]), "tables"),
    "a sum of 4095": (graph("tables", [[126, 1023, 2048, 1024]]), "table of frequencies"),
    "a sum of 4097": (graph("tables", [[126, 1025, 2048, 1024]]), "table of frequencies"),
    "a negative frequency": (graph("tables", [[126, 4097, -1]]), "table of frequencies"),
    "a huge one": (graph("tables", [[126, 1 << 40]]), "table of frequencies"),
    "a zero at the end": (graph("tables", [[126, 4096, 0]]), "table of frequencies"),
    "beyond 255": (graph("tables", [[254, 1024, 2048, 1024]]), "table of frequencies"),
    "before 0": (graph("tables", [[-1, 1024, 2048, 1024]]), "table of frequencies"),
    "no whole number": (graph("tables", [[126, 1024.0, 2048, 1024]]), "tables"),
    "more numbers": (graph("rest", [0, 0, 0, 0, 1 << 40]), "its graph needs"),
    "four dtypes": (graph("rest", [0, 8, 8, 0]), "rest"),
    "another table": (rest(lambda raw: raw[:-1] + b"\7"), "a table that it has not"),
    "a byte less": (rest(lambda raw: raw[:-1]), "truncated, or more"),
    "a byte more": (rest(lambda raw: raw + b"\0"), "truncated, or more"),
    "no bzip2": (lambda d: put(d, rest=b"BZh9 no"), "cannot be decompressed"),
    "two streams": (lambda d: put(d, rest=part(d, "rest") + bz2.compress(b"a")), "truncated, or more"),
    "a word less": (coded(lambda raw: raw[:-2]), "coded weights are"),
    "a word more": (coded(lambda raw: raw + b"\0\0"), "coded weights are damaged"),
    "half a word": (coded(lambda raw: raw + b"\0"), "coded weights are truncated"),
    "another state": (coded(lambda raw: bytes([raw[0] ^ 1]) + raw[1:]), "coded weights are"),
    "no stream": (without_stream, "it has the tensors"),
    "an older version": (version, "says format version '3', but its graph is of version '4'"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_no_writer_makes_is_refused(case: str, tmp_path: Path) -> None:
    document = written(network("int8", crowded(8, 40)))
    assert len(get(document.graph, "tables")) == 1
    change, message = BAD[case]
    change(document)
    (tmp_path / "a.subbyte").write_bytes(document.join())
    with pytest.raises(ArtifactError, match=message):
        load(tmp_path / "a.subbyte")


def test_tables_without_weights_are_refused(tmp_path: Path) -> None:
    document = Document.split(b"".join(serialize(seeds()["real"])))
    stream = bytes([0, 0, 1, 0])  # of no code: a state where it begins
    document.header[:], document.body[:] = [], b""
    put(document, coded=stream, rest=bz2.compress(b""))
    graph("tables", [TABLE])(document)
    graph("rest", [0, 0, 0, 0, 0])(document)
    for node in get(document.graph, "nodes"):
        node[:] = [[key, value] for key, value in node if key != "plain"]
    document.fields[:] = [[key, "4" if key == "version" else value] for key, value in document.fields]
    (tmp_path / "a.subbyte").write_bytes(document.join())
    with pytest.raises(ArtifactError, match="no weight whose codes are coded"):
        load(tmp_path / "a.subbyte")


def test_codes_beyond_their_bits_are_refused(tmp_path: Path) -> None:
    """A table of a 4-bit weight whose symbols go to 16: the stream says what 8 bits could."""
    document = written(network("int4", np.full((4, 8), 7, np.uint8)))
    assert get(document.graph, "tables") == [[15, 4096]]
    graph("tables", [[16, 4096]])(document)
    (tmp_path / "a.subbyte").write_bytes(document.join())
    with pytest.raises(ArtifactError, match="does not fit in 4 bits"):
        load(tmp_path / "a.subbyte")


def test_a_bomb_is_refused_before_it_grows(tmp_path: Path) -> None:
    """Small files that claim much: a hundred million equal codes, and a rest of more than its limit."""
    document = written(network("int8", np.full((8, 8), 3, np.uint8)))
    (node,) = (node for node in get(document.graph, "nodes") if any(key == "packed" for key, _ in node))
    get(get(node, "packed"), "weight")[:] = [["bits", 8], ["shape", [8, 1 << 24]]]
    (tmp_path / "a.subbyte").write_bytes(document.join())
    with pytest.raises(ArtifactError, match="coded weights are truncated"):
        load(tmp_path / "a.subbyte")
    channels = MAX_REST // 8 + 1
    get(get(node, "packed"), "weight")[:] = [["bits", 8], ["shape", [channels, 1]]]
    graph("rest", [0, channels, 8, 0, 0])(document)
    (tmp_path / "a.subbyte").write_bytes(document.join())
    with pytest.raises(ArtifactError, match=r"needs|bytes beside coded weights"):
        load(tmp_path / "a.subbyte")
