"""Networks of other frameworks, and of files, as graphs."""

from subbyte.importers.table import IMPORTERS, Imported, Importer, import_model, importer_of

__all__ = ["IMPORTERS", "Imported", "Importer", "import_model", "importer_of"]
