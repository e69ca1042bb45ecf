"""Keeps the voices of a long recording in one order, segment after segment.

A separator gives the voices of each segment in an order of its own. Where two segments overlap,
what belongs together is alike sample by sample. In a pause there is nothing to compare: then a
voice is known by its spectral envelope, of which a slowly fading memory is kept.
"""

import torch
from torch import Tensor
from torchaudio.functional import melscale_fbanks

from sfsrnet_modules.common.permutation import best_order

FRAME = 0.032  # s, of the spectra that envelopes are made of
NUM_BANDS = 24  # mel bands, 60 Hz to half the rate
AUDIBLE = 1e-3  # of the power of the loudest segment: what is softer is a pause
ENOUGH = 1.0  # s of a voice after which its envelope is trusted
FADING = 30.0  # s of a voice after which what was heard before counts 1/e
LOUDNESS_FADING = 0.9  # a segment: one loud noise doesn't make a pause of all that follows
MEMORY = 0.5  # weight of the envelopes beside the overlap's likeness, both between 0 and 1


class SpeakerOrder:
    """Sorts the voices of each segment like those of the segments before.

    Arguments
    ---------
    sample_rate : int
        Hz.
    overlap : int
        Samples that a segment shares with the one before.

    Example
    -------
    >>> voices = torch.randn(3000, 2)  # [T, C]
    >>> order = SpeakerOrder(sample_rate=8000, overlap=500)
    >>> first = order.sort(voices[:2000])
    >>> second = order.sort(voices[1500:].flip(1))  # the model took them the other way round
    >>> torch.equal(second, voices[1500:])
    True
    """

    def __init__(self, sample_rate: int, overlap: int):
        self.overlap = overlap
        self.envelope = VoiceEnvelope(sample_rate)
        self.tail = None  # [overlap, C], end of the segment before
        self.memory = None  # envelopes [C, bands] so far and the seconds [C] that they rest on
        self.pause = 0.0  # power of all voices, mean square, below which it is a pause

    def sort(self, voices: Tensor, start: int = 0) -> Tensor:
        """Sort the `voices` [T, C] of a segment that meets the one before at sample `start`."""
        self.pause = max(LOUDNESS_FADING * self.pause, AUDIBLE * power(voices))
        heard = self.envelope(voices, self.pause)
        if self.tail is not None:
            now = voices[start : start + self.overlap]
            scores = overlap_likeness(self.tail, now, self.pause)
            scores = scores + MEMORY * envelope_likeness(self.memory, heard)  # [before, now]
            order = best_order(scores.T[None])[0]  # [C], the voice now of each one before
            voices, heard = voices[:, order], tuple(x[order] for x in heard)
        self.tail = voices[-self.overlap :]
        self.memory = heard if self.memory is None else faded_into(self.memory, heard)
        return voices


def power(voices: Tensor) -> float:
    """Mean square of `voices` [T, C], summed over the voices."""
    return voices.square().sum(1).mean().item()


def overlap_likeness(before: Tensor, now: Tensor, pause: float) -> Tensor:
    """Correlate each voice before with each now, in the overlap [T, C] of both: [C, C].

    The best order reaches 1 at most. A voice counts by its power, and what is softer than `pause`
    for little.
    """
    scale = before.norm() * now.norm() + 1e-12
    loudness = power(now)
    return before.mT @ now / scale * (loudness / (loudness + pause + 1e-12))


def envelope_likeness(memory: tuple[Tensor, Tensor], heard: tuple[Tensor, Tensor]) -> Tensor:
    """Compare the envelopes of each voice in memory with those heard now: [C, C], -1 to 0."""
    (before, seconds_before), (now, seconds_now) = memory, heard
    distance = torch.cdist(before, now).square()  # [C, C]
    trust = [(seconds / ENOUGH).clamp_max(1) for seconds in (seconds_before, seconds_now)]
    return -trust[0].unsqueeze(1) * trust[1] * distance / (distance.sum() + 1e-12)


def faded_into(
    memory: tuple[Tensor, Tensor], heard: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Take what was heard into the memory; the more of it there is, the more the old fades."""
    (before, seconds_before), (now, seconds_now) = memory, heard
    seconds_before = seconds_before * torch.exp(-seconds_now / FADING)
    seconds = seconds_before + seconds_now  # [C]
    share = (seconds_now / seconds.clamp_min(1e-12)).unsqueeze(1)
    return before + share * (now - before), seconds


class VoiceEnvelope:
    """Mean log-mel spectrum of each voice over the frames in which it is the loudest.

    Example
    -------
    >>> voices = torch.randn(8000, 2) * torch.tensor([1, 0.01])
    >>> envelopes, seconds = VoiceEnvelope(8000)(voices, pause=1e-3)
    >>> envelopes.shape, seconds.round().tolist()
    (torch.Size([2, 24]), [1.0, 0.0])
    """

    def __init__(self, sample_rate: int):
        self.sample_rate = sample_rate
        self.n_fft = round(FRAME * sample_rate)
        num_bins = self.n_fft // 2 + 1
        self.bands = melscale_fbanks(num_bins, 60.0, sample_rate / 2, NUM_BANDS, sample_rate)

    def __call__(self, voices: Tensor, pause: float) -> tuple[Tensor, Tensor]:
        """Return envelopes [C, bands] of `voices` [T, C], and the seconds [C] that they rest on."""
        spectra = self._spectra(voices)  # [C, F, L]
        loudness = spectra.sum(1)  # [C, L]
        loudest = torch.arange(len(loudness)).unsqueeze(1) == loudness.argmax(0)  # [C, L]
        active = (loudest & (loudness > pause)).unsqueeze(2)  # [C, L, 1]
        mel = spectra.mT @ self.bands  # [C, L, bands]
        shape = (mel + 1e-6 * mel.mean() + 1e-12).log()
        shape = shape - shape.mean(2, keepdim=True)  # whatever the level
        num_active = active.sum(1)  # [C, 1]
        envelopes = (shape * active).sum(1) / num_active.clamp_min(1)  # [C, bands]
        return envelopes, num_active.squeeze(1) * self.n_fft / 2 / self.sample_rate

    def _spectra(self, voices: Tensor) -> Tensor:
        """Power in each bin, such that a frame's bins add up to its mean square: [C, F, L]."""
        window = torch.hann_window(self.n_fft)
        spectra = torch.stft(
            voices.mT,
            self.n_fft,
            self.n_fft // 2,
            window=window,
            pad_mode="constant",
            return_complex=True,
        )
        return spectra.abs().square() * 2 / (self.n_fft * window.square().sum())
