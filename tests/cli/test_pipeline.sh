# weft data build RECIPE.yaml: what it makes of a corpus whose every defect is known, on any number of ranks and threads,
# killed and begun again or not. Its faults: test_pipeline_faults.sh.
source "$CLI_DIR/lib.sh"
source "$CLI_DIR/pipeline_lib.sh"
# python ARGUMENTS <<'END': a check; what it asserts must hold
python() { python3 - "$@"; }

in_folder first corpus main ../corpus || exit 1
"$WEFT" tokenizer train --vocab 500 --sample-bytes 300000 -o tok corpus/words.txt 2>train.log || { cat train.log; exit 1; }

cat >main.yaml <<'END'
tokenizer: ../tok
out: out
heldout: 0.05
unit_kib: 64
memory_mib: 32
shard_tokens: 10000
seed: 3
sources:
  books:
    path: ../corpus/books.jsonl.zst
    nul_bytes: skip
  web:
    path: ../corpus/web.jsonl.gz
    invalid_utf8: repair
    nul_bytes: repair
  notes:
    path: ../corpus/notes
  crawl:
    path: ../corpus/crawl.warc.gz
  code:
    path: ../corpus/code
    format: code
normalise: {}
filters:
  gopher_quality:
    domains: web, essays
    min_words: 20
    min_stop_words: off
    min_letter_words: off
  gopher_repetition:
    domains: web
  code:
    domains: code
    tag: true
exact: {}
lines:
  copies: 5
near: {}
substring:
  length: 60
decontaminate:
  files: ../corpus/evaluation.jsonl
scrub: {}
END
{
    sed -n '1,/^  web:/p; /web.jsonl/,/nul_bytes/p' main.yaml
    printf 'near:\n  threshold: 0.3\n'
} >low.yaml
expect 0 'all              train' in_folder first build 1 main
expect 0 '' in_folder low build 1 low heldout=0
expect 0 '' in_folder low2 build 1 low heldout=0 near.bands=20 near.rows=13 near.seed=7

# ---- near duplicates ----
# 200 pairs in each bin of similarity: as many are found as 1 - (1 - s^rows)^bands says, within four standard deviations.
s_curve() { # FOLDER BANDS ROWS THRESHOLD
    python "$@" <<'END'
import json, sys
from pipeline_corpus import *
folder, bands, rows, threshold = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
truth = json.load(open("corpus/truth.json"))["documents"]
gone, _ = dropped(folder + "/out", "near")
pairs = {}
for d in truth:
    if d["kind"] in ("pair", "edge", "doubled"):
        pairs.setdefault(d["pair"], []).append(d)
bins = {}
for a, b in pairs.values():
    s = a["similarity"]
    found = sum((d["file"], d["place"]) in gone for d in (a, b))
    assert found <= 1, (a, b, "both are gone")
    assert s >= threshold or not found, (a, b, "too little alike")
    p = probability(s, bands, rows)
    n = bins.setdefault(int(s / 0.05 + 1e-9), [0, 0, 0, 0])
    for i, v in enumerate((1, found, p, p * (1 - p))):
        n[i] += v
for i, (n, found, wanted, variance) in sorted(bins.items()):
    if 0.05 * i < threshold - 1e-9:
        continue
    print(f"{folder} s from {0.05 * i:.2f}: {n} pairs, {found} found, {wanted:.1f} expected")
    assert abs(found - wanted) <= 4 * variance**0.5 + 0.5, "not the curve"
    assert n >= 200
END
}
# A pair of similarity s shares bands * s^rows band keys in the mean: over all pairs a sharper measure.
shared_bands() { # FOLDER BANDS ROWS
    python "$@" <<'END'
import itertools, json, sys
from pipeline_corpus import *
folder, bands, rows = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
groups = {}
for d in json.load(open("corpus/truth.json"))["documents"]:
    if d["domain"] in ("books", "web", "essays"):
        key = next((k for k in ("pair", "chain", "group") if k in d), None)
        if key or d["kind"] == "boilerplate only":
            groups.setdefault((key, d.get(key)), []).append(d["text"])
alike = [jaccard(a, b) ** rows for g in groups.values() for a, b in itertools.combinations(g, 2)]
wanted, variance = bands * sum(alike), bands * sum(p * (1 - p) for p in alike)
got = json.load(open(folder + "/out/report.json"))["near"]["pairs_with_repeats"]
print(f"{folder}: {got} bands shared, {wanted:.1f} expected, standard deviation {variance**0.5:.1f}")
assert abs(got - wanted) <= 4 * variance**0.5
END
}
check 'shared bands, 14 of 8' shared_bands low 14 8
check 'shared bands, 20 of 13' shared_bands low2 20 13
check 'the S-curve of 14 bands of 8 from a similarity of .5 on' s_curve low 14 8 0.3
check 'the S-curve of 20 bands of 13' s_curve low2 20 13 0.3
check 'the S-curve from the threshold of .75 on, nothing below' s_curve first 14 8 0.75
same_pairs() {
    python <<'END'
import json
from pipeline_corpus import *
truth = json.load(open("corpus/truth.json"))["documents"]
main, low = (set(dropped(f + "/out", "near")[0]) for f in ("first", "low"))
like = {(d["file"], d["place"]): d["similarity"] for d in truth if "similarity" in d}
want = {at for at in low if like.get(at, 0) >= 0.75}
got = {at for at in main if at in like}
assert want == got, (sorted(want ^ got)[:5], len(want), len(got))
assert any(like[at] == 0.75 for at in got), "none at the threshold itself"
END
}
check 'the threshold decides among the same candidates; its own value goes' same_pairs

