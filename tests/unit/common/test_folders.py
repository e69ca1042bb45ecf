import logging

from sfsrnet_modules.common.folders import files_below


def tree(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def below(folder) -> list[str]:
    return [str(path.relative_to(folder)) for path in files_below(folder)]


def test_links_in_a_circle_add_nothing_and_are_named_once(tmp_path, caplog):
    tree(tmp_path, "s1/a.wav", "s2/b.wav")
    (tmp_path / "s1" / "up").symlink_to(tmp_path)
    (tmp_path / "s2" / "back").symlink_to("../s1")
    with caplog.at_level(logging.INFO):
        assert below(tmp_path) == ["s1/a.wav", "s2/b.wav"]
    assert (
        len(caplog.records) == 1
        and "2 links lead to what is met already: s1/up, s2/back" in caplog.text
    )


def test_a_file_goes_by_its_own_name_before_that_of_a_link(tmp_path):
    tree(tmp_path, "s2/b.wav", "s2/c.wav")
    (tmp_path / "a").symlink_to("s2")
    (tmp_path / "a.wav").symlink_to("s2/b.wav")
    assert below(tmp_path) == ["s2/b.wav", "s2/c.wav"]


def test_links_to_elsewhere_are_followed(tmp_path):
    tree(tmp_path, "store/b.wav", "store/deep/c.wav", "corpus/s1/a.wav")
    (tmp_path / "corpus" / "s2").symlink_to(tmp_path / "store")
    (tmp_path / "corpus" / "s1" / "b.wav").symlink_to(tmp_path / "store" / "b.wav")
    assert below(tmp_path / "corpus") == ["s1/a.wav", "s2/b.wav", "s2/deep/c.wav"]
    (tmp_path / "all").symlink_to(tmp_path / "corpus")
    assert len(below(tmp_path / "all")) == 3


def test_links_to_nothing_are_listed(tmp_path):
    tree(tmp_path, "a.wav")
    (tmp_path / "self.wav").symlink_to("self.wav")
    (tmp_path / "gone.wav").symlink_to("nowhere.wav")
    assert below(tmp_path) == ["a.wav", "gone.wav", "self.wav"]


def test_what_is_hidden_is_left_out(tmp_path):
    tree(tmp_path, ".DS_Store", "._x.wav", ".Trash/y.wav", "s1/._z.wav", "s1/z.wav")
    assert below(tmp_path) == ["s1/z.wav"]
