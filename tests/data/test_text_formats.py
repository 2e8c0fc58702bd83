"""One table of mistakes and spellings for the formats that are text: each must give the same rows, or say what it left out.

Each format has four images, one instance each (`battery/test_formats.py`); a change is made to the text of its annotation
file, or to that of its second image where each image has a file of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from battery import test_formats as battery

from fiducial.data import annotations, checking
from fiducial.errors import UserError

Change = Callable[[str], str]


class Form(NamedTuple):
    """How a format's sample is written and where its second instance stands."""

    write: Callable[[Path], object]
    file: str
    line: int  # of the second instance's first numbers, from 0
    separator: str = " "
    one_a_file: bool = False


def write_csv(root: Path) -> None:
    battery.save(root, battery.truth(2)[0])
    rows = ["image,nose_x,nose_y,tip_x,tip_y", *(f"face_{i}.png,{i + 1.5},{i + 3},9.25,{8 + i}" for i in range(4))]
    (root / "test.csv").write_text("\n".join(rows) + "\n")


WFLW = "WFLW_annotations/list_98pt_rect_attr_train_test/list_98pt_rect_attr_test.txt"
FORMS = {
    "csv of names": Form(write_csv, "test.csv", 2, ","),
    "csv of pixels": Form(battery.write_csv_table, "test.csv", 2, ","),
    "wflw": Form(battery.write_wflw, WFLW, 1),
    "300-W": Form(battery.write_pts, "helen/testset/face_1.pts", 3, one_a_file=True),
    "lapa": Form(battery.write_lapa, "test/landmarks/face_1.txt", 1, one_a_file=True),
    "yolo": Form(battery.write_yolo_pose, "labels/test/face_1.txt", 0, one_a_file=True),
}
ROWS = [name for name, form in FORMS.items() if not form.one_a_file]
BY_NAME = ["csv of names", "wflw"]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[str, list[float]]]]:
    """What each sample has, unchanged: name of the image and points of each row."""
    root = tmp_path_factory.mktemp("samples")
    for name, form in FORMS.items():
        form.write(root / name)
    return {name: read(root / name)[0] for name in FORMS}


def read(root: Path) -> tuple[list[tuple[str, list[float]]], str, str]:
    """The rows, what is said of those that are left out, and the notes."""
    instances, problems = annotations.load(root, "test")
    rows = [
        (instances.images.name(int(row)).rpartition("/")[2].rpartition("#")[2], xy.ravel().tolist())
        for row, xy in zip(instances.image_row, instances.xy.round(3), strict=True)
    ]
    wrong = checking.without_notes(problems)
    assert all(str(root) in str(problem) or ": image " in str(problem) for problem in problems)
    return rows, "\n".join(map(str, wrong)), "\n".join(str(line) for line in problems if line.is_note)


def changed(root: Path, name: str, change: Callable[[bytes], bytes]) -> Path:
    FORMS[name].write(root)
    file = root / FORMS[name].file
    file.write_bytes(change(file.read_bytes()))
    return root


def in_line(name: str, change: Callable[[list[str]], object]) -> Callable[[bytes], bytes]:
    """Changes the fields of the second instance's line."""

    def of_bytes(data: bytes) -> bytes:
        form = FORMS[name]
        lines = data.decode().split("\n")
        fields = lines[form.line].split(form.separator)
        change(fields)
        lines[form.line] = form.separator.join(fields)
        return "\n".join(lines).encode()

    return of_bytes


