"""The page in a real browser, Debian's chromium driven by playwright: `make test-web`."""

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks.voices import voice
from conftest import ROOT, TINY, tiny_sfsrnet
from sfsrnet_modules.publishing.export import export_model

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE = 60_000  # ms: a page that has to come up, a separation on a busy machine

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
if not Path(CHROMIUM).exists():
    pytest.skip(f"there is no {CHROMIUM}: make test-web installs it", allow_module_level=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The page's address, served with an untrained model."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "tiny.yaml").write_text(TINY)
    model = export_model(tiny_sfsrnet(), folder / "tiny.yaml", {}, folder / "tiny-model")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--model", str(model), "--port", str(port)]
    command = [sys.executable, "-m", "sfsrnet_modules.apps.page", *options]
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(address, process, folder / "log")
        yield address
    finally:
        process.terminate()
        process.wait(10)
    assert "Traceback" not in (folder / "log").read_text()


def _wait_for(address: str, process: subprocess.Popen, log: Path) -> None:
    for _ in range(240):
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(address).close()
            return
        except OSError:
            time.sleep(0.5)
    raise TimeoutError(log.read_text())


@pytest.fixture
def page(server):
    """The page in the browser, which gets nothing but from that server."""
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        outside = []

        def only_from_server(route):
            if route.request.url.startswith(server):
                route.continue_()
            else:
                outside.append(route.request.url)
                route.abort()

        page.route(re.compile("^https?://"), only_from_server)
        page.goto(server)
        page.get_by_role("button", name="Separate", exact=True).wait_for()
        yield page
        browser.close()
    assert outside == []


@pytest.fixture
def recordings(tmp_path) -> dict[str, Path]:
    """Stereo of 44.1 kHz, two single voices, one of them twice, and a file that is no audio."""
    rng = np.random.default_rng(0)
    first, second = (voice(pitch, 2.0, rng, 44100) for pitch in (100, 170))
    sounds = {"meeting": np.stack([first, second], axis=1), "second": second}
    sounds |= {"first": np.stack([first, first], axis=1)}
    paths = {name: tmp_path / f"{name}.wav" for name in [*sounds, "notes"]}
    for name, sound in sounds.items():
        soundfile.write(paths[name], sound, 44100)
    paths["notes"].write_text("not audio")
    return paths


def give(page, label: str, path: Path) -> None:
    """Drop a file into the component of that label, and wait until it is there."""
    file_input = page.locator("input[type=file]")
    component = page.locator(".block:visible").filter(has_text=label).filter(has=file_input)
    component.locator(file_input).set_input_files(path)
    page.locator(f"a[href$='/{path.name}']").wait_for()


def downloaded(page, name: str, folder: Path) -> soundfile.SoundFile:
    with page.expect_download() as download:
        page.locator(f"a[href$='/{name}']").click()
    assert download.value.suggested_filename == name
    download.value.save_as(folder / name)
    return soundfile.SoundFile(folder / name)


def test_a_recording_becomes_two_voices_and_a_picture(page, recordings, tmp_path):
    give(page, "Recording of people", recordings["meeting"])
    page.get_by_role("button", name="Separate", exact=True).click()
    picture = page.locator("img[src*='meeting_voices']")
    picture.wait_for()
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 400
    for number in (1, 2):
        wav = downloaded(page, f"meeting_voice{number}.wav", tmp_path)
        assert (wav.frames, wav.samplerate, wav.channels) == (88200, 44100, 1)
        player = page.get_by_test_id(f"waveform-Voice {number}").locator("..")
        player.get_by_text("0:02").wait_for()  # the browser could decode it
        assert player.get_by_label("Play").first.is_enabled()
    assert page.get_by_text("2 channels averaged to one").is_visible()


def test_levels_on_the_page_are_those_of_the_interface(page, server, recordings, tmp_path):
    quiet = 0.01 * soundfile.read(recordings["meeting"])[0]
    path = tmp_path / "quiet.wav"
    soundfile.write(path, quiet, 44100)
    give(page, "Recording of people", path)
    page.get_by_role("button", name="Separate", exact=True).click()
    page.locator("img[src*='quiet_voices']").wait_for()
    peaks = [np.abs(downloaded(page, f"quiet_voice{i}.wav", tmp_path).read()).max() for i in (1, 2)]
    assert max(peaks) < 3 * np.abs(quiet).max()  # a player that normalises would give 1


def test_an_unreadable_file_gets_one_sentence(page, recordings):
    give(page, "Recording of people", recordings["notes"])
    page.get_by_role("button", name="Separate", exact=True).click()
    message = page.get_by_text("notes.wav can't be read as audio")
    message.wait_for()
    assert "Traceback" not in page.content() and "/tmp" not in message.inner_text()


def test_the_button_without_a_recording_says_what_is_missing(page):
    page.get_by_role("button", name="Separate", exact=True).click()
    page.get_by_text("Give a recording first").wait_for()


def test_two_recordings_are_mixed_and_scored(page, recordings, tmp_path):
    page.get_by_role("tab", name="Mix two and score").click()
    give(page, "First speaker", recordings["first"])
    give(page, "Second speaker", recordings["second"])
    page.get_by_label("number input for Level of the first speaker").fill("6")
    page.get_by_role("button", name="Mix, separate and score").click()
    page.get_by_text("mean of both").wait_for()
    assert page.get_by_text("first.wav: 2 channels averaged to one").is_visible()
    cells = page.locator("td").all_inner_texts()
    scores = [float(cell.split()[0]) for cell in cells if cell.endswith("dB")]
    assert scores[0] == pytest.approx(6, abs=0.7) and scores[3] == pytest.approx(-6, abs=0.7)
    assert scores[2] == pytest.approx(scores[1] - scores[0], abs=0.11)
    picture = page.locator("img[src*='mixture_voices']")
    picture.wait_for()
    height = picture.evaluate("image => image.decode().then(() => image.naturalHeight)")
    assert height > 600  # three rows of 264: the mixture and both voices
    assert downloaded(page, "first_voice.wav", tmp_path).frames == 16000
