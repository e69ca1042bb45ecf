import builtins

import pytest

from sfsrnet_modules.training import loggers
from sfsrnet_modules.training.loggers import wandb_logger


def test_a_run_off_line_keeps_its_identity(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    for name, value in (("MODE", "offline"), ("SILENT", "true"), ("DIR", str(tmp_path))):
        monkeypatch.setenv(f"WANDB_{name}", value)
    ids, logged = [], []
    for epoch in (1, 2):
        logger = wandb_logger("separation", tmp_path)
        log = logger.run.log
        logger.run.log = lambda stats, *args, log=log, **kwargs: (
            logged.append(stats),
            log(stats, *args, **kwargs),
        )
        logger.log_stats({"epoch": epoch, "lr": 1e-3}, {"loss": 1.0}, {"si_snr_i": 2.0})
        ids.append(logger.run.id)
        logger.run.finish()
    assert ids[0] == ids[1]
    assert len(list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))) == 2
    assert ["si_snr_i" in str(stats) for stats in logged] == [True, True]


def test_all_processes_choose_the_identity_together_though_it_is_chosen(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    (tmp_path / "wandb.id").write_text("own")
    monkeypatch.setattr(loggers, "run_on_main", lambda *_, **__: "of the main process")
    monkeypatch.setattr("speechbrain.utils.train_logger.WandBLogger", lambda *_, **keys: keys["id"])
    assert wandb_logger("separation", tmp_path) == "of the main process"


def test_without_the_package_a_sentence_says_so(tmp_path, monkeypatch):
    imported = builtins.__import__

    def missing(name, *args, **kwargs):
        if name == "wandb":
            raise ImportError(name)
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ValueError, match="pip install wandb"):
        wandb_logger("separation", tmp_path)
