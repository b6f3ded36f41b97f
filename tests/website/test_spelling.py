"""The pages have no misspelled word, and British spelling."""

from website import spelling


def test_spelling():
    """Each word is in a dictionary, or in docs/words.txt."""
    text = "python tests/website/spelling.py lists the words, --add adds them to docs/words.txt"
    assert spelling.check() == [], text


def test_words_are_sorted():
    words = spelling.WORDS.read_text().split()
    assert words == spelling.sorted_words(words)
