import io
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from sfsrnet_modules.apps import separate
from sfsrnet_modules.apps.separate import find_recordings, main
from sfsrnet_modules.inference import interface


def noise(path: Path, seconds: float = 1.0, rate: int = 8000, channels: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (round(seconds * rate), channels)
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(shape), rate)
    return path


def written(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.fixture
def shell(model_folder, tmp_path, capsys):
    """Run the command, return exit code, lines of stdout and of stderr."""

    def run(*arguments, output=tmp_path / "out"):
        code = main([*map(str, arguments), "--model", str(model_folder), "-o", str(output)])
        captured = capsys.readouterr()
        return code, captured.out.splitlines(), captured.err.splitlines()

    return run


def test_names_of_what_was_written_go_to_stdout_the_rest_to_stderr(shell, tmp_path):
    code, out, err = shell(noise(tmp_path / "talk.wav", 2, 44100, 2))
    expected = [str(tmp_path / "out" / f"talk_voice{i}.wav") for i in (1, 2)]
    assert (code, out) == (0, expected)
    assert err[0].endswith("2 channels averaged to one") and err[1].endswith("2 of 2 voices heard")
    assert "real-time factor" in err[2]
    assert soundfile.info(expected[0]).frames == 88200


def test_rate_block_segment_and_plot(shell, tmp_path):
    talk = noise(tmp_path / "talk.wav", 4, 44100)
    code, out, _ = shell(talk, "--rate", "model", "--block", 1, "--segment", 2, "--plot")
    assert code == 0 and out[-1].endswith("talk_voices.png")
    assert soundfile.info(out[0]).frames == 32000
    assert Path(out[-1]).read_bytes().startswith(b"\x89PNG")


def test_twice_is_another_answer(shell, tmp_path):
    talk = noise(tmp_path / "talk.wav")
    once = [soundfile.read(path)[0] for path in shell(talk)[1]]
    twice = [soundfile.read(path)[0] for path in shell(talk, "--twice", "--force")[1]]
    assert len(twice) == 2 and not np.allclose(once, twice, atol=1e-3)


def test_files_without_a_voice_are_left_away_on_request(shell, tmp_path):
    talk = tmp_path / "silence.wav"
    soundfile.write(talk, np.zeros(8000), 8000)
    code, out, err = shell(talk, "--drop-empty")
    assert (code, out) == (0, []) and err[0].endswith("0 of 2 voices heard")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.fixture
def drawn(monkeypatch) -> list[tuple]:
    """What pictures are drawn of: rows, seconds, rate and file."""
    seen = []
    monkeypatch.setattr(separate, "draw_grid", lambda *a: (seen.append(a), a[3].touch()))
    return seen


def test_a_picture_names_the_voices_as_their_files(model_folder, tmp_path, drawn, monkeypatch):
    separator = interface.SFSRNetSeparation.from_hparams(model_folder)
    only = [noise(tmp_path / "a_voice2.wav")]  # the first held none
    monkeypatch.setattr(separator, "separate_long", lambda *_, **__: only)
    separate.separate(separator, noise(tmp_path / "a.wav"), tmp_path, force=True, plot=True)
    assert list(drawn[0][0]) == ["mixture", "voice 2"]


def test_a_picture_goes_no_higher_than_the_recording(tmp_path, drawn):
    path, voice = (noise(tmp_path / f"{name}.wav", rate=8000) for name in ("a", "a_voice2"))
    separate.draw(path, {"voice 2": voice}, 16000, tmp_path / "a.png")
    rows, _, rate, _ = drawn[0]
    assert rate == 8000 and len(rows["mixture"][0]) == len(rows["voice 2"][0]) > 100


def test_nothing_is_overwritten_without_force(shell, tmp_path):
    talk = noise(tmp_path / "talk.wav")
    existing = tmp_path / "out" / "talk_voice2.wav"
    existing.parent.mkdir()
    existing.write_text("mine")
    code, out, err = shell(talk)
    assert (code, out) == (1, []) and existing.read_text() == "mine"
    assert err == [f"error: {existing} is there already: --force overwrites it"]
    assert shell(talk, "--force")[0] == 0 and soundfile.info(existing).frames == 8000


def test_folders_are_mirrored_and_voices_are_no_recordings(shell, tmp_path):
    noise(tmp_path / "in" / "b.flac"), noise(tmp_path / "in" / "deep" / "a.WAV")
    (tmp_path / "in" / "notes.txt").write_text("no audio")
    assert shell(tmp_path / "in", output=tmp_path / "in")[0] == 0
    code, out, _ = shell(tmp_path / "in", "--force")
    assert code == 0 and written(tmp_path / "out") == [
        "b_voice1.wav",
        "b_voice2.wav",
        "deep/a_voice1.wav",
        "deep/a_voice2.wav",
    ]
    assert out == [str(tmp_path / "out" / name) for name in written(tmp_path / "out")]


def test_inputs_of_one_name_do_not_meet(tmp_path):
    paths = [tmp_path / name for name in ("x/a.wav", "y/a.wav", "y/b.wav", "y/b.ogg", "x/c.d.wav")]
    names = list(find_recordings(paths).values())
    assert list(map(str, names)) == ["x/a", "y/a", "y/b_wav", "y/b_ogg", "c.d"]
    assert list(find_recordings([paths[0], paths[0]])) == [paths[0]]


def test_inputs_of_one_name_are_both_written(shell, tmp_path):
    code, out, _ = shell(noise(tmp_path / "x" / "a.wav"), noise(tmp_path / "y" / "a.wav"))
    assert code == 0 and len(set(out)) == 4
    assert all(Path(name).is_file() for name in out)


def test_inputs_that_would_meet_all_the_same_are_refused(tmp_path):
    names = [tmp_path / name for name in ("a.wav", "a.flac", "a_wav.ogg")]
    for path in names:
        soundfile.write(path, np.zeros(100), 8000)
    with pytest.raises(ValueError, match="2 recordings would be written as a_wav"):
        separate.find_recordings(names)


def test_the_next_file_follows_one_that_fails(shell, tmp_path):
    bad = tmp_path / "notes.wav"
    bad.write_text("not audio")
    code, out, err = shell(bad, noise(tmp_path / "talk.wav"))
    assert code == 1 and len(out) == 2
    assert err[0].startswith(f"error: {bad} can't be read as audio: ")


def samples(path: Path, values, **options) -> Path:
    soundfile.write(path, np.asarray(values, dtype=float), 8000, **options)
    return path


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([], "holds no samples"),
        ([0.1], "the mixture has 1 samples; the encoder's frame needs at least 16"),
        ([0.1, np.nan] * 800, "NaN or infinite, the first at 0.00 s"),
        ([0.1, -np.inf] * 800, "NaN or infinite"),
    ],
)
def test_what_cannot_be_separated_is_one_line(shell, tmp_path, values, told):
    code, out, err = shell(samples(tmp_path / "bad.wav", values, subtype="FLOAT"))
    assert (code, out, len(err)) == (1, [], 1)
    assert err[0].startswith("error: ") and told in err[0] and "bad.wav" in err[0]
    assert not (tmp_path / "out").exists()


