"""Disk: what a power cut may leave of some files, told from what was done to them.

Durable is what was written to a file before its last sync returned, and the names that were in
the directory before its last sync returned. Of everything else, any part may be there:

- a write may be cut anywhere, and parts of it, or writes after it, may be there without it, in
  whole sectors or pages; what lies between, if the file has grown beyond it, reads as zeros;
- a truncation may have happened or not, whatever was written after it;
- a file may have its name, or not have it any more, independent of its content and of other names.
  SQLite syncs the directory with the first sync of a journal or a WAL, and never for an unlink.

A write harms no byte outside itself, which SQLite relies on too (SQLITE_IOCAP_POWERSAFE_OVERWRITE).
A disk that says that it has written what it has not is beyond any database. Opens no file.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import Literal

from msgspec import Struct

__all__ = ["Disk", "Files", "Step", "cut_short", "some_of"]

#: Content by name.
Files = dict[str, bytes]


class Step(Struct, frozen=True):
    """One change. Files are numbered: a name may mean one file and later another."""

    kind: Literal["write", "truncate", "link", "unlink"]
    file: int
    name: str = ""
    #: Offset of a write, length of a truncation.
    number: int = 0
    data: bytes = b""

    @property
    def is_naming(self) -> bool:
        """Whether it changes the directory, not a file."""
        return self.kind in ("link", "unlink")


class Disk:
    """The files of one directory, as they are and as they are durable."""

    def __init__(self) -> None:
        self._durable: list[bytes] = []
        self._durable_names: dict[str, int] = {}
        self._names: dict[str, int] = {}
        #: What was done and is not durable, in order.
        self.pending: list[Step] = []

    def create(self, name: str) -> None:
        """Open a file, created if missing."""
        if name not in self._names:
            self._names[name] = len(self._durable)
            self._durable.append(b"")
            self.pending.append(Step("link", self._names[name], name))

    def write(self, name: str, offset: int, data: bytes) -> None:
        """Write at an offset."""
        self.pending.append(Step("write", self._names[name], "", offset, data))

    def truncate(self, name: str, size: int) -> None:
        """Make a file this long."""
        self.pending.append(Step("truncate", self._names[name], "", size))

    def unlink(self, name: str) -> None:
        """Remove a name."""
        self.pending.append(Step("unlink", self._names.pop(name), name))

    def sync(self, name: str) -> None:
        """Make the content of a file durable, not its name."""
        number = self._names[name]
        done = [one for one in self.pending if one.file == number and not one.is_naming]
        self._durable[number] = bytes(_apply({number: self._durable[number]}, done)[number])
        self.pending = [one for one in self.pending if one.file != number or one.is_naming]

    def sync_directory(self) -> None:
        """Make the names durable."""
        self._durable_names = dict(self._names)
        self.pending = [one for one in self.pending if not one.is_naming]

    def after(self, steps: Iterable[Step]) -> Files:
        """Return what is there when of what is pending these steps, or parts, were done."""
        steps = list(steps)
        names = dict(self._durable_names)
        for step in steps:
            if step.kind == "link":
                names[step.name] = step.file
            elif step.kind == "unlink" and names.get(step.name) == step.file:
                del names[step.name]
        wanted = set(names.values())
        contents = _apply(
            {number: self._durable[number] for number in wanted},
            (step for step in steps if step.file in wanted and not step.is_naming),
        )
        return {name: bytes(contents[number]) for name, number in names.items()}


def cut_short(step: Step, rng: random.Random, unit: int) -> Step | None:
    """Return a write that ended at a boundary of so many bytes in the file; None: it has none."""
    begin = step.number
    boundaries = range(begin - begin % unit + unit, begin + len(step.data), unit)
    if not boundaries:
        return None
    return Step("write", step.file, "", begin, step.data[: rng.choice(boundaries) - begin])


def some_of(steps: Iterable[Step], rng: random.Random, unit: int) -> Iterator[Step]:
    """Return a random part of the steps: a disk writes in the order that it likes."""
    share = rng.choice((0.1, 0.5, 0.9))
    for step in steps:
        for part in _parts(step, unit):
            if rng.random() < share:
                yield part


def _parts(step: Step, unit: int) -> Iterator[Step]:
    if step.kind != "write":
        yield step
        return
    offset, end = step.number, step.number + len(step.data)
    while offset < end:
        upto = min(end, offset - offset % unit + unit)
        part = step.data[offset - step.number : upto - step.number]
        yield Step("write", step.file, "", offset, part)
        offset = upto


def _apply(contents: dict[int, bytes], steps: Iterable[Step]) -> dict[int, bytearray]:
    changed = {number: bytearray(content) for number, content in contents.items()}
    for step in steps:
        content = changed[step.file]
        if step.kind == "truncate":
            del content[step.number :]
        missing = step.number - len(content)
        if missing > 0 and (step.data or step.kind == "truncate"):
            content += bytes(missing)
        content[step.number : step.number + len(step.data)] = step.data
    return changed