# Another spelling of the same.
SAME: dict[str, Callable[[bytes], bytes]] = {
    "a byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "UTF-16 with its mark": lambda data: data.decode().encode("utf-16"),
    "UTF-16 big-endian with its mark": lambda data: b"\xfe\xff" + data.decode().encode("utf-16-be"),
    "lines that end as on Windows": lambda data: data.replace(b"\n", b"\r\n"),
    "lines that end as on old Macs": lambda data: data.replace(b"\n", b"\r"),
    "no end of the last line": lambda data: data.rstrip(b"\n"),
    "empty lines at the end": lambda data: data + b"\n\n",
    "blanks at the ends of lines": lambda data: data.replace(b"\n", b" \n"),
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("spelling", SAME)
def test_spellings(tmp_path: Path, samples: dict[str, list], name: str, spelling: str) -> None:
    rows, wrong, _ = read(changed(tmp_path / "set", name, SAME[spelling]))
    assert (rows, wrong) == (samples[name], "")


@pytest.mark.parametrize("name", [name for name, form in FORMS.items() if form.separator == " "])
def test_tabs_are_blanks(tmp_path: Path, samples: dict[str, list], name: str) -> None:
    rows, wrong, _ = read(changed(tmp_path / "set", name, lambda data: data.replace(b" ", b"\t")))
    assert (rows, wrong) == (samples[name], "")


# Changes of the fields of one instance's line, and words that are said of it.
def put(place: int, word: str) -> Callable[[list[str]], object]:
    return lambda fields: fields.__setitem__(place, word)


LEFT_OUT: dict[str, tuple[Callable[[list[str]], object], str]] = {
    "a word": (put(1, "left"), "left"),
    "infinity": (put(1, "inf"), "inf"),
    "a number that no image has": (put(1, "1e30"), "1e30"),
    "a number without end": (put(1, "9" * 400), "99999"),
    "a number in another script": (put(1, "\u0663x"), "\u0663x"),
    "a field more": (lambda fields: fields.insert(1, "5"), "expected"),
    "a field less": (lambda fields: fields.pop(1), "expected"),
    "an empty line's worth": (lambda fields: fields.__setitem__(slice(None), ["?"]), "expected"),
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("mistake", LEFT_OUT)
def test_an_instance_that_can_not_be_read_is_left_out(
    tmp_path: Path, samples: dict[str, list], name: str, mistake: str
) -> None:
    change, said = LEFT_OUT[mistake]
    rows, wrong, _ = read(changed(tmp_path / "set", name, in_line(name, change)))
    expected = [row for place, row in enumerate(samples[name]) if place != 1]
    assert [xy for _, xy in rows] == [xy for _, xy in expected]
    assert wrong.count("\n") == 0
    assert said in wrong
    assert Path(FORMS[name].file).name in wrong
    assert wrong.endswith("left out")


# What makes a whole file no text, or leaves nothing of it.
REFUSED: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "Latin-1": (lambda data: data + b"caf\xe9 1 2\n", "not text in UTF-8 ("),
    "UTF-16 without its mark": (lambda data: data.decode().encode("utf-16-le"), "zero byte, as UTF-16"),
    "half of UTF-16": (lambda data: data.decode().encode("utf-16")[:-1], "not text in UTF-16"),
    "a zero byte": (lambda data: data + b"\0", "zero byte"),
    "an image": (lambda data: cv2.imencode(".png", np.zeros((9, 9, 3), np.uint8))[1].tobytes(), "not text in UTF-8 ("),
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("kind", REFUSED)
def test_bytes_that_are_no_text(tmp_path: Path, samples: dict[str, list], name: str, kind: str) -> None:
    """One file of many is left out; a list of all is refused."""
    change, said = REFUSED[kind]
    root = changed(tmp_path / "set", name, change)
    if FORMS[name].one_a_file:
        rows, wrong, _ = read(root)
        assert rows == [row for place, row in enumerate(samples[name]) if place != 1]
        assert said in wrong
    else:
        with pytest.raises(UserError) as raised:
            read(root)
        assert said in str(raised.value)
        assert Path(FORMS[name].file).name in str(raised.value)


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("rest", ["", "\n\n", "only"])
def test_nothing_in_it(tmp_path: Path, name: str, rest: str) -> None:
    head = 1 if name.startswith("csv") else 0
    with pytest.raises(UserError) as raised:
        read(
            changed(
                tmp_path / "set", name, lambda data: (data.split(b"\n")[0] if rest and head else b"") + rest.encode()
            )
        )
    assert str(tmp_path / "set") in str(raised.value)


# Names as other machines and systems write them; the images lie where they lay.
NAMES: dict[str, Callable[[str], str]] = {
    "an absolute path of another machine": lambda name: f"/data/upload/3/{name}",
    "an absolute path of Windows": lambda name: "D:\\sets\\faces\\" + name.replace("/", "\\"),
    "a folder above": lambda name: f"../../{name}",
    "quoted for the net": lambda name: name.replace("_", "%5F"),
    "capitals": lambda name: name.upper() if "/" not in name else name.replace("face", "FACE"),
    "from here": lambda name: f"./{name}",
}


@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.parametrize("spelling", NAMES)
def test_names_of_images(tmp_path: Path, samples: dict[str, list], name: str, spelling: str) -> None:
    names = [f"face_{i}.png" if name.startswith("csv") else f"7--Cheering/face_{i}.png" for i in range(4)]

    def renamed(data: bytes) -> bytes:
        text = data.decode()
        for old in names:
            text = text.replace(old, NAMES[spelling](old))
        return text.encode()

    rows, wrong, notes = read(changed(tmp_path / "set", name, renamed))
    assert (rows, wrong) == (samples[name], "")
    assert ("4 of 4 images are not where their names say" in notes) == (spelling != "from here")


@pytest.mark.parametrize("name", BY_NAME)
def test_two_names_that_would_be_one_image(tmp_path: Path, samples: dict[str, list], name: str) -> None:
    """Neither is guessed."""

    def two(data: bytes) -> bytes:
        first = "face_1.png" if name.startswith("csv") else "7--Cheering/face_1.png"
        second = first.replace("_1", "_2")
        return data.decode().replace(first, f"/a/{first}").replace(second, f"/b/{first}").encode()

    rows, wrong, _ = read(changed(tmp_path / "set", name, two))
    assert [xy for _, xy in rows] == [xy for place, (_, xy) in enumerate(samples[name]) if place in (0, 3)]
    assert wrong.count("the picture is missing") == 2


HEAD = "image,nose_x,nose_y,tip_x,tip_y"
# Other headers of the same table, each cell's text, and what the notes say.
TABLES: dict[str, tuple[Change, str]] = {
    "quoted cells": (
        lambda text: "\n".join(",".join(f'"{cell}"' for cell in line.split(",")) for line in text.split("\n")),
        "",
    ),
    "semicolons": (lambda text: text.replace(",", ";"), ""),
    "tabs": (lambda text: text.replace(",", "\t"), ""),
    "blanks in the header": (lambda text: text.replace(HEAD, HEAD.replace(",", ", ")), ""),
    "an index without a name": (
        lambda text: "\n".join(
            (f"{place - 1 if place else ''}," if line else "") + line for place, line in enumerate(text.split("\n"))
        ),
        "passed over: [0]",
    ),
    "an index that was read": (
        lambda text: "\n".join(
            (f"{place or 'Unnamed: 0'}," if line else "") + line for place, line in enumerate(text.split("\n"))
        ),
        "passed over: Unnamed: 0",
    ),
    "more columns": (
        lambda text: "\n".join(
            line + (",96,80,train" if place else ",width,height,split") * bool(line)
            for place, line in enumerate(text.split("\n"))
        ),
        "passed over: width, height, split",
    ),
    "dots": (lambda text: text.replace("_x", ".x").replace("_y", ".y"), ""),
    "capitals": (lambda text: text.replace("image", "Image").replace("_x", "_X").replace("_y", "_Y"), ""),
    "the axis first": (lambda text: text.replace(HEAD, "file,x_nose,y_nose,x_tip,y_tip"), ""),
    "numbers": (lambda text: text.replace(HEAD, "image,x0,y0,x1,y1"), ""),
    "numbers alone": (lambda text: text.replace(HEAD, ",0,1,2,3"), ""),
    "all x before all y": (
        lambda text: "\n".join(
            ",".join([cells[0], cells[1], cells[3], cells[2], cells[4]]) if len(cells := line.split(",")) == 5 else ""
            for line in text.split("\n")
        ),
        "",
    ),
    "a comma at each end": (lambda text: text.replace("\n", ",\n"), "passed over"),
    "no space after the picture's name": (lambda text: text.replace("image,", "image_name,"), ""),
}


@pytest.mark.parametrize("table", TABLES)
def test_usual_tables(tmp_path: Path, samples: dict[str, list], table: str) -> None:
    change, note = TABLES[table]
    name = "csv of names"
    rows, wrong, notes = read(changed(tmp_path / "set", name, lambda data: change(data.decode()).encode()))
    assert (rows, wrong) == (samples[name], "")
    assert note in notes
    assert ("passed over" in notes) == bool(note)


@pytest.mark.parametrize("cell", ["", " ", "NA", "n/a", "nan", "NaN", "None", "null", "-"])
def test_cells_of_missing_points(tmp_path: Path, cell: str) -> None:
    root = tmp_path / "set"
    write_csv(root)
    (root / "test.csv").write_text(f"{HEAD}\nface_0.png,1,2,{cell},4\nface_1.png,1,2,3,4\n")
    instances, problems = annotations.load(root, "test")
    assert instances.visibility.tolist() == [[2, 0], [2, 2]]
    assert not checking.without_notes(problems)


def test_a_column_of_visibility(tmp_path: Path) -> None:
    root = tmp_path / "set"
    write_csv(root)
    rows = ["1,2,3,4,0", "1,2,3,4,1", "1,2,3,4,2", "1,2,3,4,3"]
    text = "\n".join(f"face_{place}.png,{row}" for place, row in enumerate(rows))
    (root / "test.csv").write_text(f"{HEAD},tip_v\n{text}\n")
    instances, problems = annotations.load(root, "test")
    assert instances.visibility.tolist() == [[2, 0], [2, 1], [2, 2]]
    assert "v is 3 at point 'tip'" in str(checking.without_notes(problems)[0])


def test_one_image_in_two_rows_is_two_instances(tmp_path: Path) -> None:
    for name in BY_NAME:
        root = changed(tmp_path / name, name, lambda data: data + data.rstrip(b"\n").rpartition(b"\n")[2] + b"\n")
        instances, _ = annotations.load(root, "test")
        assert instances.image_row.tolist() == [0, 1, 2, 3, 3]
        assert len(set(instances.annotation_id.tolist())) == 5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "face_0.png,1,2,3,4\nface_1.png,1,2,3,4\n",
            "its columns are face_0.png, 1, 2, 3, 4; expected `image` and NAME_x",
        ),
        ("image,x_min,y_min,x_max,y_max\nface_0.png,1,2,3,4\n", "x_min, y_min, x_max, y_max; expected"),
        ("image,x1,y1,x2,y2,class\nface_0.png,1,2,3,4,cat\n", "x1, y1, x2, y2, class; expected"),
        ("image,label\nface_0.png,cat\n", "its columns are image, label; expected"),
    ],
)
def test_tables_that_are_no_annotations(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "test.csv").write_text(text)
    with pytest.raises(UserError, match="no annotations in a known format") as raised:
        annotations.load(tmp_path, "test")
    assert said in str(raised.value)


