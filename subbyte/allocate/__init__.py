"""A bit-width for every layer, under budgets (scipy)."""
