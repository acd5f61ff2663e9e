"""Networks that others made, as files: imported, compressed to W8A8, beside their own runtime's float output.

    python -m bench.foreign --calibration PHOTOS --data PHOTOS [--page docs/foreign.md] FILE.tflite FILE.onnx

Each file is run in float32 by its own runtime (LiteRT, ONNX Runtime), imported and run by the engine in
float32, and compressed with the recipe w8a8 on 32 images of --calibration and run again, all on the same
--images pictures of --data, which are squashed to the network's input. Told is, of each output, the root mean
square of the difference over the standard deviation of what the runtime says. A softmax that the import left
out is applied again before the comparison. A file that cannot be imported has a row with the reason.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from subbyte.artifact import Artifact, save
from subbyte.artifact.file import serialize
from subbyte.compress.model import compress_model
from subbyte.data.samples import batches, image_folder, subset
from subbyte.errors import SubbyteError
from subbyte.execute.native import Session
from subbyte.importers.table import ImageInput, image_input, import_model
from subbyte.preprocess import Preprocessing
from subbyte.system.imports import peer_module
from subbyte.system.quiet import quiet_descriptor

BEGIN, END = "<!-- results -->", "<!-- /results -->"
CALIBRATION = 32
HEAD = ("file", "input", "weights", "W8A8, MB", "float32 in the engine", "W8A8 in the engine")


@dataclass(frozen=True)
class Input:
    """What a file does not say of its input: mean and deviation of pixels in 0..1, height and width."""

    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    size: tuple[int, int] | None = None


#: By a part of the file's name; of MediaPipe's and PaddleOCR's documentation.
INPUTS = {
    "pose_detection": Input((0.5,) * 3, (0.5,) * 3),
    "face_detection": Input((0.5,) * 3, (0.5,) * 3),
    "ppocr_mobile_v2.0_cls": Input((0.5,) * 3, (0.5,) * 3, (48, 192)),
    "OCRv4_rec": Input((0.5,) * 3, (0.5,) * 3, (48, 320)),
    "OCRv4_det": Input((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), (320, 320)),
}
Run = Callable[[np.ndarray], list[np.ndarray]]


def preprocessing_of(path: str) -> Preprocessing:
    """The file's own, completed by INPUTS; images are squashed. InputError if the size is not known."""
    known = next((given for part, given in INPUTS.items() if part in Path(path).name), Input())
    said = image_input(path) or (ImageInput((*known.size, 3)) if known.size else None)
    assert said is not None, f"{path} does not say its size"
    height, width, channels = said.shape
    mean, std = (said.mean, said.std) if said.mean and said.std else (known.mean, known.std)
    return Preprocessing(
        height, width, mean[:channels], std[:channels], crop_fraction=1.0, crop_mode="squash"
    )


def litert(path: str) -> Run:
    """One image [1, H, W, C] to the outputs in real numbers, on one thread."""
    module = peer_module("ai_edge_litert.interpreter")
    with quiet_descriptor(2):
        made = module.Interpreter(num_threads=1, model_path=path)
        made.allocate_tensors()
    (source,), targets = made.get_input_details(), made.get_output_details()

    def run(x: np.ndarray) -> list[np.ndarray]:
        scale, zero = source["quantization"]
        kind = source["dtype"]
        given = x
        if kind is not np.float32:
            given = np.rint(x / scale + zero).clip(np.iinfo(kind).min, np.iinfo(kind).max).astype(kind)
        made.set_tensor(source["index"], given)
        made.invoke()
        return [_real(made.get_tensor(each["index"]), *each["quantization"]) for each in targets]

    return run


def _real(y: np.ndarray, scale: float, zero: int) -> np.ndarray:
    return np.array(y, np.float64) if y.dtype == np.float32 else scale * (y.astype(np.float64) - zero)


def onnxruntime(path: str) -> Run:
    """As `litert`."""
    module = peer_module("onnxruntime")
    options = module.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = module.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: [np.array(y, np.float64) for y in session.run(None, {name: x.transpose(0, 3, 1, 2)})]