# Counts that a file states, and numbers in data.yaml: none drives a loop or an allocation.
@pytest.mark.parametrize("stated", ["67", "1e29", "-1", "9" * 5000, "sixty-eight", ""])
@pytest.mark.parametrize("name", ["300-W", "lapa"])
def test_a_stated_count_of_points(tmp_path: Path, samples: dict[str, list], name: str, stated: str) -> None:
    old = b"n_points: 68" if name == "300-W" else b"106\n"
    new = b"n_points: " + stated.encode() if name == "300-W" else stated.encode() + b"\n"
    rows, wrong, _ = read(changed(tmp_path / "set", name, lambda data: data.replace(old, new, 1)))
    assert rows == [row for place, row in enumerate(samples[name]) if place != 1]
    assert "face_1" in wrong
    assert len(wrong) < 500 + len(str(tmp_path))


@pytest.mark.parametrize("name", ["300-W", "lapa"])
def test_the_first_file_does_not_decide_alone(tmp_path: Path, samples: dict[str, list], name: str) -> None:
    """A count that differs in one file is that file's fault, whichever it is."""
    FORMS[name].write(tmp_path / "set")
    file = tmp_path / "set" / FORMS[name].file.replace("face_1", "face_0")
    lines = file.read_text().splitlines()
    lines[0] = "105" if name == "lapa" else lines[0]
    file.write_text("\n".join(lines[:-1]) + "\n")
    rows, wrong, _ = read(tmp_path / "set")
    assert rows == samples[name][1:]
    assert "face_0" in wrong


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("kpt_shape: [1e29, 3]", "kpt_shape is"),
        ("kpt_shape: [99999999999999999999, 3]", "kpt_shape"),
        ("kpt_shape: [999999999, 3]", "expected 3000000002"),
        ("kpt_shape: [4, 4]", 'kpt_shape is ["4", "4"], expected [number of points, 2 or 3]'),
        ("kpt_shape: [-4, 3]", "kpt_shape is"),
        ("kpt_shape: 4", "kpt_shape is 4"),
        ("kpt_shape: [4, 3]\nflip_idx: [0, 1, 3]", "expected 4 numbers"),
        ("kpt_shape: [4, 3]\nflip_idx: [0, 1, 3, 9]", "expected 4 numbers from 0 to 3"),
        ("kpt_shape: [4, 3]\nflip_idx: [0, 1, 3, x]", "flip_idx: x is no whole number"),
        ("kpt_shape: [4, 3]\nkpt_names: {0: [a, b]}", "kpt_names has 2 names"),
        ("kpt_shape: [4, 3]\nkpt_names: {0: [a, b, c, [d]]}", "kpt_names: expected a list of 4 names"),
        (
            "kpt_shape: [4, 3]\na: &a [x, x, x, x, x, x, x, x, x]\n"
            + "".join(
                f"{new}: &{new} [{', '.join(['*' + old] * 9)}]\n"
                for old, new in zip("abcdefgh", "bcdefghi", strict=True)
            ),
            "more than 200000 values",
        ),
        ("kpt_shape: [4, 3]\na: &a [*a]", "*a stands for nothing before it"),
        ("kpt_shape: [4, 3]\na: " + "[" * 9000, "more than 50 levels"),
        ("kpt_shape: [4, 3]\nb: " + "x" * 2**20, "the limit is 1; raise it by FIDUCIAL_MAX_TEXT_MB"),
        ("kpt_shape: [4, 3\n", "not YAML"),
        ("x: kpt_shape\n", "expected a field kpt_shape"),
        ("kpt_shape: [4, 3]\nt: caf\u00e9", None),
        ("kpt_shape: !!python/tuple [4, 3]\nd: 2024-99-99\ne: !!int x", None),
        ("kpt_shape: [4, 3]\nval:\nval: ~\nnames: [pen]", None),
    ],
)
def test_data_yaml(tmp_path: Path, samples: dict[str, list], settings: str, said: str | None) -> None:
    root = tmp_path / "set"
    battery.write_yolo_pose(root)
    (root / "data.yaml").write_text(f"test: images/test\n{settings}\n", encoding="utf-8")
    if said is None:
        assert read(root)[:2] == (samples["yolo"], "")
        return
    with pytest.raises(UserError) as raised:
        read(root)
    assert said in str(raised.value)
    assert "data.yaml" in str(raised.value)
    assert len(str(raised.value)) < 1300


