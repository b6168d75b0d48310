"""Generated code. `clients/python/generate` makes it."""