def in_the_engine(artifact: Artifact, channels_first: bool, like: list[np.ndarray]) -> Run:
    """The same of an artifact, its outputs shaped as the runtime's are."""
    session, facts = Session(artifact), artifact.provenance
    left_out = facts.get("left_out") or facts.get("onnx", {}).get("left_out")

    def run(x: np.ndarray) -> list[np.ndarray]:
        found = session.run(x)
        outputs = [np.asarray(y, np.float64) for y in (found if isinstance(found, tuple) else (found,))]
        if channels_first:
            outputs = [y.transpose(0, 3, 1, 2) if y.ndim == 4 else y for y in outputs]
        shaped = [y.reshape(wanted.shape) for y, wanted in zip(outputs, like, strict=True)]
        return [_softmax(y) for y in shaped] if left_out else shaped

    return run


def _softmax(y: np.ndarray) -> np.ndarray:
    e = np.exp(y - y.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def measured(path: str, calibration: Sequence[Any], samples: Sequence[Any], folder: Path | None) -> list[str]:
    """The cells of a file's row."""
    name, way = Path(path).name, preprocessing_of(path)
    size = f"{way.height} × {way.width}"
    try:
        imported = import_model(path, preprocessing=way)
        exact = compress_model(imported, "fp32")
        small = compress_model(imported, "w8a8", list(batches(calibration, way)))
    except SubbyteError as error:
        return [name, size, "–", "–", f"not imported: {error}"[:160], "–"]
    if folder is not None:
        save(folder / f"{Path(path).stem}-w8a8.subbyte", small)
    first = path.endswith(".onnx")
    own = (onnxruntime if first else litert)(path)
    like = own(next(batches(samples, way, 1)))
    runs = [own, *(in_the_engine(artifact, first, like) for artifact in (exact, small))]
    found: list[list[list[np.ndarray]]] = [[] for _ in runs]
    for x in batches(samples, way, 1):
        for answers, run in zip(found, runs, strict=True):
            answers.append(run(x))
    wanted, *own_outputs = ([np.concatenate(parts) for parts in zip(*one, strict=True)] for one in found)
    params = [param for node in exact.graph.nodes for param in node.params.values()]
    weights = sum(int(np.prod(param.shape)) for param in params)
    mega = sum(map(len, serialize(small))) / 1e6
    apart = [", ".join(map(_share, differences(one, wanted))) for one in own_outputs]
    return [name, size, f"{weights / 1e6:.2f} M", f"{mega:.2f}", *apart]


def differences(made: Sequence[np.ndarray], wanted: Sequence[np.ndarray]) -> list[float]:
    """Root mean square of the difference over the standard deviation, of each output [n, ...]."""
    return [
        float(np.sqrt(np.square(m - w).mean()) / (w.std() or 1.0)) for m, w in zip(made, wanted, strict=True)
    ]


def _share(x: float) -> str:
    """Two digits."""
    return f"{float(f'{100 * x:.2g}'):g} %" if x >= 1e-5 else "< 0.001 %"


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table, and writes it into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--calibration", required=True, help="a folder of images")
    parser.add_argument("--data", required=True, help="another one")
    parser.add_argument("--images", type=int, default=64, help="of --data")
    parser.add_argument("--page", type=Path, help="a document to write the table into")
    parser.add_argument("--save", type=Path, help="a folder for the artifacts")
    given = parser.parse_args(arguments)
    calibration = subset(image_folder(given.calibration), CALIBRATION)
    samples = subset(image_folder(given.data), given.images, seed=1)
    rows = [list(HEAD), ["---"] * len(HEAD)]
    for path in given.files:
        rows.append(measured(path, calibration, samples, given.save))
        print(" | ".join(rows[-1]), flush=True)
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    if given.page is not None:
        before, _, rest = given.page.read_text("utf-8").partition(BEGIN)
        given.page.write_text(f"{before}{BEGIN}\n{table}\n{END}{rest.partition(END)[2]}", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