def test_places_of_data_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, samples: dict[str, list]) -> None:
    """Relative ones mean its folder and never the working directory; a list of images, too."""
    other, root = tmp_path / "other", tmp_path / "set"
    battery.write_yolo_pose(other)
    battery.write_yolo_pose(root)
    for file in (other / "labels" / "test").iterdir():
        file.write_text(file.read_text().replace("0", "0.001", 1))
    (root / "test.txt").write_text("".join(f"./images/test/face_{i}.png\n" for i in range(4)))
    monkeypatch.chdir(other)
    for entry in (
        "path: .\ntest: images/test",
        "test: ./images/test",
        "path: ../set\ntest: images/test",
        "test: test.txt",
        "path: /somewhere/else\ntest: [images/test]",
    ):
        (root / "data.yaml").write_text(f"{entry}\nkpt_shape: [4, 3]\n")
        assert read(Path("../set").resolve())[0] == samples["yolo"]
        assert read(Path("../set"))[0] == samples["yolo"]
    (root / "data.yaml").write_text("test: /\nkpt_shape: [4, 3]\n")
    with pytest.raises(UserError, match="holds more than the data set"):
        read(root)


def test_classes_of_yolo(tmp_path: Path) -> None:
    """Each class has points of its own, so that one is chosen; with its names and its mirror image."""
    from fiducial.data.source import Source

    root = tmp_path / "set"
    battery.write_yolo_pose(root)
    for place in (1, 3):
        file = root / "labels" / "test" / f"face_{place}.txt"
        file.write_text("2" + file.read_text()[1:])
    (root / "data.yaml").write_text(
        "test: images/test\nkpt_shape: [4, 3]\nnames: {0: cat, 2: man}\n"
        "kpt_names: {0: [a, b, c, d], 2: [e, f, g, h]}\nflip_idx: {0: [1, 0, 2, 3], 2: [0, 1, 3, 2]}\n"
    )
    with pytest.raises(UserError, match="several classes have keypoints: 'cat', 'man'; choose one with --category"):
        annotations.load(root, "test")
    for category in ("man", "2"):
        instances, _ = annotations.load(Source(root, category=category), "test")
        assert instances.skeleton.points == ("e", "f", "g", "h")
        assert instances.skeleton.flip_pairs == ((2, 3),)
        assert [Path(instances.images.name(row)).stem for row in instances.image_row] == ["face_1", "face_3"]
    with pytest.raises(UserError, match=r"no class 'dog'\. Known: cat, man"):
        annotations.load(Source(root, category="dog"), "test")


