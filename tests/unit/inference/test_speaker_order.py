import torch

from sfsrnet_modules.inference.speaker_order import (
    SpeakerOrder,
    VoiceEnvelope,
    overlap_likeness,
    power,
)


def colored(num_samples: int) -> torch.Tensor:
    """A low and a high voice, as noise in bands: [T, 2]."""
    noise = torch.randn(2, num_samples + 1)
    low, high = noise[0, 1:] + noise[0, :-1], noise[1, 1:] - noise[1, :-1]
    return torch.stack([low, high], dim=1)


def test_the_overlap_decides_where_envelopes_are_alike():
    order = SpeakerOrder(8000, overlap=800)
    voices = torch.randn(30_000, 3)
    first = order.sort(voices[:10_000])
    for start, turned in ((9200, [2, 0, 1]), (18_400, [1, 0, 2])):
        part = voices[start : start + 10_000]
        assert torch.equal(order.sort(part[:, turned]), part)
    assert torch.equal(first, voices[:10_000])


def test_one_voice_in_the_overlap_is_enough():
    order = SpeakerOrder(8000, overlap=800)
    voices = torch.randn(20_000, 2)
    voices[9000:10_200, 1] = 0  # a break
    order.sort(voices[:10_000])
    assert torch.equal(order.sort(voices[9200:].flip(1)), voices[9200:])


def test_over_silence_a_voice_is_known_by_what_was_heard_before():
    order = SpeakerOrder(8000, overlap=800)
    voices = colored(60_000)
    voices[9000:30_000] = 0  # both rest, over two seams
    parts = [voices[start : start + 10_000] for start in range(0, 46_000, 9200)]
    for part in parts[:3]:
        order.sort(part)
    assert torch.equal(order.sort(parts[3].flip(1)), parts[3])
    assert torch.equal(order.sort(parts[4].flip(1)), parts[4])


def test_noise_in_a_pause_decides_nothing():
    order = SpeakerOrder(8000, overlap=800)
    voices = colored(50_000)
    voices[9000:30_000] *= 1e-3
    for start in (0, 9200, 18_400):
        order.sort(voices[start : start + 10_000])
    turned = voices[27_600:].flip(1)
    turned[:2400] = turned[:2400].flip(1)  # the noise alone looks as if nothing was turned
    assert torch.equal(order.sort(turned), turned.flip(1))


def test_overlap_likeness_knows_neither_scale_nor_sign():
    voices = torch.randn(800, 2)
    likeness = overlap_likeness(-0.3 * voices, -40 * voices, pause=0.0)
    assert abs(likeness.trace() - 1) < 1e-4 and likeness[0, 1].abs() < 0.1
    assert overlap_likeness(voices, voices, pause=1000 * power(voices)).trace() < 2e-3


def test_envelopes_rest_on_the_frames_of_the_loudest():
    voices = colored(16_000)
    voices[8000:, 0] = 0
    voices[:8000, 1] = 0
    envelopes, seconds = VoiceEnvelope(8000)(voices, pause=1e-3)
    assert torch.allclose(seconds, torch.ones(2), atol=0.1)
    contrast = envelopes[0] - envelopes[1]  # [bands]
    assert contrast[:5].mean() > 1 > -1 > contrast[-3:].mean()
    louder, _ = VoiceEnvelope(8000)(10 * voices, pause=1e-3)
    assert torch.allclose(envelopes, louder, atol=1e-3)
