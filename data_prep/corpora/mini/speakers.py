"""The voices of the mini corpus, and where their clips lie."""

import re
from pathlib import Path
from typing import NamedTuple


class Speaker(NamedTuple):
    """One voice: the package that holds it, and a regular expression for its clips' paths there."""

    name: str
    package: str
    clips: str


def _asterisk(language: str) -> Speaker:
    not_speech = "beep|beeperr|(a|de)scending-2tone|tt-monkeys"
    clips = rf"/sounds/{language}_[^/]+/(?!silence/|({not_speech})\.wav).*\.wav$"
    return Speaker(f"asterisk-{language}", f"asterisk-core-sounds-{language}-wav", clips)


def _fillets(language: str, actor: str) -> Speaker:
    clips = rf"/sound/[^/]+/{language}/[^/-]+-{actor}-[^/]*\.ogg$"
    return Speaker(f"fillets-{language}-{actor}", f"fillets-ng-data-{language}", clips)


def _ktuberling(name: str, clips: str = ".*") -> Speaker:
    clips = rf"/ktuberling/sounds/{name[:2]}/{clips}\.(wav|ogg)$"
    return Speaker(f"ktuberling-{name}", "ktuberling-data", clips)


def _tuxpaint(language: str, folder: str = "") -> Speaker:
    clips = rf"/stamps/{folder}.*_desc_{language}\.ogg$"
    return Speaker(f"tuxpaint-{language}", "tuxpaint-stamps-default", clips)


# One voice each. Where a language was recorded by two people, their median pitch tells the clips
# apart; what stays mixed is left out. Left out as a whole: asterisk es (the person of en); as
# clipped or noisy tuxpaint es, da and ktuberling gl, sl; as shorter than a minute or as two voices
# tuxpaint lt, nl, ml and the other languages of ktuberling.
SPEAKERS = (
    *(_asterisk(language) for language in ("en", "fr", "it", "ru")),
    *(_fillets(language, actor) for language in ("cs", "nl") for actor in "mv"),
    _ktuberling("ca", "(butterflies|egypt|moon|patata|robot|tv|xmas)_.*"),  # woman; the rest a man
    _ktuberling("da", "(tux|xmas)[_-].*"),  # woman; the man's clips rumble
    *(_ktuberling(language) for language in ("de", "el", "en")),
    _ktuberling(
        "fr", "(egypte|lune|noel|papillons|pizzeria|robin|robot|tv)[_-].*"
    ),  # 44.1 kHz only
    _ktuberling("lt"),
    _ktuberling("ru-m", "(egypt|moon|pizzeria)_.*"),
    _ktuberling("ru-f", "(tux|xmas)[_-].*"),  # tv is of both
    *(_ktuberling(language) for language in ("uk", "wa")),
    *(_tuxpaint(language) for language in ("be", "bg", "ca", "el", "ro", "ru")),
    _tuxpaint("fr", "(?!animals/)"),  # animals are by two voices
)
MIN_SPEAKERS = 6  # two each to train, validate and test on


def find_clips(speaker: Speaker, unpacked: Path) -> list[Path]:
    """Find the recordings of one speaker.

    Arguments
    ---------
    speaker : Speaker
        Whose clips to find.
    unpacked : Path
        Folder of the unpacked packages.

    Returns
    -------
    list[Path]
        Files in a fixed order.
    """
    root = unpacked / speaker.package
    found = (path for path in root.rglob("*.*") if path.is_file())
    return sorted(path for path in found if re.search(speaker.clips, path.as_posix()))
