"""Putting segments of many lengths into rows of one length, so that little of a row is padding.

Best fit, longest first, on the histogram of lengths: all segments of one length are placed at once into the rows with
the least sufficient room, so the cost follows the number of different lengths and not the number of segments.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Packing:
    """Where each segment goes.

    Attributes:
      row: int64[segments].
      offset: int32[segments], first token in the row.
      rows: number of rows.
    """

    row: np.ndarray
    offset: np.ndarray
    rows: int


def one_a_row(lengths: np.ndarray) -> Packing:
    """Every segment at the start of a row of its own, as DNABERT has them."""
    return Packing(np.arange(len(lengths)), np.zeros(len(lengths), np.int32), len(lengths))


def pack(lengths: np.ndarray, row_length: int) -> Packing:
    """Packs segments.

    Args:
      lengths: int[segments], tokens of each, from 1 to `row_length`.
      row_length: tokens of a row.
    """
    row = np.zeros(len(lengths), np.int64)
    offset = np.zeros(len(lengths), np.int32)
    rooms: list[list[np.ndarray]] = [[] for _ in range(row_length + 1)]  # rows by the room that is left in them
    filled = np.zeros(row_length + 1, bool)  # which of these lists are not empty
    rows = 0

    def place(segments: np.ndarray, length: int, into: np.ndarray, room: int) -> None:
        """Fills the rows `into`, all with the same room, with as many of the segments as they take."""
        each = room // length
        row[segments] = np.repeat(into, each)[: len(segments)]
        offset[segments] = row_length - room + length * np.tile(np.arange(each), len(into))[: len(segments)]
        whole = len(segments) // each
        keep(into[:whole], room - each * length)
        keep(into[whole:], room - (len(segments) - whole * each) * length)

    def keep(these: np.ndarray, room: int) -> None:
        if len(these):
            rooms[room].append(these)
            filled[room] = True

    order = np.argsort(lengths, kind="stable")[::-1]
    sizes, first = np.unique(lengths[order][::-1], return_index=True)
    ends = len(lengths) - first
    for index in range(len(sizes) - 1, -1, -1):
        length = int(sizes[index])
        begin = ends[index + 1] if index + 1 < len(sizes) else 0
        segments = order[begin : ends[index]]
        for room in np.flatnonzero(filled[length:]) + length:
            if not len(segments):
                break
            open_rows = np.concatenate(rooms[room])
            needed = min(-(-len(segments) // (room // length)), len(open_rows))
            taken = segments[: needed * (room // length)]
            rooms[room], filled[room] = [], False
            keep(open_rows[needed:], int(room))
            place(taken, length, open_rows[:needed], int(room))
            segments = segments[len(taken) :]
        if len(segments):
            new = -(-len(segments) // (row_length // length))
            place(segments, length, np.arange(rows, rows + new), row_length)
            rows += new
    return Packing(row, offset, rows)