# ---- what became of every document ----
# The steps in Python: what stays has the text that they leave; what goes, goes where they say; report.json counts both.
account() {
    python "$WEFT" <<'END'
import json, sys
from collections import Counter
from pipeline_corpus import *
t = json.load(open("corpus/truth.json"))
truth, report = t["documents"], json.load(open("first/out/report.json"))
manifest = json.load(open("first/out/manifest.json"))
order = [f["file"] for f in report["files"]]
files = {f["file"]: f for f in report["files"]}

# Reading.
unread = {"malformed": "malformed", "empty": "empty", "invalid": "invalid"}
for name, f in files.items():
    kinds = Counter(d["kind"] for d in truth if d["file"] == name)
    for kind, key in unread.items():
        assert f[key] == kinds[kind], (name, key, f[key], kinds[kind])
    assert f["repaired"] == kinds["repaired"], name
    assert f["documents"] == sum(n for k, n in kinds.items() if k not in unread and k != "blank"), name
    assert f["other"] == (t["others"] if "warc" in name else 0), (name, f["other"])
    assert f["damaged"] == f["oversize"] == 0
    texts = [d["text"] for d in truth if d["file"] == name and d["kind"] not in unread and d["kind"] != "blank"]
    if "warc" not in name:
        assert f["bytes"] == sum(len(x.encode()) for x in texts), name
assert {d["file"] for d in truth} == set(files), "other files"

# The steps.
docs = sorted((d for d in truth if d["kind"] not in unread and d["kind"] != "blank"), key=lambda d: (order.index(d["file"]), d["place"]))
read = Counter(d["domain"] for d in docs)
flows = Counter()  # (step, domain, what)
gone, texts = {}, {}


def size(text):
    return len(text.encode())


def drop(d, step):
    flows[step, d["domain"], "dropped"] += 1
    flows[step, d["domain"], "dropped_bytes"] += size(texts[at(d)])
    gone[at(d)] = step


def change(d, step, text):
    if text != texts[at(d)]:
        flows[step, d["domain"], "changed"] += 1
        flows[step, d["domain"], "gained_bytes"] += size(text) - size(texts[at(d)])
        texts[at(d)] = text


def at(d):
    return d["file"], d["place"]


def left():
    return [d for d in docs if at(d) not in gone]


for d in docs:
    texts[at(d)] = d["text"]
    text = trimmed(d["text"])
    if text and d["kind"] not in ("html", "page"):
        change(d, "normalise", text)
    elif not text:
        drop(d, "normalise")
for d in left():
    if d["domain"] == "web" and d["kind"] in ("short", "repetitive"):
        drop(d, "gopher_quality" if d["kind"] == "short" else "gopher_repetition")
first = {}
for d in left():
    if first.setdefault(exact_key(texts[at(d)]), d) is not d:
        drop(d, "exact")
count = Counter(exact_key(line) for d in left() for line in texts[at(d)].split("\n"))
seen = set()
for d in left():
    lines = []
    for line in texts[at(d)].split("\n"):
        key = exact_key(line)
        if len(key) < 40 or count[key] < 5 or key not in seen:
            lines.append(line)
        seen.add(key)
    text = "\n".join(lines)
    if text.strip():
        change(d, "lines", text)
    else:
        drop(d, "lines")
signed = dict(texts)
near, places = dropped("first/out", "near")
for d in left():
    if at(d) in near:
        drop(d, "near")
for d in left():
    if d["kind"] == "contaminated":
        drop(d, "decontaminate")
for d in left():
    change(d, "scrub", texts[at(d)].replace(MAIL, "email@example.com").replace(PUBLIC, "22.214.171.124"))

# What is in the shards.
found = kept(sys.argv[1], "first/out")
assert set(found) == {at(d) for d in left()}, sorted(set(found) ^ {at(d) for d in left()})[:5]
for d in left():
    f = found[at(d)]
    if d["kind"] == "html":
        assert all(p in f["text"] for p in d["paragraphs"]) and "menu" not in f["text"], f["text"][:200]
    else:
        assert f["text"] == texts[at(d)], (d["kind"], f["text"][:300], texts[at(d)][:300])
    assert f["shard"].split("/")[1].rsplit("-", 1)[0] == d["domain"], f
    assert f["bytes"] == size(f["text"])

# What the report says of it.
steps = {s["step"]: {d["domain"]: d for d in s["domains"]} for s in report["steps"]}
assert list(steps) == ["normalise", "gopher_quality", "gopher_repetition", "code", "exact", "lines", "near", "substring",
                       "decontaminate", "scrub"], list(steps)
final = Counter()
for d in report["domains"]:
    final[d["domain"], "documents"] += d["documents"]
    final[d["domain"], "bytes"] += d["bytes"]
bytes_read = Counter()
for d in docs:
    if d["domain"] != "crawl":
        bytes_read[d["domain"]] += size(d["text"])
bytes_read["crawl"] = next(f["bytes"] for f in report["files"] if "warc" in f["file"])
for domain in read:
    for step, domains in steps.items():
        for what, n in domains[domain].items():
            if what != "domain" and (domain, step) != ("crawl", "normalise"):
                assert n == flows[step, domain, what], (step, domain, what, n, flows[step, domain, what])
    total = {w: sum(s[domain][w] for s in steps.values()) for w in ("dropped", "dropped_bytes", "gained_bytes")}
    assert read[domain] - total["dropped"] == final[domain, "documents"], domain
    assert bytes_read[domain] - total["dropped_bytes"] + total["gained_bytes"] == final[domain, "bytes"], domain
    rows = [f for f in found.values() if f["shard"].split("/")[1].startswith(domain + "-")]
    assert len(rows) == final[domain, "documents"] and sum(f["bytes"] for f in rows) == final[domain, "bytes"], domain
assert report["near"]["dropped"] == len(near) == sum(flows["near", d, "dropped"] for d in read)
assert report["exact"]["dropped"] == sum(flows["exact", d, "dropped"] for d in read) == 60
assert report["exact"]["clusters"] == 40
assert report["scrubbed"] == {"email": 6, "ip": 8, "phone": 0}, report["scrubbed"]
rules = {f["filter"]: {r["rule"]: r["documents"] for r in f["rules"]} for f in report["filters"]}
assert rules["code"]["max_line"] == sum(d["kind"] == "wide code" for d in docs) == 3
assert rules["gopher_quality"]["min_words"] == 9 and rules["gopher_repetition"]["max_duplicate_lines"] == 7
assert [e["text"][:20] for e in report["examples"]["gopher_quality.min_words"]], "no examples"
assert sum(report["near"]["similarity"]) == report["near"]["pairs"] >= report["near"]["verified"] > 0
assert sum(report["near"]["similarity"][15:]) == report["near"]["verified"]
assert sum(report["near"]["sizes"]) == report["near"]["clusters"]

# The boilerplate stays where it comes first; short and rare lines stay everywhere.
assert sum(f["text"].lower().count(BOILERPLATE) for f in found.values()) == 1
assert sum(f["text"].count(RARE) for f in found.values()) == 3
assert sum(f["text"].count(SHORT) for f in found.values()) == 30

# Near duplicates: the evidence holds, and nobody went for the sake of a document that is not like it.
for place, row in near.items():
    kept_at = places.get(row["kept"])
    assert kept_at not in near and kept_at in found, (place, row)
    assert (order.index(kept_at[0]), kept_at[1]) < (order.index(place[0]), place[1]), "not the first one"
    s = jaccard(signed[place], signed[kept_at])
    assert s >= 0.75 and abs(s - row["similarity"]) <= 1e-6, (place, row, s)
clusters = evidence("first/out")
for c in clusters:
    assert len(c["documents"]) == c["size"], c
    assert c["cluster"] == min(d["id"] for d in c["documents"])
    assert sorted(d["id"] for d in c["documents"]) == [d["id"] for d in c["documents"]]
    for d in c["documents"]:
        if d["id"] == d["kept"] and c["step"] == "near":
            assert found[d["file"], d["place"]]["cluster"] == c["cluster"]
assert len(clusters) == report["near"]["clusters"] + report["exact"]["clusters"]

# Chains: of A ~ B ~ C the first stays, what is like it goes, and C, not like A, stays.
ideal = 0
chains = {}
for d in docs:
    if d["kind"] == "chain":
        chains.setdefault(d["chain"], {})[d["link"]] = at(d) in found
for number, links in chains.items():
    want = {1} if number < 25 else {0, 2, 4} & set(links)
    ideal += {i for i, stays in links.items() if stays} == want
assert ideal >= 0.85 * len(chains), (ideal, len(chains))

# Contaminated documents are listed, with what they hold.
listed = [json.loads(line) for line in open("first/out/evidence/contaminated.jsonl")]
assert sorted((c["file"], c["place"], c["evaluation_text"]) for c in listed) == \
    sorted((*at(d), d["question"]) for d in docs if d["kind"] == "contaminated"), listed
assert all(c["dropped"] and c["matches"] >= 1 and c["excerpt"] for c in listed)
assert report["contaminated_places"] == sum(c["matches"] for c in listed) == 11

# Held-out documents by a share, whole numbers in the manifest.
heldout = sum(d["heldout"]["documents"] for d in manifest["domains"])
assert 0.03 < heldout / len(found) < 0.07, heldout
assert sum(d[s]["documents"] for d in manifest["domains"] for s in ("train", "heldout")) == len(found)
END
}
check 'every document and byte is where it should be' account

