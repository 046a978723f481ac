"""A corpus whose every defect is planted at a known place, for test_pipeline.sh and test_pipeline_faults.sh, and what
their checks share: the compared form, exact similarities, the journal, the killing of builds.

  pipeline_corpus.py main DIR              the corpus of test_pipeline.sh, and DIR/truth.json
  pipeline_corpus.py small DIR             a little one, of three files
  pipeline_corpus.py kill WORK STAGE RECORDS VICTIM COMMAND...
        starts COMMAND and, when the journal of STAGE in WORK holds RECORDS records, kills VICTIM: "all" of its processes, or
        the rank of that number, or "stop" (SIGSTOP). Prints the status of COMMAND, or its process id after "stop"; fails
        when COMMAND ended before.
  pipeline_corpus.py journal WORK          its records as JSON
"""
import glob
import gzip
import json
import os
import random
import re
import signal
import struct
import subprocess
import sys
import time

SHINGLE = 5

# ---- what is compared, of ASCII ----


def compared(text):
    text = re.sub(r"[0-9]+(?:[.,][0-9]+)?", "0", text.lower())
    return re.sub(r"[^a-z0-9]+", " ", text).strip()


def shingles(text, n=SHINGLE):
    words = compared(text).split()
    return {" ".join(words[i : i + n]) for i in range(len(words) - n + 1)}


def jaccard(a, b):
    a, b = shingles(a), shingles(b)
    return len(a & b) / len(a | b) if a or b else 0.0


def probability(similarity, bands, rows):
    return 1 - (1 - similarity**rows) ** bands


def exact_key(text):
    return re.sub(r"[\t\n\v\f\r ]+", " ", text.lower()).strip(" ")


def trimmed(text):
    """As `normalise` leaves ASCII text."""
    lines = [line.rstrip() for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(lines))
    return text.strip("\n")


