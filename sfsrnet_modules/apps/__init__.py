"""Shell and browser."""
