"""Readable text from Perl's POD."""

import re

_NAMED = {"lt": "<", "gt": ">", "verbar": "|", "sol": "/", "amp": "&", "quot": '"', "eacute": "\u00e9"}
_CODE = re.compile(r"([A-Z])(?:(<{2,})\s+|<)")
_NEXT = re.compile(r"[A-Z]<| ?>")  # where a code may begin or end


def pod_to_text(pod: str) -> str:
    out = []
    hidden = False  # between =begin FORMAT and =end: meant for a formatter, not for readers
    for paragraph in re.split(r"\n[ \t]*\n+", pod.replace("\r\n", "\n")):
        paragraph = paragraph.strip("\n")
        if not paragraph.strip():
            continue
        command = re.match(r"=(\w+)[ \t]*(.*)", paragraph, re.DOTALL)
        if command:
            name, rest = command.group(1), " ".join(command.group(2).split())
            if name == "begin":
                hidden = True
            elif name == "end":
                hidden = False
            elif name.startswith("head") and not hidden:
                out.append(_plain(rest))
            elif name == "item" and not hidden:
                out.append("- " + _plain(rest.lstrip("*").strip()))
            continue
        if hidden:
            continue
        if paragraph[0] in " \t":
            out.append(paragraph)
            continue
        text = _plain(" ".join(paragraph.split()))
        if out and out[-1] == "- ":  # "=item *": the text stands in the next paragraph
            out[-1] += text
        else:
            out.append(text)
    return "\n\n".join(out)


def _plain(text: str) -> str:
    return _codes(text, 0, None)[0]


def _codes(text: str, at: int, closer: str | None) -> tuple[str, int]:
    """Text with its formatting codes resolved, from `at` to `closer` or the end, and where that ends."""
    out = []
    while at < len(text):
        if closer and text.startswith(closer, at):
            return "".join(out), at + len(closer)
        code = _CODE.match(text, at)
        if not code:
            following = _NEXT.search(text, at + 1)
            end_of_plain = following.start() if following else len(text)
            out.append(text[at:end_of_plain])
            at = end_of_plain
            continue
        end = " " + ">" * len(code.group(2)) if code.group(2) else ">"
        inner, at = _codes(text, code.end(), end)
        out.append(_resolve(code.group(1), inner))
    return "".join(out), at


def _resolve(letter: str, inner: str) -> str:
    if letter in "XZ":
        return ""
    if letter == "E":
        if re.fullmatch(r"\d{1,7}", inner) and int(inner) < 0x110000:
            return chr(int(inner))
        return _NAMED.get(inner, inner)
    if letter == "L":
        label, bar, _ = inner.partition("|")
        if bar:
            return label
        page, slash, section = inner.partition("/")
        if slash and not re.match(r"\w+://", inner):
            section = section.strip('"')
            return f'"{section}" in {page}' if page else f'"{section}"'
        return inner
    return inner