# ---- which copy stays ----
{ # the groups of copies alone
    echo 'import json'
    echo 'd = [x for x in json.load(open("corpus/truth.json"))["documents"] if x["kind"] == "copy"]'
    echo 'open("copies.jsonl", "w").writelines(json.dumps({"text": x["text"]}) + "\n" for x in d)'
    echo 'json.dump(d, open("copies.json", "w"))'
} | python3
printf 'tokenizer: ../tok\nout: out\nheldout: 0\nsources:\n  copies:\n    path: ../copies.jsonl\nexact: {}\n' >copies.yaml
expect 0 '' in_folder copies-first build 1 copies
expect 0 '' in_folder copies-longest build 2 copies exact.keep=longest
stays() { # FOLDER 'roles that stay, of 40 groups'
    python "$WEFT" "$@" <<'END'
import json, sys
from pipeline_corpus import *
d = json.load(open("copies.json"))
roles = [d[place - 1]["role"] for _, place in kept(sys.argv[1], sys.argv[2] + "/out")]
groups = {d[place - 1]["group"] for _, place in kept(sys.argv[1], sys.argv[2] + "/out")}
assert len(roles) == len(groups) == 40 and set(roles) == {sys.argv[3]}, roles
END
}
check 'the longest of copies' stays copies-longest longest
check 'the first of copies' stays copies-first first