# ---- making texts ----
class Maker:
    """Words that occur once in the whole corpus, so that nothing is similar but what is planted."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.used = set()

    def word(self):
        while True:
            word = "".join(self.random.choices("abcdefghijklmnopqrstuvwxyz", k=self.random.randint(4, 7)))
            if word not in self.used:
                self.used.add(word)
                return word

    def words(self, n):
        return [self.word() for _ in range(n)]

    def text(self, n):
        return " ".join(self.words(n))

    def lines(self, n, each=12):
        return "\n".join(self.text(each) for _ in range(n))

    def near(self, words, low, high):
        """A copy with words replaced one by one until the similarity is in [low, high)."""
        n = len(words) - SHINGLE + 1
        while True:
            changed, copy = set(), list(words)
            for at in self.random.sample(range(len(words)), len(words)):
                hit = changed | {i for i in range(at - SHINGLE + 1, at + 1) if 0 <= i < n}
                if (n - len(hit)) / (n + len(hit)) < low:
                    continue
                changed = hit
                copy[at] = self.word()
                similarity = (n - len(changed)) / (n + len(changed))
                if similarity < high:
                    assert abs(similarity - jaccard(" ".join(words), " ".join(copy))) < 1e-12
                    return copy, similarity

    def decorated(self, words):
        """The same compared form in another dress."""
        out = []
        for word in words:
            word = self.random.choice([word, word, word.capitalize(), word.upper(), word + ",", '"' + word + '"'])
            out.append(str(self.random.randint(2, 99999)) if compared(word) == "0" else word)
        return self.random.choice([" ", "  ", " - "]).join(out)


class Corpus:
    def __init__(self, seed):
        self.make = Maker(seed)
        self.files = {}  # name -> list of documents, raw lines among them

    def add(self, name, text, kind, **more):
        self.files.setdefault(name, []).append({"text": text, "kind": kind, **more})

    def raw(self, name, line, kind):
        self.files.setdefault(name, []).append({"raw": line, "kind": kind})


def packed(path, data):
    if path.endswith(".gz"):
        data = gzip.compress(data, 3, mtime=0)
    if path.endswith(".zst"):
        data = subprocess.run(["zstd", "-q", "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout
    with open(path, "wb") as f:
        f.write(data)


def write_jsonl(path, documents):
    lines = []
    for d in documents:
        if "raw" in d:
            lines.append(d["raw"])
            continue
        o = {"text": d["text"], "n": len(lines)}
        if "named" in d:
            o["domain"] = d["named"]
        lines.append(json.dumps(o).encode())
    packed(path, b"\n".join(lines) + b"\n")


# ---- the corpus of test_pipeline.sh ----
BINS = [0.5 + 0.05 * i for i in range(10)]
PAIRS = 200  # of each bin
BOILERPLATE = "all rights reserved by the owners of this page and of all others that look like it"
RARE = "a line that stands in a few pages only and is therefore nothing to be taken out of them"
SHORT = "back to the top"
MAIL, HOME = "wendy.weaver@loom-mail.net", "someone@example.com"
PUBLIC, PRIVATE = "8.8.4.4", "192.168.17.4"


def plant_pairs(c):
    """Every second pair has both its documents in one file. Some differ in dress as well, or have numbers."""
    m, number = c.make, 0
    for low in BINS:
        for i in range(PAIRS):
            words = m.words(45)
            if i % 10 == 3:
                words[m.random.randrange(45)] = "12.5"
            other, similarity = m.near(words, low, low + 0.05)
            b = m.decorated(other) if i % 4 == 1 else " ".join(other)
            files = [("books", "books"), ("books", "web"), ("web", "web"), ("books", "web")][i % 4]
            more = {"pair": number, "similarity": similarity}
            c.add(files[0], " ".join(words), "pair", **more)
            c.add(files[1], b, "pair", **more)
            number += 1
    for shingle_count in (35, 34):  # 30/40, the threshold itself, and 29/39, just below
        for i in range(60):
            words = m.words(shingle_count + SHINGLE - 1)
            other = list(words)
            other[SHINGLE + i % (len(words) - 2 * SHINGLE)] = m.word()
            similarity = jaccard(" ".join(words), " ".join(other))
            for text in (words, other):
                c.add("books", " ".join(text), "edge", pair=number, similarity=similarity)
            number += 1
    for i in range(10):  # sets of shingles, not lists: a text, and the same twice over
        text = m.text(41)
        for copy in (text + " " + text, text):
            c.add("books", copy, "doubled", pair=number, similarity=jaccard(text, text + " " + text))
        number += 1


def plant_chains(c):
    """Neighbours have .848, the next but one .718: nobody may go for the sake of those."""
    m = c.make
    for chain in range(60):
        length = 3 if chain < 50 else 6
        steps = [m.words(65)]
        for i in range(length - 1):
            steps.append(list(steps[-1]))
            steps[-1][8 + 9 * i] = m.word()
        order = [1, 0, 2] if chain < 25 else range(length)
        for i in order:
            c.add("books", " ".join(steps[i]), "chain", chain=chain, link=i)


def plant_copies(c):
    m = c.make
    for group in range(40):
        words = m.words(40)
        long = "   ".join(w.capitalize() for w in words)
        c.add("books" if group % 2 else "web", " ".join(words), "copy", group=group, role="first")
        c.add("web", long, "copy", group=group, role="longest")
        if group < 20:
            c.add("notes", "\n".join(words) + "\n", "copy", group=group, role="lines")


def plant_lines(c):
    m = c.make
    for i in range(30):
        body = m.lines(5)
        c.add("web", "\n".join([body, BOILERPLATE if i % 3 else BOILERPLATE.upper(), m.text(12), SHORT]), "boilerplate")
    for i in range(3):
        c.add("web", "\n".join([m.lines(5), RARE]), "rare line")
    for i in range(2):
        c.add("books", "\n".join([BOILERPLATE] * (i + 1)), "boilerplate only")


def plant_evaluation(c):
    """Questions of 20 words; one of 10 words, taken whole; one of 6, not looked for."""
    m = c.make
    questions = [m.words(20) for _ in range(10)] + [m.words(10), m.words(6)]
    c.evaluation = [{"question": " ".join(q[:10]) if len(q) < 20 else " ".join(q), "meta": {"n": 1}} for q in questions]
    for i in range(10):
        inside = questions[i][3:16]
        dressed = ", ".join(w.upper() for w in inside) if i % 2 else " ".join(inside)
        c.add("web", " ".join([m.text(30), dressed, m.text(30)]), "contaminated", question=i + 1)
        c.add("web", " ".join([m.text(30), " ".join(questions[i][3:15]), m.text(30)]), "twelve words")
    c.add("books", " ".join([m.text(40), " ".join(questions[10]), m.text(4)]), "contaminated", question=11)
    c.add("books", " ".join([m.text(40), " ".join(questions[10][:9]), m.text(4)]), "twelve words")
    c.add("books", " ".join([m.text(40), " ".join(questions[11]), m.text(4)]), "twelve words")


def plant_rest(c):
    m = c.make
    for i in range(12):
        named = [m.text(25), "write to", MAIL if i % 2 else HOME, m.text(5), "from", PUBLIC if i % 3 else PRIVATE, m.text(9)]
        c.add("web", " ".join(named), "personal")
    for i in range(9):
        c.add("web", m.text(6 + i), "short")
        c.add("books", m.text(4 + i), "plain")
    for i in range(7):
        line = m.text(9)
        c.add("web", "\n".join([line] * 8 + [m.text(30)]), "repetitive")
    for i in range(5):
        c.add("web", "\r\n".join([m.text(20) + " \t", "", "", "", m.text(20)]), "layout")
    for i in range(4):
        c.add("books", " \n\t\n  \n" * (i + 1), "white space")
    for i in range(250):
        c.add("web" if i % 2 else "books", m.lines(6), "plain", **({"named": "essays"} if i % 10 == 1 else {}))
    for i in range(6):
        passage = m.text(40)
        c.add("books", " ".join([m.text(50), passage, m.text(50)]), "passage", passage=passage, role="first")
        c.add("web", " ".join([m.text(60), passage, m.text(60)]), "passage", passage=passage, role="again")
    for i in range(15):
        c.add("notes", m.lines(4) + "\n", "plain")


def plant_damage(c):
    m = c.make
    for bad in (b'{"text": "cut', b'{"no": "text"}', b'{"text": 7}', b"[1, 2]", b'{"text": "x", "domain": "no/name"}'):
        c.raw("web", bad, "malformed")
    c.raw("books", b'{"text": "' + m.text(30).encode() + b'\xff"}', "malformed")
    c.raw("books", b'{"text": "' + m.text(30).encode() + b'\\u0000"}', "invalid")
    for name in ("web", "web", "books"):
        c.raw(name, b'{"text": ""}', "empty")
    c.raw("web", b"   ", "blank")
    a, b = m.text(22), m.text(22)
    c.files["web"].append({"raw": f'{{"text": "{a}\\u0000 {b}"}}'.encode(), "kind": "repaired", "text": a + " " + b})
    c.files["web"].append({"raw": f'{{"text": "{b}\0 {a}"}}'.encode(), "kind": "repaired", "text": b + " " + a})
    a, b = m.text(22), m.text(22)
    c.files["web"].append({"raw": f'{{"text": "{a} '.encode() + b'\xff\xfe ' + f'{b}"}}'.encode(), "kind": "repaired",
                           "text": a + " \ufffd\ufffd " + b})


def code_files(c, folder):
    m = c.make
    os.makedirs(folder + "/deep/.hidden")
    for i in range(20):
        wide = 'x = "' + "v" * 1200 + '"\n' if i % 7 == 2 else ""
        text = "".join(f"# {m.text(4)}\n{m.word()} = {m.word()}({i})\n\n" for _ in range(12)) + wide
        name = f"{folder}/{'deep/' if i % 2 else ''}f{i:02d}.py"
        with open(name, "w") as f:
            f.write(text)
        c.add(name, text, "wide code" if wide else "code")
    for name, data in (("deep/.hidden/no.py", b"x = 1\n"), (".no.py", b"x = 1\n"), ("picture.bin", b"P\0\1\2")):
        with open(f"{folder}/{name}", "wb") as f:
            f.write(data)


def write_warc(c, path):
    """Responses of HTML and of text, and records that are no text."""
    m, out = c.make, []

    def record(kind, body, url="http://loom.example/"):
        head = f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {url}\r\nContent-Length: {len(body)}\r\n\r\n"
        out.append(gzip.compress(head.encode() + body + b"\r\n\r\n", 3, mtime=0))

    def response(type, body, status="200 OK"):
        record("response", f"HTTP/1.1 {status}\r\nContent-Type: {type}\r\n\r\n".encode() + body)

    record("warcinfo", b"software: none\r\n")
    c.pages = []
    for i in range(6):
        record("request", b"GET / HTTP/1.1\r\n\r\n")
        paragraphs = [" ".join(m.words(30)) + "." for _ in range(4)]
        if i % 2:
            response("text/plain; charset=utf-8", " ".join(paragraphs).encode())
        else:
            html = "<html><head><title>t</title></head><body><nav>menu</nav>" + "".join(f"<p>{p}</p>" for p in paragraphs)
            response("text/html; charset=utf-8", (html + "</body></html>").encode())
        c.pages.append({"record": len(out), "html": i % 2 == 0, "paragraphs": paragraphs})
    response("image/png", b"\x89PNG....")
    response("text/html", b"<p>moved</p>", "301 Moved")
    c.others = len(out) - len(c.pages)
    with open(path, "wb") as f:
        f.write(b"".join(out))


FILES = {"books": "books.jsonl.zst", "web": "web.jsonl.gz"}


def make_main(folder):
    c = Corpus(20240711)
    os.makedirs(folder + "/notes")
    for plant in (plant_pairs, plant_chains, plant_copies, plant_lines, plant_evaluation, plant_rest, plant_damage):
        plant(c)
    for name, path in FILES.items():
        c.make.random.shuffle(c.files[name])
        # A pair's documents and a chain's links stay in their order: it decides which is kept.
        keep_order(c.files[name])
        write_jsonl(f"{folder}/{path}", c.files[name])
    documents = []
    for name, path in FILES.items():
        for line, d in enumerate(c.files[name], 1):
            documents.append({**d, "file": f"{folder}/{path}", "place": line, "domain": d.get("named", name)})
    for i, d in enumerate(c.files["notes"]):
        path = f"{folder}/notes/n{i:03d}.txt"
        with open(path, "w") as f:
            f.write(d["text"])
        documents.append({**d, "file": path, "place": 0, "domain": "notes"})
    write_warc(c, f"{folder}/crawl.warc.gz")
    for page in c.pages:
        documents.append({"file": f"{folder}/crawl.warc.gz", "place": page["record"], "domain": "crawl",
                          "kind": "html" if page["html"] else "page", "text": " ".join(page["paragraphs"]),
                          "paragraphs": page["paragraphs"]})
    code_files(c, f"{folder}/code")
    for name in sorted(n for n in c.files if n.startswith(f"{folder}/code")):
        documents.append({**c.files[name][0], "file": name, "place": 0, "domain": "code"})
    with open(f"{folder}/evaluation.jsonl", "w") as f:
        f.writelines(json.dumps(e) + "\n" for e in c.evaluation)
    for d in documents:
        if "raw" in d:
            del d["raw"]
    with open(f"{folder}/truth.json", "w") as f:
        json.dump({"documents": documents, "others": c.others}, f)
    with open(f"{folder}/words.txt", "w") as f:  # for the tokenizer
        f.write("\n".join(d["text"] for d in documents[:1500] if "text" in d))


def keep_order(documents):
    def group(d):
        return next(((k, d[k]) for k in ("pair", "chain", "group") if k in d), None)

    order = {"first": 0, "longest": 1, "lines": 2}
    places, members = {}, {}
    for i, d in enumerate(documents):
        if group(d):
            places.setdefault(group(d), []).append(i)
            members.setdefault(group(d), []).append(d)
    for g, at in places.items():
        if g[0] == "chain":  # as planted: the first three of 25 chains begin in the middle
            rank = [1, 0, 2] if g[1] < 25 else range(10)
            members[g].sort(key=lambda d: rank.index(d["link"]))
        if g[0] == "group":
            members[g].sort(key=lambda d: order[d["role"]])
        for i, d in zip(at, members[g]):
            documents[i] = d


# ---- a little corpus, for faults ----
def make_small(folder):
    m = Maker(7)
    os.makedirs(folder)
    for name in ("a.jsonl", "b.jsonl.gz", "c.jsonl.zst"):
        documents = []
        for i in range(400):
            words = m.words(60)
            documents.append({"text": " ".join(words)})
            if i % 8 == 0:
                documents.append({"text": " ".join(words).upper()})
            if i % 8 == 1:
                documents.append({"text": " ".join(m.near(words, 0.85, 0.95)[0])})
            if i % 8 == 2:
                documents.append({"text": " ".join(m.words(30) + words[5:45])})
        write_jsonl(f"{folder}/{name}", documents)
    with open(f"{folder}/evaluation.jsonl", "w") as f:
        f.write(json.dumps({"q": m.text(20)}) + "\n" + json.dumps({"q": " ".join(words[10:30])}) + "\n")


# ---- the results of a build ----
def run(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout


def evidence(out):
    clusters = []
    for path in sorted(glob.glob(out + "/evidence/clusters-*.jsonl.zst")):
        clusters += [json.loads(line) for line in run("zstd", "-dcq", path).splitlines()]
    return clusters


def dropped(out, step):
    """(file, place) -> its row, of the documents that went in this step; the kept ones' places by id."""
    rows, places = {}, {}
    for cluster in evidence(out):
        for d in cluster["documents"]:
            places[d["id"]] = (d["file"], d["place"])
            if cluster["step"] == step and d["id"] != d["kept"]:
                rows[d["file"], d["place"]] = d
    return rows, places


