"""The page about sensitivity says what the result files say."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import sensitivity as page
from subbyte.analysis.degradation import Degradation
from subbyte.analysis.table import Kind, Row, Sensitivity
from subbyte.errors import InputError
from subbyte.quant import activation_format, weight_format


def row(kind: Kind, name: str, component: str, stage: str, bits: int, kl: float) -> Row:
    return Row(
        kind=kind,
        nodes=(name,),
        format=weight_format(bits) if kind == "weights" else activation_format(bits),
        component=component,
        stage=stage,
        elements=1_000_000,
        degradation=Degradation(kl=0.5 + kl, mse=0.1, agreement=0.9),
        block_sqnr=20.0 - bits,
    )


def table(kind: Kind) -> Sensitivity:
    layers = [
        ("stem", "stem", "stem", 1.0),
        ("a", "expand", "1", 0.01),
        ("b", "project", "1", 0.0),
        ("c", "expand", "1", 0.03),
        ("d", "project", "1", 0.00018),
    ]
    rows = [
        row(kind, name, component, stage, bits, kl if bits == 4 else 2 * kl)
        for name, component, stage, kl in layers
        for bits in (4, 3, 2)
    ]
    base = Degradation(kl=0.5, mse=0.1, agreement=0.9)
    return Sensitivity(key="k", model="m", images=3, base=base, rows=rows)


def test_tables() -> None:
    lines = page.tables(table("weights"), table("activations"))
    # mean and worst of 0.01 and 0.03; a million weights save half a megabyte at 4 bits: 0.04 / 1 MB
    cells = "0.0200 | 0.0300 | 0.0400 | 0.0600 | 0.0400 | 0.0600 | 0.040"
    assert f"| MBConv expansion | 2 | 2,000,000 | {cells} |" in lines
    assert "| MBConv expansion | 2 | 2,000,000 | 0.0200 | 0.0300 | 16.0 |" in lines
    assert any(line.startswith("| 1 | 4 | 4,000,000 | 0.0100 |") for line in lines)
    assert "| MBConv expansion | 0.0100 | 0.0300 | 0.0200 | 0.0600 | 0.0200 | 0.0600 |" in lines
    assert any("< 0.0001 | 0.0002 |" in line for line in lines if line.startswith("| MBConv projection"))


def test_the_image_has_a_cell_for_each_layer_in_its_block() -> None:
    drawing = ElementTree.fromstring(page.image(table("weights"), table("activations")))
    space = "{http://www.w3.org/2000/svg}"
    cells = [rect for rect in drawing.iter(f"{space}rect") if rect.get("width") == f"{page.CELL - 1:.1f}"]
    assert len(cells) == 4 * 5  # three widths of weights, one of activations
    by_title = {rect.find(f"{space}title").text: rect for rect in cells}  # type: ignore[union-attr]
    place = {title[0]: rect.get("x") for title, rect in by_title.items() if title}
    assert place["a"] == place["b"] != place["c"] == place["d"]
    assert by_title["stem: 1.0000"].get("fill") == "#a3201d"


def test_colours() -> None:
    assert page.colour(0.0) == page.colour(1e-5) == "#f4f6f8"
    assert page.colour(0.01) == "#f0b95b"
    assert page.colour(1.0) == page.colour(7.0) == "#a3201d"


def test_only_what_lies_between_the_marks_changes(tmp_path: Path) -> None:
    assert page.inserted("a\n<!-- results -->\nold\n<!-- /results -->\nb\n", ["new"]) == (
        "a\n<!-- results -->\n\nnew\n\n<!-- /results -->\nb\n"
    )
    with pytest.raises(InputError, match="has no"):
        page.inserted("a", ["new"])


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "page.md").write_text("x\n<!-- results -->\n<!-- /results -->\n")
    options = ["--results", tmp_path, "--page", tmp_path / "page.md", "--plot", tmp_path / "plot.svg"]
    arguments = [str(option) for option in options]
    assert page.main(arguments) == 1
    assert capsys.readouterr().err.startswith("error: cannot read ")
    table("weights").save(tmp_path / "tf_efficientnetv2_b0-weights.json")
    table("activations").save(tmp_path / "tf_efficientnetv2_b0-activations.json")
    assert page.main(arguments) == 0
    assert "| stem | 1 |" in (tmp_path / "page.md").read_text()
    assert (tmp_path / "plot.svg").read_text().startswith("<svg")
