import pandas as pd
import torch

from sfsrnet_modules.apps.example import write_example


class OneItem:
    """A test set of which one item may be read."""

    rows = pd.DataFrame({"ID": ["a", "b", "c", "d", "e"]})

    def __getitem__(self, index: int) -> dict:
        assert index == 3
        return {"mixture": torch.zeros(80), "sources": torch.zeros(80, 2)}


def test_only_the_median_item_is_read(tmp_path):
    results = tmp_path / "test_results.csv"
    results.write_text("id,si_snr_i\na,1\nb,9\nc,2\nd,5\ne,8\n")
    folder = write_example(OneItem(), results, tmp_path / "example", 8000)
    names = ["mixture.wav", "source1.wav", "source2.wav"]
    assert sorted(path.name for path in folder.iterdir()) == names
