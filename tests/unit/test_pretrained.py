import pytest
import torch
from speechbrain.lobes.models.dual_path import SepformerWrapper

from sfsrnet_modules.dual_path import DualPathSeparator
from sfsrnet_modules.pretrained import PARTS, load_stock_weights

SIZES = {
    "encoder_out_nchannels": 16,
    "masknet_chunksize": 20,
    "intra_numlayers": 1,
    "inter_numlayers": 1,
    "intra_nhead": 2,
    "inter_nhead": 2,
    "intra_dffn": 32,
    "inter_dffn": 32,
}


def wrapped(stock: SepformerWrapper) -> DualPathSeparator:
    return DualPathSeparator(stock.encoder, stock.masknet, stock.decoder, head="gated").eval()


@pytest.fixture
def published(tmp_path):
    """A stock model, and its folder as SpeechBrain publishes it."""
    stock = SepformerWrapper(**SIZES).eval()
    for name in PARTS:
        torch.save(getattr(stock, name).state_dict(), tmp_path / f"{name}.ckpt")
    return stock, tmp_path


def test_published_folder_starts_a_training(published):
    stock, folder = published
    separator = wrapped(SepformerWrapper(**SIZES))
    mixture = torch.randn(1, 1000)
    assert not torch.allclose(separator(mixture)[-1], stock(mixture), atol=1e-5)
    load_stock_weights(separator, str(folder))
    assert torch.allclose(separator(mixture)[-1], stock(mixture), atol=1e-6)


def test_weights_of_other_sizes_are_refused(published):
    _, folder = published
    separator = wrapped(SepformerWrapper(**{**SIZES, "intra_dffn": 64}))
    with pytest.raises(ValueError, match=r"does not start this training.*masknet\.ckpt"):
        load_stock_weights(separator, str(folder))


def test_missing_file_is_named(published):
    _, folder = published
    (folder / "decoder.ckpt").unlink()
    with pytest.raises(ValueError, match=r"decoder\.ckpt"):
        load_stock_weights(wrapped(SepformerWrapper(**SIZES)), str(folder))
