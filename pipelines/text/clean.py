"""Text that comes from data, made fit to be shown: on a terminal, in Markdown, in a picture.

Names, reasons, SMILES, file names and the texts of a manifest are anybody's. What shows them passes them through one of
the functions here: then they can neither move a cursor nor reverse a line, add a heading, or be taken for a formula.
"""

from __future__ import annotations

import re
from html import unescape

_SPECIAL = re.compile(r"[\\`*\[\]|~$#!]|(?:^|(?<=[\W]))_+|_+(?=\W|$)")  # "_" inside a word is no emphasis
_FIRST = re.compile(r"([-+=]|\d+[.)])(?= |$)")
_ESCAPED = re.compile(r"\\([!-/:-@\[-`{-~])")
_CODE = re.compile(r"[\w./:@%+=,()\[\] -]+")
_LONE = re.compile("[\ud800-\udfff]")
_PICTURE_CHARACTERS = 60


def line(text: object) -> str:
    r"""One line for a terminal or a page: what is not printable as an escape, such as \x1b, \n or \u202e.

    Printable is what `str.isprintable` says: no control characters, no marks that turn the direction of text, no
    separators but the space, no lone surrogates (as which Python holds the bytes of file names that are not UTF-8).
    """
    words = str(text)
    if words.isprintable():
        return words
    return "".join(sign if sign.isprintable() else _escape(sign) for sign in words)


def _escape(sign: str) -> str:
    code = ord(sign)
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00  # a byte that is not UTF-8
    known = {"\n": r"\n", "\t": r"\t", "\r": r"\r"}.get(sign)
    return known or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")


def stored(text: str) -> str:
    """Text that can be written as UTF-8: a lone surrogate becomes a replacement character."""
    return text if text.isascii() else _LONE.sub("\ufffd", text)


def in_markdown(text: object) -> str:
    """Words inside a line of Markdown, a list or a table: no tag, heading, link or emphasis comes of them."""
    words = line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    words = _SPECIAL.sub(lambda match: "".join(f"\\{sign}" for sign in match[0]), words)
    return (
        _FIRST.sub(lambda match: f"{match[1][:-1]}\\{match[1][-1]}", words, count=1) if _FIRST.match(words) else words
    )


def from_markdown(words: str) -> str:
    """The text that `in_markdown` was given; its escapes stay as they are shown."""
    return unescape(_ESCAPED.sub(r"\1", words))


def as_code(text: object) -> str:
    """A name in a line of Markdown, set as code where it holds nothing that could end that."""
    words = line(text)
    return f"`{words}`" if _CODE.fullmatch(words) and words == words.strip() else in_markdown(words)


def in_picture(text: object) -> str:
    """Words in a picture: one line, its middle left out where it is long. Drawn as it stands (see `report.style`)."""
    words = line(text)
    if len(words) <= _PICTURE_CHARACTERS:
        return words
    half = _PICTURE_CHARACTERS // 2
    return f"{words[: half - 1]}…{words[-half:]}"
