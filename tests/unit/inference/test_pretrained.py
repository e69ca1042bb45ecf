from copy import deepcopy

import pytest
import torch
from speechbrain.inference.separation import SepformerSeparation
from speechbrain.lobes.models.conv_tasnet import MaskNet
from speechbrain.lobes.models.dual_path import SepformerWrapper

from conftest import tiny_sfsrnet
from sfsrnet_modules.inference import SFSRNetSeparation
from sfsrnet_modules.inference.pretrained import (
    PARTS,
    from_stock,
    load_start,
    load_stock_weights,
    mix_in_start,
)
from sfsrnet_modules.models.conditioning import Conditioning
from sfsrnet_modules.models.dual_path import DualPathSeparator
from sfsrnet_modules.models.full_band import FullBand
from sfsrnet_modules.models.sfsrnet import SFSRNet
from sfsrnet_modules.models.upper_band import UpperBand

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

# as of speechbrain/sepformer-wsj02mix, with small layers
HPARAMS = """
sample_rate: 8000
num_spks: 2
Encoder: !new:speechbrain.lobes.models.dual_path.Encoder
    kernel_size: 16
    out_channels: 16
SBtfintra: !new:speechbrain.lobes.models.dual_path.SBTransformerBlock
    num_layers: 1
    d_model: 16
    nhead: 2
    d_ffn: 32
    dropout: 0
    use_positional_encoding: True
    norm_before: True
SBtfinter: !new:speechbrain.lobes.models.dual_path.SBTransformerBlock
    num_layers: 1
    d_model: 16
    nhead: 2
    d_ffn: 32
    dropout: 0
    use_positional_encoding: True
    norm_before: True
MaskNet: !new:speechbrain.lobes.models.dual_path.Dual_Path_Model
    num_spks: !ref <num_spks>
    in_channels: 16
    out_channels: 16
    num_layers: 2
    K: 20
    intra_model: !ref <SBtfintra>
    inter_model: !ref <SBtfinter>
    norm: ln
    linear_layer_after_inter_intra: False
    skip_around_intra: True
Decoder: !new:speechbrain.lobes.models.dual_path.Decoder
    in_channels: 16
    out_channels: 1
    kernel_size: 16
    stride: 8
    bias: False
modules:
    encoder: !ref <Encoder>
    decoder: !ref <Decoder>
    masknet: !ref <MaskNet>
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        encoder: !ref <Encoder>
        masknet: !ref <MaskNet>
        decoder: !ref <Decoder>
"""


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


def test_what_began_with_fresh_weights_has_no_share_of_the_start(published):
    _, folder = published
    start, trained = (wrapped(SepformerWrapper(**SIZES)) for _ in range(2))
    load_stock_weights(start, str(folder))
    model = SFSRNet(deepcopy(trained))
    mix_in_start(model, str(folder), 0.5)
    start, trained = start.state_dict(), trained.state_dict()
    for name, value in model.separator.state_dict().items():
        is_fresh = name.startswith("early_heads")
        expected = trained[name] if is_fresh else (trained[name] + start[name]) / 2
        assert torch.allclose(value, expected, atol=1e-6), name


def test_model_folder_starts_a_training(model_folder):
    trained = SFSRNetSeparation.from_hparams(source=model_folder).mods.model
    model = deepcopy(trained)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    load_start(model, str(model_folder))
    for name, value in trained.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    with pytest.raises(ValueError, match="holds no weights of this model"):
        load_start(torch.nn.Linear(1, 1), str(model_folder))


def test_what_is_no_model_folder_is_taken_for_speechbrains(published):
    stock, folder = published
    model = SFSRNet(wrapped(SepformerWrapper(**SIZES)))
    load_start(model, str(folder))
    mixture = torch.randn(1, 1000)
    assert torch.allclose(model.separator(mixture)[-1], stock(mixture), atol=1e-6)


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


@pytest.mark.parametrize("trained", [True, False])
def test_published_folder_separates_as_speechbrain_does(published, trained):
    stock, folder = published
    if trained:  # no two layers alike any more
        for parameter in stock.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        for name in PARTS:
            torch.save(getattr(stock, name).state_dict(), folder / f"{name}.ckpt")
    (folder / "hyperparams.yaml").write_text(HPARAMS)
    ours = SFSRNetSeparation.from_hparams(folder)
    theirs = SepformerSeparation.from_hparams(str(folder))
    mixture = torch.randn(2, 4001)
    conditioned, gain = Conditioning(8000)(mixture)
    expected = theirs.separate_batch(conditioned) / gain[:, :, None]
    assert expected.norm() > 0
    assert (ours.separate_batch(mixture) - expected).norm() < 1e-4 * expected.norm()


def test_published_conv_tasnet_keeps_its_mask_network():
    parts = SepformerWrapper(**SIZES)
    masknet = MaskNet(16, 8, 16, 3, 2, 1, C=2)
    model = from_stock(parts.encoder, masknet, parts.decoder).eval()
    assert model.separator.masknet is masknet
    assert model(torch.randn(1, 800)).shape == (1, 1, 800, 2)


def test_a_finished_model_becomes_the_narrow_one_of_a_full_band(model_folder):
    finished = SFSRNetSeparation.from_hparams(source=model_folder).mods.model
    model = FullBand(tiny_sfsrnet(), UpperBand(channels=8), 16000)
    load_start(model, str(model_folder))
    for name, value in finished.state_dict().items():
        assert torch.equal(model.narrow.state_dict()[name], value), name


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ("sample_rate: 11025", "is of 11025 Hz: set start_from to one of 8000 Hz, or narrow_rate"),
        ("num_spks: 3", "gives 3 voices, num_spks is 2: set it to that, or start_from to another"),
    ],
)
def test_a_narrow_model_that_does_not_fit_is_refused(model_folder, stated, message):
    hparams_file = model_folder / "hyperparams.yaml"
    key = stated.split(":")[0]
    lines = hparams_file.read_text().splitlines()
    hparams_file.write_text("\n".join(stated if x.startswith(f"{key}:") else x for x in lines))
    with pytest.raises(ValueError, match=message):
        load_start(FullBand(tiny_sfsrnet(), UpperBand(), 16000), str(model_folder))


def test_no_folder_of_a_narrow_model_is_named(tmp_path):
    model = FullBand(tiny_sfsrnet(), UpperBand(), 16000)
    with pytest.raises(ValueError, match=r"no .*nowhere/hyperparams\.yaml: set start_from to the"):
        load_start(model, str(tmp_path / "nowhere"))
