"""Manifests become mixtures, drawn anew or fixed."""