# Near duplicates, the longest: of each pair of one file the document of more bytes.
expect 0 '' in_folder longest build 1 low near.keep=longest near.threshold=0.75 heldout=0
longest() {
    python <<'END'
import json
from pipeline_corpus import *
truth = {(d["file"], d["place"]): d for d in json.load(open("corpus/truth.json"))["documents"]}
gone, places = dropped("longest/out", "near")
pairs = 0
for at, row in gone.items():
    kept_at = places[row["kept"]]
    a, b = len(truth[at]["text"]), len(truth[kept_at]["text"])
    assert a < b or (a == b and kept_at < at), (truth[at], truth[kept_at])
    pairs += a < b and at < kept_at
assert pairs > 100, "the policy changed nothing"
END
}
check 'the longest of near duplicates' longest

# ---- repeated passages ----
python <<'END'
import json
d = [x for x in json.load(open("corpus/truth.json"))["documents"] if x["kind"] == "passage"]
d.sort(key=lambda x: x["role"] == "again")
for x in d:  # what the scrubber replaces in front of a passage moves it
    x["text"] = x["text"].replace(" ", " someone@loom-mail.net ", 3)
open("passages.jsonl", "w").writelines(json.dumps({"text": x["text"]}) + "\n" for x in d)
json.dump(d, open("passages.json", "w"))
END
cat >passages.yaml <<'END'
tokenizer: ../tok
out: out
heldout: 0
unit_kib: 1
memory_mib: 18
sources:
  p:
    path: ../passages.jsonl
