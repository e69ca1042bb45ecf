"""The networks: separators, super-resolution and the two joined. They know no data."""
