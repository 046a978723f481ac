"""From a package's files to documents: one reader for each kind of file in the recipe.

A reader splits one file into units (name, payload), cheaply; a payload becomes text only if the unit is
taken. The name is unique in the file, and empty where the file is one document.
"""

import html
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from html_text import html_to_text
from pod_text import pod_to_text

Files = dict[str, bytes]  # path in the package -> content


class Reader(NamedTuple):
    units: Callable[[str, Files], Iterator[tuple[str, bytes]]]
    text: Callable[[bytes], str | None]  # None: not readable as text, or not worth reading


def decode(data: bytes) -> str | None:
    """UTF-8; else Latin-1 where that gives no control characters; else None."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass
    if re.search(rb"[\x80-\x9f]", data):
        return None
    return data.decode("latin-1")


def tidy(text: str) -> str:
    """One kind of line end, no control characters, no trailing blanks, at most one empty line in a row."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n\n")
    text = re.sub(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\u200b\u2060\ufeff]", "", text)
    text = re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE)
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n")


def _whole(path: str, files: Files) -> Iterator[tuple[str, bytes]]:
    yield "", files[path]


def _html(data: bytes) -> str | None:
    page = decode(data)
    return None if page is None else html_to_text(page)


def _pod(data: bytes) -> str | None:
    pod = decode(data)
    return None if pod is None else pod_to_text(pod)


def _code(data: bytes) -> str | None:
    """Source text as it is; tables and generated files are left out by the bounds that code corpora use."""
    text = decode(data)
    if not text:
        return None
    lines = text.splitlines()
    letters = sum(map(str.isalnum, text))
    if max(map(len, lines)) > 1000 or len(text) > 100 * len(lines) or letters < 0.25 * len(text):
        return None
    return text


# R's lazy-load database: records of (u32 length of the content, zlib stream of a serialised object), one
# after the other. Of the serialisation (XDR) only character vectors are of interest.
_CHARSXP = 9
_NA = 0xFFFFFFFF
_CHAPTER = re.compile(r"^(?:CHAPTER|Chapter) (?:[IVXLC]+|\d+)\b.*$", re.MULTILINE)
_GUTENBERG_START = re.compile(r"^\*\*\* ?START OF TH[^\n]*\n", re.MULTILINE)
_GUTENBERG_END = re.compile(r"^(?:\*\*\* ?END OF TH|End of (?:the )?Project Gutenberg)", re.MULTILINE)


def _rdata_units(path: str, files: Files) -> Iterator[tuple[str, bytes]]:
    data = files[path]
    at = 0
    number = 0
    while at < len(data):
        stream = zlib.decompressobj()
        record = stream.decompress(data[at + 4 :])
        at = len(data) - len(stream.unused_data)
        number += 1
        book = "\n".join(_character_vector(record)).replace("\r\n", "\n")
        start = _GUTENBERG_START.search(book)
        end = _GUTENBERG_END.search(book, start.end() if start else 0)
        book = book[start.end() if start else 0 : end.start() if end else len(book)]
        cuts = [0, *(match.start() for match in _CHAPTER.finditer(book)), len(book)]
        for chapter, (first, last) in enumerate(zip(cuts, cuts[1:])):
            yield f"{number}.{chapter:03}", book[first:last].encode()


def _character_vector(record: bytes) -> list[str]:
    """The first character vector of a serialised object (format 3, big-endian)."""
    if record[:2] != b"X\n":
        raise ValueError("not an R object in XDR format")
    (name_length,) = struct.unpack_from(">I", record, 14)
    at = 18 + name_length
    flags, count = struct.unpack_from(">II", record, at)
    at += 8
    if flags & 0xFF == 19:  # a list: its first element
        flags, count = struct.unpack_from(">II", record, at)
        at += 8
    if flags & 0xFF != 16:
        raise ValueError(f"R object of type {flags & 0xFF}, not a character vector")
    out = []
    for _ in range(count):
        flags, length = struct.unpack_from(">II", record, at)
        if flags & 0xFF != _CHARSXP:
            raise ValueError("unexpected element in an R character vector")
        at += 8
        if length == _NA:
            continue
        out.append(record[at : at + length].decode("utf-8"))
        at += length
    return out