substring:
  length: 80
scrub: {}
END
expect 0 '' in_folder masked build 2 passages
expect 0 'sound' "$WEFT" data verify masked/out
expect 0 '' in_folder cut build 1 passages substring.cut=true
passages() {
    python "$WEFT" <<'END'
import json, shutil, sys
from pipeline_corpus import *
weft, d = sys.argv[1], json.load(open("passages.json"))
n, replaced = len(d) // 2, lambda t: t.replace("someone@loom-mail.net", "email@example.com")


def tokens(text):
    return len(json.loads(run(weft, "tokenizer", "encode", "tok", "--text=" + text, "--json"))["ids"])


wanted = [tokens(" " + x["passage"]) for x in d[n:]]
assert min(wanted) >= 80, wanted
report = json.load(open("masked/out/report.json"))
got = report["substring"]["masked_tokens"]
assert abs(got - sum(wanted)) <= 4 * n, (got, wanted)
rows = kept(weft, "masked/out")
for place, x in enumerate(d, 1):  # nothing is taken out
    assert rows["../passages.jsonl", place]["text"] == replaced(x["text"])
if shutil.which("h5dump"):
    shards = sorted(glob.glob("masked/out/train/*.h5"))
    assert len(shards) == 1

    def dataset(name):
        text = run("h5dump", "-y", "-w", "1", "-d", "/" + name, shards[0]).decode().split("DATA {")[1].split("}")[0]
        return [int(v.strip(",")) for v in text.split()]

    ends, ranges, origin = dataset("doc_end"), dataset("masked"), dataset("doc_origin")
    masks = dict(zip(ranges[::2], ranges[1::2]))
    assert len(masks) == n and sum(masks.values()) == got, masks
    for first, count in masks.items():
        i = sum(end <= first for end in ends)
        x = d[origin[4 * i + 1] - 1]
        begin = first - (ends[i - 1] if i else 0) - 1  # behind BOS
        assert x["role"] == "again", "the earlier one is masked"
        before = replaced(x["text"].split(x["passage"])[0]).rstrip()
        assert abs(begin - tokens(before)) <= 2 and abs(count - tokens(" " + x["passage"])) <= 4, (begin, count, tokens(before))
cut, report = kept(weft, "cut/out"), json.load(open("cut/out/report.json"))
assert report["substring"]["masked_tokens"] == 0
for place, x in enumerate(d, 1):
    text = cut["../passages.jsonl", place]["text"]
    if x["role"] == "first":
        assert text == replaced(x["text"])
        continue
    before, after = (replaced(p) for p in x["text"].split(x["passage"]))
    inside = x["passage"].split()[2:-2]  # its ends may share a token with what is around
    assert text.startswith(before.rstrip()) and text.endswith(after.lstrip()) and not set(inside) & set(text.split()), text
END
}
check 'a repeated passage is masked in the later document, or cut' passages

