"""Words: what the nine enumerations accept and refuse, and what the foreign keys do.

Every word is tried by an INSERT.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

from contract.tier2.check import Check, expect, refused
from contract.tier2.promise import FOREIGN_KEYS, WORDS, ForeignKey
from contract.tier2.replica import Replica, Value

__all__ = ["checks"]


def checks() -> Iterator[Check]:
    """All checks of enumerations and foreign keys."""
    for (table, column), words in WORDS.items():
        for word in words:
            yield Check(f"{table}.{column} = {word}", partial(_accepts, table, column, word))
        for what in _wrong_words(table, column):
            name = f"{table}.{column} refuses {what}"
            yield Check(name, partial(_refuses, table, column, what))
        yield Check(f"{table}.{column}: its words", partial(_no_other_words, table, column))
        yield Check(f"{table}.{column}: UPDATE", partial(_refuses_update, table, column))
    for key in FOREIGN_KEYS:
        name = f"{key.table}.{key.column}"
        yield Check(f"{name}: orphan refused", partial(_refuses_orphan, key))
        yield Check(f"{name}: child accepted", partial(_accepts_child, key))
        yield Check(f"{name}: parent kept", partial(_keeps_parent, key))
        yield Check(f"{name}: off", partial(_accepts_orphan_when_off, key))


def _accepts(table: str, column: str, word: Value, replica: Replica) -> None:
    with replica.probe() as probe:
        try:
            row = probe.insert(table, **{column: word})
        except probe.connection.IntegrityError as error:
            raise AssertionError(
                f"{table}.{column}: {word!r} is refused ({error}), the contract allows it"
            ) from error
        stored = probe.value(f"SELECT {column} FROM {table} WHERE id = ?", row)
        expect(stored == word, f"{table}.{column}: {word!r} is stored as {stored!r}")


def _wrong_words(table: str, column: str) -> dict[str, Value]:
    words = WORDS[table, column]
    word = words[0]
    wrong: dict[str, Value] = {
        "an unknown word": "nonsense",
        "the empty text": "",
        "upper case": word.upper(),
        "a capital": word[:2].title() + word[2:],
        "a leading space": f" {word}",
        "a trailing space": f"{word} ",
        "a trailing line break": f"{word}\n",
        "a longer word": f"{word}x",
        "a shorter word": word[:-1],
        "a list": ",".join(words),
        "a number": 1,
        "bytes": word.encode(),
    }
    if column == "stage":
        wrong |= {
            "a stage without its number": "normalize",
            "a micro sign for mu": word.replace("\u03bc", "\u00b5"),
            "a plain digit": word.replace("\u2081", "1"),
            "a stage that is numbered otherwise": word.replace("\u2081", "\u2082"),
        }
    return wrong


def _refuses(table: str, column: str, what: str, replica: Replica) -> None:
    value = _wrong_words(table, column)[what]
    with replica.probe() as probe:
        message = f"{table}.{column}: accepts {value!r} ({what}), the contract refuses it"
        with refused(message):
            probe.insert(table, **{column: value})


def _no_other_words(table: str, column: str, replica: Replica) -> None:
    """The words of other columns, and every text that the target's own definition names."""
    replica.columns(table)
    named = re.findall(r"'((?:[^']|'')*)'", replica.schema["table", table][1])
    others = {word for words in WORDS.values() for word in words}
    others |= {text.replace("''", "'") for text in named}
    for word in sorted(others - set(WORDS[table, column])):
        with (
            replica.probe() as probe,
            refused(f"{table}.{column}: accepts {word!r}, the contract does not name it"),
        ):
            probe.insert(table, **{column: word})


def _refuses_update(table: str, column: str, replica: Replica) -> None:
    with replica.probe() as probe:
        row = probe.insert(table)
        with refused(f"{table}.{column}: UPDATE to a wrong word is accepted"):
            probe.connection.execute(
                f"UPDATE {table} SET {column} = 'nonsense' WHERE id = ?", (row,)
            )


def _refuses_orphan(key: ForeignKey, replica: Replica) -> None:
    with (
        replica.probe(foreign_keys=True) as probe,
        refused(
            f"{key.table}.{key.column}: accepts a row without its {key.parent} row, "
            "the contract says foreign key"
        ),
    ):
        probe.insert(key.table, **{key.column: "nowhere"})


def _accepts_child(key: ForeignKey, replica: Replica) -> None:
    with replica.probe(foreign_keys=True) as probe:
        probe.insert(key.parent, **{key.parent_column: "parent"})
        try:
            probe.insert(key.table, **{key.column: "parent"})
        except probe.connection.IntegrityError as error:
            raise AssertionError(
                f"{key.table}.{key.column}: refuses a row whose {key.parent} row is there: {error}"
            ) from error


def _keeps_parent(key: ForeignKey, replica: Replica) -> None:
    """No cascade: a parent with children cannot go, and cannot get another name."""
    for statement in (
        f"DELETE FROM {key.parent}",
        f"UPDATE {key.parent} SET {key.parent_column} = 'another'",
    ):
        with replica.probe(foreign_keys=True) as probe:
            probe.insert(key.parent, **{key.parent_column: "parent"})
            probe.insert(key.table, **{key.column: "parent"})
            with refused(
                f"{key.table}.{key.column}: {statement.split()[0]} of its {key.parent} row is "
                "accepted, the contract's foreign key refuses it"
            ):
                probe.connection.execute(statement)


def _accepts_orphan_when_off(key: ForeignKey, replica: Replica) -> None:
    """Programs of version 1.0.0 wrote without foreign keys; their rows are kept."""
    with replica.probe(foreign_keys=False) as probe:
        probe.insert(key.table, **{key.column: "nowhere"})
