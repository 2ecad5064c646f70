"""YAML files: version 1.2 rules, lines, and what is no YAML at all."""

import datetime as dt

import pytest

from backtest_farm.errors import InputError
from backtest_farm.spec import read_yaml


def written(folder, text):
    path = folder / "sweep.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_values_follow_yaml_1_2(tmp_path):
    text = "a: 1e-3\nb: on\nc: NO\nd: 12:30:00\ne: 2017-10-31\nf: 012\ng: '5'\nh: true\n"
    assert read_yaml(written(tmp_path, text)).content == {
        "a": 0.001,
        "b": "on",
        "c": "NO",
        "d": "12:30:00",
        "e": dt.date(2017, 10, 31),
        "f": 12,
        "g": "5",
        "h": True,
    }


def test_anchors_and_a_byte_order_mark_are_fine(tmp_path):
    text = "\ufeffa: &x {b: [1, 2]}\nc: {<<: *x, d: 3}\n"
    assert read_yaml(written(tmp_path, text)).content == {"a": {"b": [1, 2]}, "c": {"b": [1, 2], "d": 3}}


BILLION_LAUGHS = "a0: &a0 [1]\n" + "".join(f"a{i}: &a{i} [{f'*a{i - 1},' * 10}]\n" for i in range(1, 12))
MERGED_LAUGHS = "a0: &a0 {x: 1}\n" + "".join(
    f"a{i}: &a{i} {{<<: [{f'*a{i - 1},' * 10}]}}\n" for i in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\nb: 2\na: 3\n", r'sweep.yaml:3: not valid YAML: found duplicate key "a"'),
        ("a: 1\nb:\n\t- 1\n", r"sweep.yaml:3: .*spaces: YAML does not allow tabs"),
        ("a: [1, 2\nb: 3\n", r"sweep.yaml:2: not valid YAML"),
        ("a: 1\n---\nb: 1\n", r"sweep.yaml:2: not valid YAML: but found another document"),
        ("a: 1\nb: *nope\n", r"sweep.yaml:2: .*undefined alias 'nope'"),
        ("a: 1\nb: 2017-13-01\n", r"sweep.yaml:2: .*'2017-13-01': month must be in 1..12"),
        ("a: !!python/object:os.system {}\n", r"sweep.yaml:1: .*could not determine a constructor"),
        ("%YAML 1.1\n---\na: on\n", r"sweep.yaml:1: .*YAML 1.2"),
        ("", "the top level is empty"),
        ("# nothing\n", "the top level is empty"),
        ("# a list\n- 1\n- 2\n", r"sweep.yaml:2: the top level is a list"),
        ("just words\n", r"sweep.yaml:1: the top level is a single value"),
        ("a: \x00\n", "not valid YAML"),
        (b"a: \xff\n", r"cannot be read: .*byte 0xff in position 3.*UTF-8 text"),
        ("a: " + "[" * 100_000, "nested too deeply"),
        ("".join(" " * depth + "a:\n" for depth in range(900)), "nested too deeply"),
        (BILLION_LAUGHS, "with its aliases written out the file has more than 1,000,000 values"),
        (MERGED_LAUGHS, "with its aliases written out the file has more than 1,000,000 values"),
        ("a: &a [1, *a]\n", "one within its own anchor has no end"),
        ("a: &a {b: *a}\n", "one within its own anchor has no end"),
        ("a: &a {x: 1}\nb: {<<: [" + "*a, " * 1_001 + "]}\n", "more than 1,000 aliases"),
        ("# " + "x" * 2**19, "has more than 512 KiB"),
        ("a: " + "9" * 20_000, r"sweep.yaml:1: .*'9{10,30}\.\.\.9{10,30}': Exceeds the limit"),
        ("a: 0x1" + "0" * 10_000, "sweep.yaml:1: .*a whole number of more than 64 bits"),
        ("a: &" + "x" * 10_000 + " 1\nb: *" + "y" * 10_000, "sweep.yaml:2: .{20,250}$"),
        ('a: "\\ud800"', "sweep.yaml:1: .*surrogates not allowed"),
        ('"\\ud800": 1', "sweep.yaml:1: .*surrogates not allowed"),
        ('a: ["\\0"]', "sweep.yaml:1: .*a NUL cannot stand in text"),
        ("a: \x1b[31m\n", "not valid YAML"),
    ],
)  # fmt: skip
def test_refuses(tmp_path, text, says):
    with pytest.raises(InputError, match=f"(?s){says}"):
        read_yaml(written(tmp_path, text))


def test_a_path_to_something_without_an_end_is_not_read_to_it():
    with pytest.raises(InputError, match="has more than 512 KiB"):
        read_yaml("/dev/zero")


def test_missing_file_names_its_neighbours(tmp_path):
    written(tmp_path, "a: 1")
    with pytest.raises(InputError, match=r"(?s)swep.yaml does not exist.*sweep.yaml"):
        read_yaml(tmp_path / "swep.yaml")
    with pytest.raises(InputError, match="cannot be read"):
        read_yaml(tmp_path)


def test_lines_of_keys_and_of_values(tmp_path):
    file = read_yaml(
        written(tmp_path, "# one\na:\n  b: 1\n  c:\n    - 5\n    - 6\nd: {axis: [\n  1,\n  2]}\n")
    )
    where = [("a",), ("a", "b"), ("a", "c", 1), ("a", "gone"), ("d", 1), ("gone",)]
    assert [file.line_of(place) for place in where] == [2, 3, 6, 2, 9, 2]


def test_lines_within_alternatives_and_ranges(tmp_path):
    text = "a:\n  - b: 1\n    c: [5,\n      6]\n  - b: 2\nd:\n  start: 1\n  stop: 3\n"
    file = read_yaml(written(tmp_path, text))
    where = [("a", 1), ("a", 1, "b"), ("a", 0, "c", 1), ("a", 7), ("d", 2), ("d", "stop")]
    assert [file.line_of(place) for place in where] == [5, 5, 4, 1, 6, 8]
