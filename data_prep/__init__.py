"""From corpora to manifests (csv) to batches. Knows no model."""

import sfsrnet_modules  # noqa: F401  makes torchaudio, so speechbrain, importable on CPU-only torch