# SWORD modules (zText, zCom): xx.?zs lists blocks as (u32 offset, u32 size, u32 unpacked size), xx.?zz holds
# them as zlib streams of OSIS, in the order of the canon.
def _sword_units(path: str, files: Files) -> Iterator[tuple[str, bytes]]:
    packed = files[path[:-1] + "z"]
    blocks = b"".join(
        zlib.decompress(packed[offset : offset + size])
        for offset, size, _ in struct.iter_unpack("<III", files[path])
    )
    cuts = list(re.finditer(rb'<chapter [^>]*osisID="([^"]+)"[^>]*sID=', blocks))
    ends = [match.start() for match in cuts[1:]] + [len(blocks)]
    for match, end in zip(cuts, ends):
        yield match.group(1).decode("ascii"), blocks[match.start() : end]


def _osis(data: bytes) -> str | None:
    text = data.decode("utf-8")
    text = re.sub(r"<note\b.*?</note>", "", text, flags=re.DOTALL)
    text = re.sub(r"<(?:title|div|row|lg|list|item|p|lb)\b[^>]*>|</(?:title|row|p|item)>", "\n", text)
    text = re.sub(r"</cell>", " ", text)
    text = html.unescape(re.sub(r"<[^>]*>", "", text)).replace("\u00b6", "")  # paragraph marks
    lines = (" ".join(line.split()) for line in text.split("\n"))
    return "\n\n".join(line for line in lines if line)


# DICT databases: the index has lines of headword, offset and length (in a base-64 of its own), the .dict is
# plain text under gzip. A document is a page of some entries that follow one another.
_DIGITS = {c: i for i, c in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")}
_PAGE_BYTES = 6000


def _dict_units(path: str, files: Files) -> Iterator[tuple[str, bytes]]:
    text = files[re.sub(r"\.index$", ".dict", path)]
    spans = set()
    for line in files[path].decode("utf-8", "replace").splitlines():
        headword, offset, length = line.split("\t")[:3]
        if not headword.startswith(("00-database", "00database")):
            spans.add((_number(offset), _number(length)))
    page = bytearray()
    first = 0
    for offset, length in sorted(spans):
        if not page:
            first = offset
        page += text[offset : offset + length].strip(b"\n") + b"\n\n"
        if len(page) >= _PAGE_BYTES:
            yield f"{first:09}", bytes(page)
            page.clear()
    if page:
        yield f"{first:09}", bytes(page)


def _number(digits: str) -> int:
    value = 0
    for digit in digits:
        value = value * 64 + _DIGITS[digit]
    return value


def _dict(data: bytes) -> str | None:
    text = decode(data)
    if text is None:
        return None
    text = re.sub(
        r"^[ \t]*\[[^\]\n]*(?:Webster|WordNet|PJC|Century Dict)[^\]\n]*\][ \t]*\n",
        "",
        text,
        flags=re.MULTILINE,
    )
    text = re.sub(r"[ \t]*\[(?:1913 Webster|WordNet 1\.5|PJC)[^\]]*\]", "", text)
    return re.sub(r"\{([^{}]*)\}", r"\1", text)  # cross-references


READERS = {
    "html": Reader(_whole, _html),
    "pod": Reader(_whole, _pod),
    "code": Reader(_whole, _code),
    "rdata": Reader(_rdata_units, lambda data: data.decode("utf-8")),
    "sword": Reader(_sword_units, _osis),
    "dict": Reader(_dict_units, _dict),
}

# The file that a reader needs beside each that it is given, by kind: (its ending, the other's ending).
COMPANIONS = {"sword": ("zs", "zz"), "dict": (".index", ".dict.dz")}