# ---- the same bytes, however it is done ----
same() { diff -r --exclude=report.html --exclude="${3:-report.html}" "$1/out" "$2/out"; }
expect 0 '' in_folder threads3 build 1 main --threads 3
expect 0 '' in_folder ranks2 build 2 main
expect 0 '' in_folder ranks4 build 4 main --threads 3
expect 0 '' in_folder ranks7 build 7 main
for run in threads3 ranks2 ranks4 ranks7; do
    check "the same bytes: $run" same first $run
done
check 'the work directory is gone' test ! -e first/out.work -a ! -e ranks7/out.work
expect 0 '' in_folder memory build 2 main memory_mib=300
check 'the same shards and evidence in more memory' diff -r first/out/train memory/out/train
check 'the same evidence in more memory' diff -r first/out/evidence memory/out/evidence
check 'more than one shard of a domain' test -e first/out/train/books-00002.h5

# Killed with every rank at once in the middle of a stage, gone on with another number of ranks.
journal_before() { corpus journal "$1/out.work" >"$1.journal"; }
kill_in() { # FOLDER RANKS STAGE RECORDS [build's arguments]: dies in this stage
    local folder=$1 n=$2 stage=$3 records=$4 status
    shift 4
    status=$(in_folder "$folder" corpus kill out.work "$stage" "$records" all \
        $([ "$n" = 1 ] || echo mpirun -n "$n") "$WEFT" data build ../main.yaml "$@" 2>"$folder.log")
    check "$folder: killed in $stage on $n ranks (status ${status:-none})" test -n "$status" -a "$status" != 0 || cat "$folder.log"
    check "$folder: nothing appears" test ! -e "$folder/out"
}
goes_on() { grep -q 'out.work: going on with the build that was begun here' "$1.log"; }
# What was journalled before is there still, and no piece is there twice.
journal_kept() {
    python "$1" <<'END'
import json, sys
from pipeline_corpus import *
before, after = json.load(open(sys.argv[1] + ".journal")), journal(sys.argv[1] + "/out.work")
for name, pieces in before.items():
    assert after.get(name, [])[: len(pieces)] == pieces, (name, pieces, after.get(name))
done = {}
for name, pieces in after.items():
    done.setdefault(name.rsplit(".", 1)[0], []).extend(pieces)
for stage, pieces in done.items():
    assert len(set(pieces)) == len(pieces), (stage, "pieces done twice")
assert sum(map(len, before.values())) > 0
END
}
mkdir killed
kill_in killed 4 read 5 keep_work=true
journal_before killed
for moment in '2 clean 3' '1 sign 20' '3 near-candidates 1' '2 near-verify 2' '7 substring 2' '2 finish 9' '4 shards 1'; do
    kill_in killed $moment keep_work=true
    check 'it says that it goes on' goes_on killed
    check 'finished work is not done again' journal_kept killed
    journal_before killed
