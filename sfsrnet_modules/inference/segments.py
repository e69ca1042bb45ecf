"""Separates a stream of any length: segment by segment, in constant memory.

Each output is brought to its level in the mixture, as one of a model may be far softer than another
throughout. Segments overlap: there the voices are brought into the order of the segment before and
cross-faded::

    recording  |------------------------------------------|
    segments   |--------------|
                           |--------------|
                                    |---------------------|   the last is moved back to be as long
"""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from sfsrnet_modules.common.mixture_level import at_mixture_level
from sfsrnet_modules.inference.heard import HeardVoices
from sfsrnet_modules.inference.speaker_order import SpeakerOrder


def separate_segments(
    separate: Callable[[Tensor], Tensor],
    blocks: Iterable[Tensor],
    sample_rate: int,
    size: int,
    overlap: int,
    heard: HeardVoices | None = None,
    audible: Callable[[Tensor], Tensor] = lambda mixture: mixture,
) -> Iterator[Tensor]:
    """Separate a stream; memory does not grow with its length.

    Arguments
    ---------
    separate : callable
        Mixture [T] to voices [T, C], in any order and of any scale.
    blocks : iterable of torch.Tensor
        The mixture, [T] each, of any length.
    sample_rate : int
        Hz.
    size : int
        Samples of a segment.
    overlap : int
        Samples that a segment shares with the one before.
    heard : HeardVoices, optional
        Hears the voices.
    audible : callable
        Mixture [T] to what voices can add up to, [T], by which they are levelled.

    Yields
    ------
    torch.Tensor
        Voices [T', C] in one order throughout and at their levels in the mixture: joined they are
        exactly as long as the joined blocks.
    """
    order, tail = SpeakerOrder(sample_rate, overlap), None
    for mixture, start in cut(blocks, size, overlap):
        voices = separate(mixture)  # [T, C]
        voices = at_mixture_level(voices[None], audible(mixture)[None])[0]
        voices = order.sort(voices, start)[start:]  # [T', C]
        if heard is not None:
            heard.hear(voices if tail is None else voices[overlap:])
        if tail is not None:
            voices[:overlap] = cross_fade(tail, voices[:overlap])
        yield voices[:-overlap]
        tail = voices[-overlap:]
    if tail is not None:
        yield tail


def cut(blocks: Iterable[Tensor], size: int, overlap: int) -> Iterator[tuple[Tensor, int]]:
    """Cut a stream into overlapping segments, each as long as the stream allows.

    Yields
    ------
    torch.Tensor
        Segment [size]; shorter only where the whole stream is.
    int
        Sample of the segment at which the overlap with the one before begins: 0, but later in the
        last.

    Example
    -------
    >>> for segment, start in cut([torch.arange(5), torch.arange(5, 9)], size=4, overlap=1):
    ...     print(segment.tolist(), start)
    [0, 1, 2, 3] 0
    [3, 4, 5, 6] 0
    [5, 6, 7, 8] 1
    """
    hop = size - overlap
    past = held = None  # `past` is only wanted to make the last segment longer
    for block in blocks:
        held = block if held is None else torch.cat([held, block])
        while len(held) > size:
            yield held[:size], 0
            past, held = held[:hop], held[hop:]
    if held is None:
        return
    missing = 0 if past is None else size - len(held)
    yield (torch.cat([past[hop - missing :], held]) if missing else held), missing


def cross_fade(before: Tensor, now: Tensor) -> Tensor:
    """Fade from `before` [T, C] to `now` [T, C]; where both agree nothing changes."""
    ramp = torch.linspace(0, torch.pi, len(now) + 2)[1:-1].unsqueeze(1)  # [T, 1]
    return before + (0.5 - 0.5 * ramp.cos()) * (now - before)
