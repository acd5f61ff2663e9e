"""Which weights go: what each is worth, the others moved so that they make up for it (torch)."""
