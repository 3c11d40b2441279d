"""The picture of the rooms is what the code's imports say."""

import rooms


def test_the_picture_is_drawn_from_todays_imports() -> None:
    assert rooms.PICTURE.read_text(encoding="utf-8") == rooms.svg(), "run: python docs/site/rooms.py"


def test_every_folder_is_a_room() -> None:
    folders = {path.parent.name for path in (rooms.ROOT / "minidbp").glob("*/__init__.py")}
    assert folders == set(rooms.rooms())


def test_an_import_that_a_longer_path_implies_is_left_out() -> None:
    edges = {"a": {"b", "c", "d"}, "b": {"c"}, "c": set(), "d": set()}
    assert rooms.without_shortcuts(edges) == {"a": {"b", "d"}, "b": {"c"}, "c": set(), "d": set()}
