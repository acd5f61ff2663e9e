"""The operations, one row each, in files by kind. A file here adds its `ROWS`."""

from subbyte.execute.reference.step import Row
from subbyte.system.rows import rows_of

OPS: dict[str, Row] = rows_of(__name__, __path__)
