"""SFSRNet on SpeechBrain: models, losses, metrics, training loop and inference."""

from sfsrnet_modules.common import torchaudio_cpu

torchaudio_cpu.make_importable()  # before the first import of speechbrain

__version__ = "0.1.0"