@pytest.mark.parametrize("name", ["wflw", "300-W", "lapa", "yolo", "csv of names"])
def test_points_are_those_of_the_upright_image(tmp_path: Path, samples: dict[str, list], name: str) -> None:
    """Of a photo that a camera turned by EXIF, where no format but COCO's could say otherwise."""
    root = tmp_path / "set"
    FORMS[name].write(root)
    suffixed = next(file for file in root.rglob("face_1.png") if "train" not in str(file.relative_to(root)))
    height, width = cv2.imread(str(suffixed)).shape[:2]
    data = cv2.imencode(".jpg", np.full((width, height, 3), 99, np.uint8))[1].tobytes()  # stored on its side
    orientation = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    turned = data[:2] + b"\xff\xe1" + (len(orientation) + 2).to_bytes(2, "big") + orientation + data[2:]
    suffixed.write_bytes(turned)  # a JPEG by its bytes, whatever it is called
    instances, problems = annotations.load(root, "test")
    assert not checking.without_notes(problems)
    assert instances.image_size[instances.image_row[1]].tolist() == [width, height]
    assert instances.xy.round(3).reshape(4, -1).tolist() == [xy for _, xy in samples[name]]


def test_what_data_yaml_does_not_say_of_its_labels_is_told(tmp_path: Path, samples: dict[str, list]) -> None:
    """A class that `names` has not, a split whose folder is not there, a name of a point that is there twice."""
    root = tmp_path / "set"
    battery.write_yolo_pose(root)
    label = root / "labels" / "test" / "face_1.txt"
    label.write_text("7" + label.read_text()[1:])
    settings = "test: images/test\nval: ../images/nowhere\nkpt_shape: [4, 3]\nnames: [cat]\n"
    (root / "data.yaml").write_text(settings)
    rows, wrong, notes = read(root)
    assert rows == [samples["yolo"][i] for i in (0, 2, 3)]
    assert "face_1.txt: line 1: class 7 is none of the 1 that `names` has; left out" in wrong
    assert "val: names ../images/nowhere, where no labels are" in notes
    (root / "data.yaml").write_text(f"{settings}kpt_names: {{0: [a, b, a, d]}}\n")
    with pytest.raises(UserError, match="kpt_names: 'a' stands there twice"):
        read(root)


def test_unknown_pairs_are_not_written_as_none(tmp_path: Path) -> None:
    """Where there is no flip_idx, Ultralytics mirrors no image; its identity would say that no points change names."""
    from fiducial.data import conversion
    from fiducial.data.source import Source

    battery.write_yolo_pose(tmp_path / "set")
    (tmp_path / "set" / "data.yaml").write_text("test: images/test\nkpt_shape: [4, 3]\n")
    instances, _ = annotations.load(Source(tmp_path / "set"), "test")
    assert instances.skeleton.flip_pairs is None
    lost = conversion.write_splits({"test": instances}, tmp_path / "out", "yolo")
    assert "flip_idx" not in (tmp_path / "out" / "data.yaml").read_text()
    assert any("flip_idx is left out" in line for line in lost)
