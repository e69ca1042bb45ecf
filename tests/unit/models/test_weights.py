import pytest
import torch
from speechbrain.utils.fetching import FetchFrom, FetchSource

from conftest import tiny_sfsrnet
from sfsrnet_modules.inference import SFSRNetSeparation
from sfsrnet_modules.models.weights import SafetensorsPretrainer, load_weights, save_weights


def test_weights_come_back(tiny_model, tmp_path):
    save_weights(tiny_model, tmp_path / "model.safetensors")
    torch.manual_seed(1)
    other = tiny_sfsrnet()
    load_weights(other, tmp_path / "model.safetensors")
    state = tiny_model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in other.state_dict().items())


def test_a_broken_file_and_one_of_another_model_are_named(tiny_model, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"no weights")
    with pytest.raises(ValueError, match=f"{path} holds no weights of this model"):
        load_weights(tiny_model, path)
    save_weights(torch.nn.Linear(2, 3), path)
    with pytest.raises(ValueError, match=r"Missing key"):
        load_weights(tiny_model, path)


@pytest.mark.parametrize("form", [str, lambda path: FetchSource(FetchFrom.LOCAL, str(path))])
def test_pretrainer_finds_the_file_in_whatever_source(tiny_model, tmp_path, form):
    save_weights(tiny_model, tmp_path / "net.safetensors")
    other = tiny_sfsrnet()
    pretrainer = SafetensorsPretrainer(loadables={"net": other})
    pretrainer.collect_files(default_source=form(tmp_path))
    pretrainer.load_collected()
    assert torch.equal(other.separator.decoder.weight, tiny_model.separator.decoder.weight)


def test_a_savedir_is_filled_and_read(model_folder, tmp_path):
    loaded = SFSRNetSeparation.from_hparams(model_folder, savedir=tmp_path / "kept")
    again = SFSRNetSeparation.from_hparams(model_folder)
    mixture = torch.randn(1, 1001)
    assert torch.equal(loaded.separate_batch(mixture), again.separate_batch(mixture))


def test_folders_of_the_old_format_still_load(model_folder, tiny_model, tmp_path):
    hparams = model_folder / "hyperparams.yaml"
    stock = "speechbrain.utils.parameter_transfer.Pretrainer"
    text = hparams.read_text().replace(
        "sfsrnet_modules.models.weights.SafetensorsPretrainer", stock
    )
    assert stock in text
    hparams.write_text(text)
    (model_folder / "model.safetensors").unlink()
    torch.save(tiny_model.state_dict(), model_folder / "model.ckpt")
    separator = SFSRNetSeparation.from_hparams(model_folder)
    mixture = torch.randn(1, 1001)
    assert torch.equal(separator.separate_batch(mixture), tiny_model.eval()(mixture)[-1])
