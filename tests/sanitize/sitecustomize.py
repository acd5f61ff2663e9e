"""Takes the engine from the file that SUBBYTE_NATIVE names, wherever the package itself lies.

Python runs this at start when this folder is on PYTHONPATH: how the sanitized engine is tested.
"""

import importlib.util
import os
import sys


class SanitizedEngine:
    @staticmethod
    def find_spec(name, path=None, target=None):  # type: ignore[no-untyped-def]
        if name == "subbyte._native":
            return importlib.util.spec_from_file_location(name, os.environ["SUBBYTE_NATIVE"])
        return None


sys.meta_path.insert(0, SanitizedEngine)
