#!/usr/bin/env python3
"""Token ids of `weft tokenizer encode` against transformers (fast tokenizer) and SentencePiece.

usage: check_tokenizer.py WEFT TOKENIZER_DIR TEXTS

TEXTS is a text file in UTF-8, or a .jsonl with "text"; pieces of it are compared, and texts made here: runs of
one character, blanks, digits, scripts, emoji. Needs transformers; SentencePiece is compared too where it is installed.
Exits with 1 at the first difference.
"""
import json
import random
import subprocess
import sys

SPACE = "\u2581"  # reads as a space in transformers and SentencePiece: left out of the comparison


def fixed_texts():
    """Short ones: what stands at the start and at the end matters."""
    yield from ("a", " ", "  ", "\n", "\n a \n", "\tx\t", "  123", "<|pad", "\ufeffa", "e\u0301", "日本語 テキスト 1")


def joined_texts():
    """Long ones, made of many parts."""
    yield "\n".join((
        "123", "a1b2", "0x1F 3.14159", "x\ny", "\n\n\n", "\r\n", "a\tb", "naïve café Ångström ß ÿ", "Größe: 12 µm ± 3 °C",
        "Привет, мир", "שלום עולם", "नमस्ते", "👩‍👩‍👧‍👦 🇩🇪 ☃️ 😀😀", "é ﬁ Å Å", "\u00a0\u2003\u200b\ufeff\ufffd\u2028",
        "\U0010ffff\u0000\u0001\u007f\u0085", "<0x0A>", "<0x41> <unk> <s>", "▅▂▆", "if (x) {\n\t\treturn  1;\n    }\n",
        "a  b   c    d     e", "ab" * 200, "aab" * 100, "- " * 150, ("_" * 5 + "-" * 7) * 20))
    for c in " \t\n-=#*_.0aeé日":  # runs: where the order of merges would show
        yield "\n".join([c * n for n in range(1, 80)] + ["x" + c * n + "y" for n in range(1, 40)])


def file_texts(path, count, rng):
    with open(path, encoding="utf-8", newline="") as f:
        content = f.read()
    if path.endswith(".jsonl"):
        content = "\n".join(json.loads(line)["text"] for line in content.split("\n") if line.strip())
    for _ in range(count):
        start = rng.randrange(max(1, len(content)))
        yield content[start : start + 60000]


def random_text(length, rng):
    letters = "  \t\n\n0129abcABC.,;(){}_-+=\"'éüßñ日本語😀\u0301\u00a0"
    return "".join(rng.choice(letters) * rng.choice((1, 1, 1, 2, 3, 8, 17)) for _ in range(length))


def run(weft, *arguments, stdin):
    done = subprocess.run([weft, "tokenizer", *arguments], input=stdin, stdout=subprocess.PIPE, check=True)
    return done.stdout


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    weft, directory, path = sys.argv[1:]
    from transformers import AutoTokenizer

    fast = AutoTokenizer.from_pretrained(directory)
    if not fast.is_fast:
        sys.exit(f"FAILED: {directory}: not a fast tokenizer")
    try:
        import sentencepiece

        model = sentencepiece.SentencePieceProcessor(model_file=f"{directory}/tokenizer.model")
    except ImportError:
        model = None
    names = (fast.pad_token_id, fast.bos_token_id, fast.eos_token_id, fast.unk_token_id)
    if names != (0, 1, 2, 3):
        sys.exit(f"FAILED: pad, bos, eos, unk have the ids {names}")
    rng = random.Random(1)
    texts = [*fixed_texts(), *joined_texts(), *file_texts(path, 8, rng), random_text(20000, rng)]
    tokens = 0
    for text in (t.replace(SPACE, " ") for t in texts):
        data = text.encode()
        ids = [int(i) for i in run(weft, "encode", directory, stdin=data).split()]
        others = {"transformers": fast.encode(text, add_special_tokens=False)}
        if model:
            others["sentencepiece"] = model.encode(text)
        for name, other in others.items():
            if other == ids:
                continue
            at = next((i for i, (a, b) in enumerate(zip(ids, other)) if a != b), min(len(ids), len(other)))
            window = slice(max(0, at - 3), at + 5)
            sys.exit(f"FAILED: {name} and weft differ at token {at} of {text!r:.200}\n"
                     f"  weft {fast.convert_ids_to_tokens(ids[window])}\n  {name} {fast.convert_ids_to_tokens(other[window])}")
        if run(weft, "decode", directory, "-", stdin=" ".join(map(str, ids)).encode()) != data:
            sys.exit(f"FAILED: weft's ids do not decode to {text!r:.200}")
        if fast.decode(ids, clean_up_tokenization_spaces=False) != text:
            sys.exit(f"FAILED: transformers does not decode to {text!r:.200}")
        if fast.encode(text) != [1, *ids]:
            sys.exit(f"FAILED: transformers does not put the begin token first: {text!r:.200}")
        tokens += len(ids)
    print(f"ok: {len(texts)} texts, {tokens} tokens: weft = {' = '.join(others)}")


if __name__ == "__main__":
    main()
