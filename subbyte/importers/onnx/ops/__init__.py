"""What each ONNX operator becomes, one row each, in files by kind. A file here adds its `ROWS`."""

from subbyte.importers.onnx.values import Row
from subbyte.system.rows import rows_of

ROWS: dict[str, Row] = rows_of(__name__, __path__)
