"""What separates recordings: SpeechBrain's pretrained interface, of any length and level."""

from sfsrnet_modules.inference.interface import SFSRNetSeparation

__all__ = ["SFSRNetSeparation"]