def test_silence_gives_silence(shell, tmp_path):
    code, out, _ = shell(samples(tmp_path / "silence.wav", [0.0] * 8000))
    assert code == 0
    assert all(np.abs(soundfile.read(voice)[0]).max() < 1e-4 for voice in out)


@pytest.mark.parametrize(("rate", "channels"), [(192000, 8), (4000, 1)])
def test_unusual_recordings(shell, tmp_path, rate, channels):
    code, out, _ = shell(noise(tmp_path / "talk.wav", 1, rate, channels))
    assert code == 0 and soundfile.info(out[1]).samplerate == rate


def test_too_little_memory_is_told(shell, tmp_path, monkeypatch):
    def full(*_, **__):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(interface.SFSRNetSeparation, "separate_batch", full)
    code, _, err = shell(noise(tmp_path / "talk.wav"))
    assert code == 1 and err[-1].endswith(
        "takes more memory than there is: try a shorter --segment"
    )


def test_an_interrupt_leaves_nothing(shell, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(interface, "write_voices", interrupted)
    code, out, err = shell(noise(tmp_path / "talk.wav"))
    told = "interrupted: what is told above is done, the file in work is not"
    assert (code, out, err) == (130, [], [told])


@pytest.mark.parametrize(
    "arguments",
    [["a.wav"], ["a.wav", "-o", "out", "--rate", "8000"], ["a.wav", "-o", "out", "--device", "x"]],
)
def test_wrong_usage_is_2(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2 and "error: " in capsys.readouterr().err


def test_a_device_that_is_not_there(capsys):
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(SystemExit):
        main(["a.wav", "-o", "out", "--device", "cuda"])
    assert "cuda is not here, PyTorch finds 0 CUDA devices" in capsys.readouterr().err


def test_no_model_or_no_recordings_is_2(tmp_path, capsys):
    arguments = ["-o", str(tmp_path / "out"), "--model", str(tmp_path)]
    assert main([str(noise(tmp_path / "talk.wav")), *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"error: no model at {tmp_path}")
    (tmp_path / "empty").mkdir()
    assert main([str(tmp_path / "empty"), *arguments]) == 2
    assert "holds no recordings" in capsys.readouterr().err


def test_what_can_only_be_decoded_from_its_beginning(shell, tmp_path):
    path = samples(tmp_path / "call.wav", 0.1 * np.sin(np.arange(8000)), subtype="GSM610")
    code, out, err = shell(path, "--plot")
    err = [line for line in err if "voices heard" not in line]
    assert (code, len(out), len(err)) == (0, 3, 1)
    assert soundfile.info(out[0]).frames == soundfile.info(path).frames


def test_a_truncated_recording_is_said_once(shell, tmp_path):
    path = noise(tmp_path / "talk.wav", 2)
    path.write_bytes(path.read_bytes()[:16044])
    code, out, err = shell(path, "--plot")
    assert code == 0 and soundfile.info(out[0]).frames == 8000
    assert [line for line in err if "truncated: only its first 1.00 s are there" in line] == err[:1]


def test_channels_that_cancel_each_other_are_said_once(shell, tmp_path):
    left = 0.1 * np.random.default_rng(0).standard_normal(8000)
    path = samples(tmp_path / "poles.wav", np.stack([left, -left], axis=1))
    code, out, err = shell(path, "--plot")
    voices = [soundfile.read(voice)[0] for voice in out[:2]]
    assert code == 0 and max(np.abs(voice).max() for voice in voices) > 0.01
    assert sum("channels cancel each other" in line for line in err) == 1


def test_standard_input(shell, tmp_path, monkeypatch):
    data = noise(tmp_path / "talk.flac").read_bytes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    code, out, _ = shell("-")
    assert code == 0 and [Path(name).name for name in out] == [
        "stdin_voice1.wav",
        "stdin_voice2.wav",
    ]
    assert soundfile.info(out[0]).frames == 8000


def test_names_that_are_long(shell, tmp_path):
    long, too_long = (tmp_path / (stem + ".wav") for stem in ("\u8bf4" * 80 + "abcd", "x" * 245))
    code, out, _ = shell(noise(long))
    assert code == 0 and Path(out[0]).is_file()
    code, out, err = shell(noise(too_long))
    assert (code, out, len(err)) == (1, [], 1) and "is too long: 256 bytes, 255 are" in err[0]
    code, out, err = shell(tmp_path / ("x" * 300), long, "--force")  # no file can have it
    assert (code, len(out)) == (1, 2) and "is too long: 311 bytes" in err[0]


def test_names_that_are_not_utf_8(model_folder, tmp_path, monkeypatch):
    stdout = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr("sys.stdout", stdout)
    path = noise(tmp_path / "talk.wav").rename(tmp_path / "\udce4.wav")
    assert main([str(path), "--model", str(model_folder), "-o", str(tmp_path / "out")]) == 0
    written = stdout.buffer.getvalue().splitlines()
    assert written == [os.fsencode(tmp_path / "out" / f"\udce4_voice{i}.wav") for i in (1, 2)]
    assert all(map(os.path.isfile, written))


def test_a_link_to_itself_is_one_line(shell, tmp_path):
    (tmp_path / "a.wav").symlink_to("a.wav")
    code, out, err = shell(tmp_path / "a.wav")
    assert (code, out, err) == (1, [], [f"error: there is no file {tmp_path / 'a.wav'}"])


@pytest.mark.parametrize("installed", [True, False])
def test_what_a_folder_holds_besides_is_named_and_counted(tmp_path, monkeypatch, caplog, installed):
    monkeypatch.setattr("sfsrnet_modules.common.decoding.is_installed", lambda: installed)
    (tmp_path / "in").mkdir()
    for name in ("a.wav", "b.M4A", "c.txt", "a_voice1.wav", "._a.wav", ".DS_Store", "d/e.mp4"):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).touch()
    with caplog.at_level("INFO"):
        names = [path.name for path in find_recordings([tmp_path / "in"])]
    assert names == (["a.wav", "b.M4A", "e.mp4"] if installed else ["a.wav"])
    assert "2 files are passed over" in caplog.text and "a_voice1.wav, c.txt" in caplog.text
    assert ("2 recordings are passed over, b.M4A, d/e.mp4: `pip" in caplog.text) is not installed
