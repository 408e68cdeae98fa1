"""Folders as a tree to choose from."""

from __future__ import annotations

from .conftest import Call


def folders(**images: int) -> list[dict[str, object]]:
    return [{"path": path, "images": count} for path, count in images.items()]


def test_counts_go_up_and_lonely_folders_are_named_together(call: Call) -> None:
    tree = call(
        "folders.js",
        "folderTree",
        folders(**{"/photos/2024": 5, "/photos/2024/june": 2, "/photos/2023/a/b": 9, "/photos/2022": 1}),
    )
    assert [(one["name"], one["path"], one["images"]) for one in tree] == [("/photos", "/photos", 17)]
    below = tree[0]["children"]
    assert [(one["name"], one["path"], one["images"]) for one in below] == [
        ("2023/a/b", "/photos/2023/a/b", 9),
        ("2024", "/photos/2024", 7),
        ("2022", "/photos/2022", 1),
    ]
    assert [(one["name"], one["images"]) for one in below[1]["children"]] == [("june", 2)]


def test_a_name_that_begins_another_is_not_its_parent(call: Call) -> None:
    (root,) = call("folders.js", "folderTree", folders(**{"/a/x": 1, "/a/xy": 2}))
    assert [(one["path"], one["images"]) for one in root["children"]] == [("/a/xy", 2), ("/a/x", 1)]
    assert call("folders.js", "withFolder", ["/a/xy"], "/a/x", True) == ["/a/xy", "/a/x"]


def test_folders_of_two_drives_and_the_root_itself(call: Call) -> None:
    tree = call("folders.js", "folderTree", folders(**{"C:\\a\\b": 1, "D:\\": 2}))
    assert [(one["path"], one["images"]) for one in tree] == [("D:", 2), ("C:\\a\\b", 1)]
    (root,) = call("folders.js", "folderTree", folders(**{"/": 1, "/a": 2}))
    assert (root["path"], root["name"], root["images"]) == ("/", "/", 3)


def test_no_folders_make_no_tree(call: Call) -> None:
    assert call("folders.js", "folderTree", []) == []


def test_a_chosen_folder_takes_the_place_of_what_lies_below(call: Call) -> None:
    assert call("folders.js", "withFolder", ["/a/b", "/c"], "/a", True) == ["/c", "/a"]
    assert call("folders.js", "withFolder", ["/a/b", "/a"], "/a", False) == ["/a/b"]


def test_every_folder_of_a_tree_has_a_handle_of_its_own(evaluate: Call) -> None:
    found = evaluate(
        """async () => {
            const { folderChoice } = await import("/page/folders.js");
            const folders = ["/a", "/a/b", "/a/b/c", "/d"].map((path) => ({ path, images: 1 }));
            const { element } = folderChoice(folders, () => {});
            return [...element.querySelectorAll("input[type=checkbox]")].map(({ id, dataset }) => [id, dataset.path]);
        }"""
    )
    assert found == [[f"folder-{number}", path] for number, path in enumerate(["/", "/a", "/a/b", "/a/b/c", "/d"])]
