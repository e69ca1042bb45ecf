#!/usr/bin/env python3
"""Exports a training as a model folder: ``python export.py results/mini/1234 -o FOLDER``."""

import sys

from sfsrnet_modules.publishing.export import main

if __name__ == "__main__":
    sys.exit(main())