def kept(weft, out):
    """(file, place) -> its row of `weft data ls`, and its text."""
    rows, texts = {}, {}
    for line in run(weft, "data", "ls", out, "--json").splitlines():
        row = json.loads(line)
        rows[row["shard"], row["document"]] = row
    for split in sorted({shard.split("/")[0] for shard, _ in rows}):
        for s in json.loads(run(weft, "data", "sample", out, "--split", split, "-n", "1000000", "--tokens", "100000", "--json")):
            texts[s["file"], s["document"]] = s["text"]
    assert set(rows) == set(texts), "ls and sample show different documents"
    return {(r["file"], r["place"]): {**r, "text": texts[k]} for k, r in rows.items()}


# ---- journals ----
def records(path):
    """Pieces of the whole records of a journal, and where the last ends. See data/work/stage.h."""
    with open(path, "rb") as f:
        data = f.read()
    pieces, at = [], 0
    while len(data) - at >= 24:
        magic, size, piece = struct.unpack_from("<IIq", data, at)
        if magic != 0x77667431 or at + 24 + size > len(data):
            break
        pieces.append(piece)
        at += 24 + size
    return pieces, at


def journal(work):
    return {os.path.basename(p): records(p)[0] for p in sorted(glob.glob(work + "/journal/*"))}


