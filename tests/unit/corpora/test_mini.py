"""The mini corpus: cutting, levelling and joining in numbers; downloads that were cut short."""

import csv
import hashlib
import os
import shutil
import subprocess

import numpy as np
import pytest
import soundfile as sf

from data_prep.corpora.mini import build, clips, packages, speakers

RATE = 8000


def tone(seconds: float, amplitude: float = 0.5, rate: int = RATE) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return (amplitude * np.sin(2 * np.pi * 440 * time)).astype(np.float32)


def rms_db(signal: np.ndarray) -> float:
    return 20 * np.log10(np.sqrt(np.mean(np.square(signal, dtype=np.float64))))


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE), np.float32)


def write_clips(sources, speaker: speakers.Speaker, folder: str, count: int = 12) -> None:
    clips = sources / "unpacked" / speaker.package / folder
    clips.mkdir(parents=True)
    for number in range(count):
        sf.write(clips / f"{number:02d}.wav", tone(0.8 + 0.05 * number, rate=16000), 16000)


# Clips


def test_trim_cuts_silence_and_keeps_the_margin():
    noise = np.random.default_rng(0).normal(0, 1e-3, RATE).astype(np.float32)  # 51 dB below
    trimmed = clips.trim(np.concatenate((noise, tone(1), noise)), RATE)
    assert len(trimmed) / RATE == pytest.approx(1 + 2 * clips.MARGIN * clips.FRAME_S, abs=0.02)


def test_trim_keeps_pauses_inside():
    clip = np.concatenate((tone(0.5), silence(0.5), tone(0.5)))
    np.testing.assert_array_equal(clips.trim(clip, RATE), clip)


@pytest.mark.parametrize(
    "clip", [silence(0), silence(0.01), silence(1), tone(1, 1e-4), tone(0.1)], ids=str
)
def test_trim_finds_no_speech(clip):
    assert len(clips.trim(clip, RATE)) == 0


@pytest.mark.parametrize("amplitude", [1e-3, 0.1, 0.99])
def test_level_is_the_same_for_quiet_and_loud(amplitude):
    assert rms_db(clips.level(tone(1, amplitude))) == pytest.approx(clips.LEVEL_DB, abs=1e-3)


def test_level_never_clips():
    clip = silence(1)
    clip[100] = 1.0  # so high a crest factor that the level cannot be reached
    levelled = clips.level(clip)
    assert np.abs(levelled).max() == pytest.approx(clips.PEAK)
    assert rms_db(levelled) < clips.LEVEL_DB


def test_read_clip_takes_the_voice_out_of_dc_rumble_and_a_silent_channel(tmp_path):
    rumble = 0.1 * np.sin(2 * np.pi * 20 * np.arange(44100) / 44100)
    voice = tone(1, 0.1, 44100) + rumble + 0.2
    sf.write(tmp_path / "clip.wav", np.stack((0 * voice, voice), axis=1), 44100)
    clip = clips.read_clip(tmp_path / "clip.wav", RATE)
    spectrum = np.abs(np.fft.rfft(clip * np.hanning(len(clip)), RATE))  # 1 Hz a bin
    assert len(clip) / RATE == pytest.approx(1, abs=0.02)
    assert rms_db(clip) == pytest.approx(clips.LEVEL_DB, abs=0.01)
    assert spectrum.argmax() == 440
    assert spectrum[:30].max() < 0.03 * spectrum[440]


def test_read_clip_passes_over_a_broken_file(tmp_path):
    (tmp_path / "clip.ogg").write_bytes(b"not audio")
    assert len(clips.read_clip(tmp_path / "clip.ogg", RATE)) == 0


# Utterances


def test_join_puts_gaps_between_clips_and_drops_a_short_rest():
    words = [tone(1.5), silence(0), tone(1.5), tone(1.5), tone(3.9)]
    (utterance,) = clips.join(iter(words), RATE)
    gap = silence(clips.GAP_S)
    expected = np.concatenate((tone(1.5), gap, tone(1.5), gap, tone(1.5)))
    np.testing.assert_array_equal(utterance, expected)


