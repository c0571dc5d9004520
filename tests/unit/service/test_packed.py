"""What is kept of documents, and how labels are searched."""

import os

import pytest

from bundle.attributes import Labels, concatenated
from service import packed
from service.api import search


async def test_documents_are_kept_within_a_number_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "KEPT_BYTES", 50_000)
    kept, made = packed.PackedDocuments(), list[str]()

    def making(name: str) -> bytes:
        made.append(name)
        return os.urandom(10_000)

    for name in ("a", "b", "c", "c", "a"):
        await kept.get(name, lambda name=name: making(name))
    assert made == ["a", "b", "c", "a"]


def _labels(texts: list[str]) -> Labels:
    return Labels(*concatenated([text.encode() for text in texts]))


def test_a_text_across_two_labels_is_in_neither_and_ends_the_look() -> None:
    labels = _labels(["#a"] * 300_000 + ["is a# here"])
    assert search._labelled(labels, "a#", 5) == []  # within MOST_PLACES there is none
    assert sum(map(len, search._places(labels, b"a#"))) == search.MOST_PLACES
    assert search._labelled(labels, "#a", 5) == [0, 1, 2, 3, 4]
    assert search._labelled(labels, "#a", 0) == []
    assert search._labelled(_labels(["ab", "xx", "cab"]), "ab", 5) == [0, 2]
