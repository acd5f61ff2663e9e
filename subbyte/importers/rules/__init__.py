"""What importers of all kinds build graphs with."""