def test_join_bounds_the_length():
    lengths = np.random.default_rng(1).uniform(0.3, 30, 60)
    utterances = list(clips.join((tone(length) for length in lengths), RATE))
    seconds = np.array([len(utterance) for utterance in utterances]) / RATE
    assert seconds.min() >= clips.MIN_UTTERANCE_S
    assert seconds.max() <= clips.MIN_UTTERANCE_S + clips.GAP_S + clips.MAX_CLIP_S
    assert seconds.sum() > lengths.sum() - clips.MIN_UTTERANCE_S  # nothing else is lost


@pytest.mark.parametrize(
    ("path", "speaker"),
    [
        ("asterisk/sounds/en_US_f_Allison/digits/1.wav", "asterisk-en"),
        ("asterisk/sounds/en_US_f_Allison/silence/1.wav", None),
        ("asterisk/sounds/en_US_f_Allison/beep.wav", None),
        ("games/fillets-ng/sound/gods/cs/b-m-prosim.ogg", "fillets-cs-m"),
        ("games/fillets-ng/sound/gods/cs/b1-1.ogg", None),
        ("games/fillets-ng/sound/gods/nl/b-v-x-m-y.ogg", "fillets-nl-v"),
        ("ktuberling/sounds/ru/egypt_boat.wav", "ktuberling-ru-m"),
        ("ktuberling/sounds/ru/tux_hat.wav", "ktuberling-ru-f"),
        ("ktuberling/sounds/gl/hat.wav", None),
        ("tuxpaint/stamps/animals/fish_desc_ro.ogg", "tuxpaint-ro"),
        ("tuxpaint/stamps/animals/fish_desc_fr.ogg", None),
        ("tuxpaint/stamps/animals/fish.ogg", None),
    ],
)
def test_a_file_belongs_to_one_speaker_or_none(tmp_path, path, speaker):
    found = []
    for candidate in speakers.SPEAKERS:
        file = tmp_path / candidate.package / "usr/share" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        found += [candidate.name] * (file in speakers.find_clips(candidate, tmp_path))
    assert set(found) == ({speaker} if speaker else set())


def test_make_speaker_is_deterministic_and_16_bit(tmp_path):
    speaker = speakers.Speaker("one", "package", r"/voice/.*\.wav$")
    write_clips(tmp_path, speaker, "voice")
    digests = []
    for run in ("first", "second"):
        (tmp_path / run).mkdir()
        assert build.make_speaker(speaker, tmp_path, tmp_path / run, RATE)
        files = sorted((tmp_path / run / "one").iterdir())
        digests.append([hashlib.sha256(file.read_bytes()).hexdigest() for file in files])
    assert digests[0] == digests[1]
    info = sf.info(files[0])
    assert (info.samplerate, info.subtype, len(files)) == (RATE, "PCM_16", 3)


# Interrupted runs


def test_make_speaker_takes_nothing_half_made(tmp_path):
    speaker = speakers.Speaker("one", "package", r"/voice/.*\.wav$")
    write_clips(tmp_path, speaker, "voice")
    half = tmp_path / "parts" / "one"
    half.mkdir(parents=True)
    (half / "one-0099.flac").write_bytes(b"cut short")
    (tmp_path / "corpus").mkdir()
    build.make_speaker(speaker, tmp_path, tmp_path / "corpus", RATE)
    assert sorted(os.listdir(tmp_path / "corpus/one"))[-1] == "one-0002.flac"
    assert not half.exists()


def test_make_speaker_without_speech_leaves_no_folder(tmp_path):
    assert not build.make_speaker(speakers.Speaker("one", "p", "x"), tmp_path, tmp_path, RATE)
    assert not (tmp_path / "one").exists()


def test_a_corpus_is_whole_with_its_manifest_and_every_file_in_it(tmp_path):
    assert not build.is_whole(tmp_path)
    (tmp_path / "one").mkdir()
    sf.write(tmp_path / "one/a.flac", tone(4), RATE)
    assert not build.is_whole(tmp_path)
    build.write_manifest(tmp_path)
    assert build.is_whole(tmp_path)
    with (tmp_path / "manifest.csv").open() as file:
        assert list(csv.DictReader(file)) == [{"file": "one/a.flac", "seconds": "4.0"}]
    (tmp_path / "one/a.flac").unlink()
    assert not build.is_whole(tmp_path)


def package_of(content: bytes) -> packages.Package:
    return packages.Package("name", "name.deb", len(content), hashlib.sha256(content).hexdigest())