done
expect 0 'going on with the build' in_folder killed build 3 main keep_work=true
check 'finished work is not done again' journal_kept killed
check 'the same bytes' same first killed recipe.yaml
mkdir discarded
kill_in discarded 1 clean 30
kill_in discarded 4 near-verify 4
kill_in discarded 2 shards 1
expect 0 'going on with the build' in_folder discarded build 1 main --threads 2
check 'the same bytes where the files of finished stages were removed' same first discarded
check 'the work directory is gone' test ! -e discarded/out.work

# ---- looking at it ----
expect 0 'sound' "$WEFT" data verify first/out
expect 0 'books' "$WEFT" data stats first/out
expect 0 '../corpus/books.jsonl.zst:' "$WEFT" data ls first/out --domain books --split train -n 5
check 'ls -n' test "$("$WEFT" data ls first/out -n 7 --json | wc -l)" -eq 7
expect 2 "there is no domain 'nowhere'" "$WEFT" data ls first/out --domain nowhere
expect 2 "there is no split 'test'" "$WEFT" data ls first/out --split test
expect 0 'near        2 documents,      1 dropped, similarity from 0.' "$WEFT" data show first/out -n 100000
check 'show lists every cluster' test "$("$WEFT" data show first/out -n 100000 | wc -l)" -eq \
    "$(cat first/out/evidence/clusters-*.zst | zstdcat | wc -l)"
shown() { # a cluster, its documents one below the other
    python "$WEFT" <<'END'
import json, os, sys
from pipeline_corpus import *
truth = {(d["file"], d["place"]): d for d in json.load(open("corpus/truth.json"))["documents"]}
c = next(c for c in evidence("first/out") if c["step"] == "near" and truth[c["documents"][0]["file"], c["documents"][0]["place"]]["kind"] == "pair")
os.chdir("first")
text = run(sys.argv[1], "data", "show", "out", str(c["cluster"]), "--bytes", "100000").decode()
assert text.startswith(f"cluster {c['cluster']}: 2 documents, near duplicates"), text
pair = truth[c["documents"][0]["file"], c["documents"][0]["place"]]["pair"]
for d in truth.values():
    if d.get("pair") == pair:
        assert d["text"] in text, (d["text"], text)
assert text.count(", kept\n") == 1 and text.count("dropped: similarity 0.") == 1, text
END
}
check 'show has both texts' shown
expect 2 'there is no cluster 123456789' "$WEFT" data show first/out 123456789
expect 2 "'x1' is no number of a cluster" "$WEFT" data show first/out x1
expect 0 'train/' "$WEFT" data sample first/out -n 2
check 'report.html is a page' grep -q '<html' first/out/report.html

