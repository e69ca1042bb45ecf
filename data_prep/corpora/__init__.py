"""A corpus becomes manifests: one module a kind of corpus."""