def test_a_corrupted_package_is_noticed(tmp_path):
    package = package_of(b"whole")
    assert not packages.is_intact(package, tmp_path)
    (tmp_path / "name.deb").write_bytes(b"who")
    assert not packages.is_intact(package, tmp_path)
    (tmp_path / "name.deb").write_bytes(b"whole")
    assert packages.is_intact(package, tmp_path)


def fake_apt_get(monkeypatch, offers: dict[str, bytes], delivered: dict[str, bytes], calls: list):
    """Stands in for apt-get: offers some packages, and delivers these or other bytes."""

    def apt_get(config, *arguments, cwd=None):
        name, out = arguments[-1], ""
        calls.append(arguments)
        if "--print-uris" in arguments and name in offers:
            digest = hashlib.sha256(offers[name]).hexdigest()
            out = f"'x://y/{name}.deb' {name}.deb {len(offers[name])} SHA256:{digest}\n"
        elif cwd is not None:
            with open(os.path.join(cwd, f"{name}.deb"), "wb") as file:
                file.write(delivered[name])
        return subprocess.CompletedProcess(arguments, 0, out, "E: no route\nmore\n")

    monkeypatch.setattr(packages, "_apt_get", apt_get)
    monkeypatch.setattr(packages.shutil, "which", lambda tool: tool)
    monkeypatch.setattr(packages, "write_sources", lambda packages, sources: None)


NAMES = sorted({speaker.package for speaker in speakers.SPEAKERS})
OFFERS = {name: name.encode() for name in NAMES}


def test_fetch_downloads_again_only_what_is_missing_or_corrupted(monkeypatch, tmp_path):
    calls = []
    fake_apt_get(monkeypatch, OFFERS, OFFERS, calls)
    (tmp_path / "debs").mkdir()
    for name in NAMES[1:]:
        (tmp_path / "debs" / f"{name}.deb").write_bytes(OFFERS[name])
    (tmp_path / "debs" / f"{NAMES[1]}.deb").write_bytes(b"cut short")
    packages.fetch_packages(tmp_path)
    assert [call for call in calls if len(call) == 2] == [("download", name) for name in NAMES[:2]]
    for name in NAMES:
        assert (tmp_path / "debs" / f"{name}.deb").read_bytes() == OFFERS[name]


def test_a_download_with_other_bytes_is_refused(monkeypatch, tmp_path):
    fake_apt_get(monkeypatch, OFFERS, dict.fromkeys(NAMES, b"other"), [])
    with pytest.raises(ValueError, match=r"download .* failed .*no route.*--data_folder"):
        packages.fetch_packages(tmp_path)
    assert not list((tmp_path / "debs").glob("*.deb"))


def test_a_missing_package_is_skipped_with_a_warning(monkeypatch, tmp_path, caplog):
    offers = {name: content for name, content in OFFERS.items() if name != "ktuberling-data"}
    fake_apt_get(monkeypatch, offers, offers, [])
    found = packages.find_packages(tmp_path)
    assert sorted(package.name for package in found) == sorted(offers)
    assert "ktuberling-data" in caplog.text


# No way to the packages


def test_too_few_packages_name_the_way_out(monkeypatch, tmp_path):
    fake_apt_get(monkeypatch, {"fillets-ng-data-cs": b"x"}, {}, [])
    with pytest.raises(ValueError, match=r"offers 1 of .*no route\).*--data_folder") as caught:
        build.build(str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("tool", ["apt-get", "dpkg-deb"])
def test_without_the_tools_the_way_out_is_named(monkeypatch, tmp_path, tool):
    which = shutil.which
    monkeypatch.setattr(
        packages.shutil, "which", lambda name: None if name == tool else which("true")
    )
    with pytest.raises(ValueError, match=rf"no {tool} here.*--data_folder") as caught:
        build.build(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_whole_corpus_needs_no_tools(monkeypatch, tmp_path):
    (tmp_path / "mini-8000/one").mkdir(parents=True)
    sf.write(tmp_path / "mini-8000/one/a.flac", tone(4), RATE)
    build.write_manifest(tmp_path / "mini-8000")
    monkeypatch.setenv("PATH", "")
    assert build.build(str(tmp_path)) == tmp_path / "mini-8000"