# ---- killing ----
def children_of(pid):
    found = []
    for path in glob.glob(f"/proc/{pid}/task/*/children"):
        try:
            with open(path) as f:
                found += [int(p) for p in f.read().split()]
        except OSError:
            pass
    return found


def rank_of(pid):
    try:
        with open(f"/proc/{pid}/environ", "rb") as f:
            values = dict(v.split(b"=", 1) for v in f.read().split(b"\0") if b"=" in v)
        return int(values.get(b"OMPI_COMM_WORLD_RANK", b"-1"))
    except OSError:
        return -1


def kill(work, stage, count, victim, command):
    job = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    pattern = f"{work}/journal/{stage}.*"
    while sum(len(records(p)[0]) for p in glob.glob(pattern)) < count:
        if job.poll() is not None:
            sys.exit(f"the command ended (status {job.returncode}) before {count} pieces of {stage} were done")
        time.sleep(0.001)
    ranks = [p for p in children_of(job.pid) if rank_of(p) >= 0] or [job.pid]
    if victim == "stop":
        for p in ranks:
            os.kill(p, signal.SIGSTOP)
        print(job.pid)
        return
    for p in ranks:
        if victim == "all" or rank_of(p) == int(victim):
            os.kill(p, signal.SIGKILL)
    print(job.wait())


if __name__ == "__main__":
    what, rest = sys.argv[1], sys.argv[2:]
    if what == "main":
        make_main(*rest)
    elif what == "small":
        make_small(*rest)
    elif what == "kill":
        kill(rest[0], rest[1], int(rest[2]), rest[3], rest[4:])
    elif what == "journal":
        print(json.dumps(journal(*rest)))
    else:
        sys.exit(__doc__)
