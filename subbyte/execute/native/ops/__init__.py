"""The operations, one row each. A file here adds its `ROWS`."""

from subbyte.execute.native.step import Row
from subbyte.system.rows import rows_of

OPS: dict[str, Row] = rows_of(__name__, __path__)
