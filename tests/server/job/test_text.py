"""Raw output as lines: the same lines wherever the pieces and the readings are cut."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from periflow_server.services.text import LONGEST_LINE, Line, Piece, lines


def pieces_of(data: bytes, cuts: list[int]) -> list[Piece]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [Piece(a, data[a:b], [(a, float(a))]) for a, b in pairwise(edges)]


def read(data: bytes, cuts: list[int], offset: int = 0, ended: bool = True) -> list[Line]:
    pieces = [p for p in pieces_of(data, cuts) if p.offset + len(p.data) > offset]
    return list(lines(pieces, offset, ended=ended))


texts = st.lists(st.text(st.characters(exclude_characters="\n\r", codec="utf-8"), max_size=20))
places = st.lists(st.integers(min_value=0, max_value=10_000), max_size=8)


@given(texts, places)
def test_lines_do_not_depend_on_where_batches_were_cut(
    given_lines: list[str], cuts: list[int]
) -> None:
    data = "".join(f"{line}\n" for line in given_lines).encode()
    assert [line.text for line in read(data, cuts)] == given_lines


@given(texts, places)
def test_reading_on_from_any_line_gives_the_rest(given_lines: list[str], cuts: list[int]) -> None:
    data = "\n".join(given_lines).encode()
    whole = read(data, cuts)
    for index, line in enumerate(whole):
        rest = read(data, cuts, line.end)
        assert [one.text for one in rest] == [one.text for one in whole[index + 1 :]]


def test_unfinished_line_is_kept_back_until_the_end() -> None:
    assert [line.text for line in read(b"a\nb", [], ended=False)] == ["a"]
    assert [line.text for line in read(b"a\nb", [], ended=True)] == ["a", "b"]


def test_line_of_exactly_the_longest_length_is_one_line() -> None:
    data = b"x" * LONGEST_LINE + b"\n" + b"y\n"
    assert [len(line.text) for line in read(data, [])] == [LONGEST_LINE, 1]


def test_line_has_the_time_of_the_batch_that_began_it() -> None:
    pieces = [Piece(0, b"a\nb", [(0, 1.0)]), Piece(3, b"c\nd\n", [(3, 2.0)])]
    assert [(one.text, one.time) for one in lines(pieces, 0, ended=False)] == [
        ("a", 1.0),
        ("bc", 1.0),
        ("d", 2.0),
    ]