# ---- recipes that are wrong: file, line, the nearest name; status 2 on one rank and on three; nothing left behind ----
mkdir bad
wrong() { # 'reason' 'lines of YAML': instead of main.yaml's steps
    printf 'tokenizer: ../tok\nout: out\nsources:\n  books:\n    path: ../corpus/books.jsonl.zst\n%s\n' "$2" >bad.yaml
    expect 2 "$1" in_folder bad build 1 bad
    check 'nothing is left behind' test -z "$(ls bad)"
}
wrong "bad.yaml:6: unknown step or key 'exakt'; did you mean 'exact'?" 'exakt: {}'
wrong "bad.yaml:7: unknown key 'treshold'; did you mean 'threshold'?" $'near:\n  treshold: 0.8'
wrong "bad.yaml:7: unknown filter 'gopher_kwality'; did you mean 'gopher_quality'?" $'filters:\n  gopher_kwality: {}'
wrong "bad.yaml:8: unknown rule or option 'min_wrods'; did you mean 'min_words'?" $'filters:\n  gopher_quality:\n    min_wrods: 3'
wrong "bad.yaml:8: min_words is 'few'; it must be a number, or off" $'filters:\n  gopher_quality:\n    min_words: few'
wrong "bad.yaml:7: threshold is '1.5'; it must be a number from 0.01 to 1" $'near:\n  threshold: 1.5'
wrong "bad.yaml:7: bands is '3.5'; it must be whole" $'near:\n  bands: 3.5'
wrong "bad.yaml:7: keep is 'last'; it must be one of first|longest|best" $'exact:\n  keep: last'
wrong "bad.yaml:7: nfc is 'yes'; it must be true or false" $'normalise:\n  nfc: yes'
wrong "bad.yaml:6: unknown key 'pat'; did you mean 'path'?" '    pat: x'
wrong "bad.yaml:7" $'near:\n   - 1'
wrong 'decontaminate.files is missing' 'decontaminate: {}'
wrong 'near: 1024 bands of 1024 rows are more than 4096 hashes' $'near:\n  bands: 1024\n  rows: 1024'
expect 2 "unknown step or key 'nera'; did you mean 'near'?" in_folder bad build 1 main nera.bands=3
expect 2 "'bands' is not KEY=VALUE" in_folder bad build 1 main bands
expect 2 "nothere.yaml" in_folder bad build 1 nothere
expect 2 "has no path" in_folder bad build 1 main sources.more={}
expect 2 "nothere.jsonl" in_folder bad build 1 main sources.more.path=nothere.jsonl
expect 2 "no document is of the domain 'wob'" in_folder bad build 1 main filters.code.domains=wob
expect 2 'nowhere' in_folder bad build 1 main tokenizer=nowhere
printf 'tokenizer: ../tok\nout: out\nnaer: {}\n' >bad.yaml
expect 2 "bad.yaml:3: unknown step or key 'naer'; did you mean 'near'?" in_folder bad build 3 bad
check 'said once' test "$(in_folder bad build 3 bad 2>&1 | grep -c "unknown step")" -eq 1
check 'nothing is left behind' test -z "$(ls bad)"
each_status() { # every rank's own status
    in_folder bad mpirun -n 3 sh -c '"$@"; echo "status $?"' sh "$WEFT" data build ../bad.yaml 2>/dev/null | grep -c '^status 2$'
}
check 'status 2 on every rank' test "$(each_status)" -eq 3
expect 0 'max_duplicate_lines' "$WEFT" data recipe
"$WEFT" data recipe main.yaml >printed.yaml
check 'a printed recipe is the same recipe' diff printed.yaml <("$WEFT" data recipe printed.yaml)
for recipe in "$SRC"/configs/data/*.yaml; do
    expect 0 'near:' "$WEFT" data recipe "$recipe"
done
# ---- tags ----
# Of two copies the one that no filter tags stays, and what is tagged is listed.
python3 - <<'END'
import json
text = "The weft is carried across the warp by the shuttle, row after row, until the cloth is whole."
with open("tagged.jsonl", "w") as f:
    for url in "http://bad.example/1", "http://good.example/1", "http://bad.example/2":
        f.write(json.dumps({"text": text + (" And then some." if url.endswith("2") else ""), "url": url}) + "\n")
END
echo bad.example >bad.txt
cat >tags.yaml <<'END'
sources:
  x:
    path: tagged.jsonl
heldout: 0
filters:
  url_list:
    tag: true
    list: bad.txt
exact:
  keep: best
END
expect 0 'exact                           1' "$WEFT" data build tags.yaml tokenizer=tok out=tags
expect 0 'tagged.jsonl:2' "$WEFT" data ls tags
check 'the copy that is tagged went' test "$("$WEFT" data ls tags | grep -c 'tagged.jsonl:1')" = 0
check 'the document that is tagged is listed' test "$(cut -d, -f3- tags/evidence/tagged.jsonl)" = '"place":3,"tags":["url_list"]}'
expect 2 'no filter has tag: true' "$WEFT" data build tags.yaml tokenizer=tok out=tags2 filters.url_list.tag=false
finish
