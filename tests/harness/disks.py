"""What a disk may hold after the power went: the legal states at each point of a recorded life.

Rules, which are those of POSIX and not of a kind file system:
- what a file held when it was flushed is there, and what was written since then may be: each piece of each write (512 or
  4096 bytes, as the disk has it) or not; the size is the flushed one, the last one, or what the pieces come to;
- a name is there for good when its directory was flushed; since then each creation, renaming and deletion may be there or
  not, whatever came before or after it; a file may be flushed whose name is not;
- renaming is one step: the file has the one name or the other. Between two directories it may have both until both are
  flushed, and never none: flushing the one that it left brings the other name, too.
"""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count, pairwise
from pathlib import Path

from tests.harness.record import Event, What

Entry = tuple["Node", bytes, "Node | None"]  # in this directory that name is this file, or nobody
NEW_INODE = 1 << 41


@dataclass(eq=False, slots=True)
class Node:
    """A file, directory or link: what is surely there, what is seen, and what may be there of the difference."""

    number: int
    kind: str = "file"
    mtime_ns: int | None = None
    target: bytes = b""
    flushed: bytes = b""
    seen: bytearray = field(default_factory=bytearray)
    unflushed: list[tuple[int, bytes | None]] = field(default_factory=list)  # None: a size
    names: dict[bytes, Node] = field(default_factory=dict)  # seen
    kept: dict[bytes, Node] = field(default_factory=dict)  # flushed


@dataclass(eq=False, slots=True)
class Change:
    """Unflushed names that belong together."""

    entries: list[Entry]


class Disk:
    """A disk under a folder, as a record tells of it."""

    def __init__(self, folder: Path, numbers: Callable[[int], int] = lambda number: number) -> None:
        """As it is now, all of it flushed; `numbers` says what inode a real one stands for."""
        self._prefix = os.fsencode(folder)
        found: dict[int, Node] = {}
        self.root = _loaded(folder, numbers, found)
        self._numbers = count(max(NEW_INODE, *(node.number + 1 for node in found.values())))
        self.changes: list[Change] = []
        self.said: list[str] = []

    def take(self, event: Event) -> None:
        """One event of the record."""
        match event.what:
            case What.CREATE:
                self._change((*self._place(event.one), Node(next(self._numbers))))
            case What.WRITE:
                self._write(self._node(event.one), event.number, event.data)
            case What.SIZE:
                self._resize(self._node(event.one), event.number)
            case What.SYNC:
                self._sync(self._node(event.one))
            case What.SYNC_FAILED:
                self._drop(self._node(event.one))
            case What.RENAME:
                node = self._node(event.one)
                self._change((*self._place(event.two), node), (*self._place(event.one), None))
            case What.LINK:
                self._change((*self._place(event.two), self._node(event.one)))
            case What.SYMLINK:
                link = Node(next(self._numbers), "link", target=event.one)
                self._change((*self._place(event.two), link))
            case What.UNLINK:
                self._change((*self._place(event.one), None))
            case What.MKDIR:
                self._change((*self._place(event.one), Node(next(self._numbers), "folder")))
            case What.MARK:
                self.said.append(event.one.decode())

    def _node(self, path: bytes) -> Node:
        node = self.root
        if path.endswith(b" (deleted)"):
            return Node(0)  # written to without a name: nobody will see it
        for name in path[len(self._prefix) :].split(b"/")[1:]:
            node = node.names[name]
        return node

    def _place(self, path: bytes) -> tuple[Node, bytes]:
        above, _, name = path.rpartition(b"/")
        return self._node(above), name

    def _change(self, *entries: Entry) -> None:
        for folder, name, node in entries:
            _set(folder.names, name, node)
        self.changes.append(Change(list(entries)))

    def _write(self, node: Node, at: int, data: bytes) -> None:
        _put(node.seen, at, data)
        node.unflushed.append((at, data))

    def _resize(self, node: Node, size: int) -> None:
        _cut(node.seen, size)
        node.unflushed.append((size, None))

    def _drop(self, node: Node) -> None:
        """A flush failed: the kernel lets go of what it had, and no later flush brings it back. The size may stay."""
        if node.kind == "file":
            node.unflushed = [(len(node.seen), None)]

    def _sync(self, node: Node) -> None:
        if node.kind == "file":
            found = bytearray(node.flushed)
            for at, data in node.unflushed:
                _apply(found, at, data)
            node.flushed, node.unflushed = bytes(found), []
            return
        for change in self.changes:
            if not any(folder is node for folder, _, _ in change.entries):
                continue
            leaves = any(folder is node and to is None for folder, _, to in change.entries)
            for entry in [e for e in change.entries if leaves or e[0] is node]:
                _set(entry[0].kept, entry[1], entry[2])
                change.entries.remove(entry)
        self.changes = [change for change in self.changes if change.entries]


