"""The machine and its files: text, whole files, processes, optional packages (standard library)."""
