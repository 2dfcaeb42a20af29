"""Files are written whole or not at all."""

from pathlib import Path

from icl_lib.paths import write_atomic, write_json


def test_who_has_a_file_open_never_sees_half_of_the_next(tmp_path: Path) -> None:
    """The new content is another file that takes the name; under the old one nothing changes."""
    path = tmp_path / "new" / "table.csv"
    write_atomic(path, b"old, and long enough to be read in two halves")
    with path.open("rb", buffering=0) as reader:  # nothing is read before it is asked for
        first = reader.read(4)
        write_atomic(path, b"new")
        assert first + reader.read() == b"old, and long enough to be read in two halves"
    assert path.read_bytes() == b"new"
    assert [file.name for file in path.parent.iterdir()] == ["table.csv"]


def test_equal_contents_give_equal_files(tmp_path: Path) -> None:
    for name, content in (("a", {"x": 1, "y": "°"}), ("b", {"y": "°", "x": 1})):
        write_json(tmp_path / name, content)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
