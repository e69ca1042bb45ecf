"""torchaudio is imported by the package itself; what can be tested is what stands in for it."""

import pytest
import torch

from sfsrnet_modules.common import torchaudio_cpu


def test_torchaudio_resamples():
    from torchaudio.functional import resample

    tone = torch.sin(2 * torch.pi * 100 * torch.arange(8000) / 8000)
    expected = torch.sin(2 * torch.pi * 100 * torch.arange(4000) / 4000)
    assert (resample(tone, 8000, 4000) - expected)[100:-100].abs().max() < 1e-2


def test_what_needs_the_extension_says_so():
    @torchaudio_cpu._absent_extension().fail_if_no_align
    def forced_align():
        raise AssertionError("must not be reached")

    with pytest.raises(RuntimeError, match=r"torchaudio\.forced_align needs"):
        forced_align()