@dataclass(frozen=True, slots=True)
class Style:
    """How much of what is unflushed is there: names and pieces, each by chance or the first so many; in what pieces."""

    names: float
    data: float
    in_order: bool
    piece: int

    @classmethod
    def chosen(cls, chance: random.Random) -> Style:
        share = [0.0, 1.0, 0.5, chance.random()]
        return cls(
            chance.choice(share),
            chance.choice(share),
            chance.random() < 0.3,
            chance.choice([512, 4096]),
        )

    def some(self, chance: random.Random, many: int, share: float) -> list[bool]:
        """Which of so many are there."""
        if self.in_order:
            most = round(share * many) if share in (0.0, 1.0) else chance.randint(0, many)
            return [index < most for index in range(many)]
        return [chance.random() < share for _ in range(many)]


EVERYTHING = Style(1.0, 1.0, True, 4096)
"""All that was seen: what is there when only the process ended."""


def lay_out(disk: Disk, target: Path, chance: random.Random, style: Style) -> dict[int, int]:
    """Makes one legal state of the disk in a new folder; says which inode there stands for which of the record's."""
    names = _names(disk, style, chance)
    contents: dict[Node, bytes] = {}
    places: dict[Node, Path] = {}
    target.mkdir()
    _lay_folder(
        disk.root, target, names, lambda node: _content(node, style, chance), contents, places
    )
    return {path.lstat().st_ino: node.number for node, path in places.items()}


def _names(disk: Disk, style: Style, chance: random.Random) -> dict[Node, dict[bytes, Node]]:
    """What each directory holds."""
    names = {folder: dict(folder.kept) for folder in _folders(disk)}
    there = style.some(chance, len(disk.changes), style.names)
    for change, present in zip(disk.changes, there, strict=True):
        if not present:
            continue
        entries = change.entries
        two_folders = len({id(folder) for folder, _, _ in entries}) > 1
        if two_folders and chance.random() < 0.5:
            entries = [entry for entry in entries if entry[2] is not None]  # it has both names
        for folder, name, node in entries:
            _set(names.setdefault(folder, {}), name, node)
    return names


def _folders(disk: Disk) -> Iterable[Node]:
    found, todo = [], [disk.root]
    while todo:
        folder = todo.pop()
        found.append(folder)
        below = {**folder.kept, **folder.names}.values()
        todo += [node for node in below if node.kind == "folder"]
    return found


def _content(node: Node, style: Style, chance: random.Random) -> bytes:
    if not node.unflushed:
        return node.flushed
    pieces = [piece for at, data in node.unflushed for piece in _pieces(at, data, style.piece)]
    found = bytearray(node.flushed)
    for (at, data), present in zip(
        pieces, style.some(chance, len(pieces), style.data), strict=True
    ):
        if present:
            _apply(found, at, data)
    sizes = [len(node.flushed), len(node.seen), len(found)]
    _cut(found, len(node.seen) if style is EVERYTHING else chance.choice(sizes))
    return bytes(found)


def _pieces(at: int, data: bytes | None, size: int) -> list[tuple[int, bytes | None]]:
    if data is None:
        return [(at, None)]
    edges = [at, *range(at - at % size + size, at + len(data), size), at + len(data)]
    return [(one, data[one - at : other - at]) for one, other in pairwise(edges)]


def _lay_folder(
    folder: Node,
    path: Path,
    names: dict[Node, dict[bytes, Node]],
    content: Callable[[Node], bytes],
    contents: dict[Node, bytes],
    places: dict[Node, Path],
) -> None:
    places[folder] = path
    for name, node in names.get(folder, {}).items():
        below = path / os.fsdecode(name)
        if node.kind == "folder":
            below.mkdir()
            _lay_folder(node, below, names, content, contents, places)
        elif node in places:
            os.link(places[node], below, follow_symlinks=False)
        elif node.kind == "link":
            os.symlink(node.target, os.fsencode(below))
            places[node] = below
        else:
            contents[node] = contents.get(node) or content(node)
            below.write_bytes(contents[node])
            places[node] = below
            if node.mtime_ns is not None:
                os.utime(below, ns=(node.mtime_ns, node.mtime_ns))


def _loaded(path: Path, numbers: Callable[[int], int], found: dict[int, Node]) -> Node:
    there = path.lstat()
    if there.st_ino in found:
        return found[there.st_ino]
    node = found[there.st_ino] = Node(numbers(there.st_ino), mtime_ns=there.st_mtime_ns)
    if stat.S_ISLNK(there.st_mode):
        node.kind, node.target = "link", os.fsencode(os.readlink(path))
    elif stat.S_ISDIR(there.st_mode):
        node.kind = "folder"
        for name in sorted(os.listdir(path)):  # so that a seed makes the same state again
            node.names[os.fsencode(name)] = _loaded(path / name, numbers, found)
        node.kept = dict(node.names)
    else:
        node.flushed = path.read_bytes()
        node.seen = bytearray(node.flushed)
    return node


def _set(names: dict[bytes, Node], name: bytes, node: Node | None) -> None:
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node


def _apply(content: bytearray, at: int, data: bytes | None) -> None:
    if data is None:
        _cut(content, at)
    else:
        _put(content, at, data)


def _put(content: bytearray, at: int, data: bytes) -> None:
    if len(content) < at:
        content.extend(bytes(at - len(content)))
    content[at : at + len(data)] = data


def _cut(content: bytearray, size: int) -> None:
    del content[size:]
    content.extend(bytes(size - len(content)))
