# weft data build, stats, verify, sample; every bad input ends with status 2 and leaves nothing behind.
source "$CLI_DIR/lib.sh"

# ---- a small corpus: three domains, each packing ----
words=(weft warp loom thread shuttle heddle reed selvage bobbin cloth)
sentence() { printf '%s %s the %s, %s times; Größe %s.' "${words[$1 % 10]}" "${words[$1 * 7 % 10]}" "${words[$1 / 10 % 10]}" "$1" "${words[$1 * 3 % 10]}"; }
for i in $(seq 300); do
    printf '{"text": "%s\\n%s", "domain": "web"}\n' "$(sentence $i)" "$(sentence $((i * 3)))"
done >web.jsonl
for i in $(seq 200); do
    printf '{"domain": "code", "n": %d, "text": "if (x_%d == %d) {\\n    return %s;\\n}\\n"}\n' $i $i $((i % 7)) "${words[$i % 10]}"
done | gzip >code.jsonl.gz
for i in $(seq 150); do printf '{"text": "Chapter %d. %s"}\n' $i "$(sentence $i)"; done | zstd -q >books.jsonl.zst
for i in $(seq 60); do sentence $i; printf '\n'; done >notes.txt
"$WEFT" tokenizer train --vocab 400 -o tok web.jsonl code.jsonl.gz books.jsonl.zst 2>train.log || { cat train.log; exit 1; }

build() { "$WEFT" data build --tokenizer tok "$@"; }
files=(web.jsonl code.jsonl.gz books=books.jsonl.zst notes.txt)
json() { python3 -c 'import json, sys; v = json.load(open(sys.argv[1])); print(eval(sys.argv[2]))' "$@"; }

# ---- good input ----
expect 0 'usage: weft data build' "$WEFT" data build --help
expect 0 'weft data verify   DIR' "$WEFT" data --help
expect 0 'all              train' build -o out --heldout 0.1 --threads 1 "${files[@]}"
expect 0 'sound: 8 files' "$WEFT" data verify out
expect 0 'vocabulary 400' "$WEFT" data stats out
"$WEFT" data stats out --json >stats.json
check 'domains in the manifest' test "$(json stats.json '",".join(d["name"] for d in v["domains"])')" = books,code,default,web
check 'every document is in one split' test "$(json stats.json 'v["total"]["train"]["documents"] + v["total"]["heldout"]["documents"]')" = 651
check 'about a tenth is held out' test "$(json stats.json '40 < v["total"]["heldout"]["documents"] < 95')" = True
check 'all text is counted' test "$(json stats.json 'sum(v["total"][s]["bytes"] for s in ("train", "heldout")) == sum(s["bytes"] for s in v["sources"])')" = True
check 'the tokenizer is beside the shards' cmp tok/tokenizer.model out/tokenizer/tokenizer.model
for threads in 2 5; do
    OMP_NUM_THREADS=$threads expect 0 '' build -o "again$threads" --heldout 0.1 "${files[@]}"
    check "byte for byte the same with $threads threads" diff -r -x report.html out "again$threads"
done
expect 0 '' build -o reordered --heldout 0.1 notes.txt books=books.jsonl.zst web.jsonl code.jsonl.gz
"$WEFT" data sample reordered --split train -n 1000 --tokens 100000 --json >reordered.json

# What sample shows is the text that went in; heldout documents are not in train.
expect 0 '---- web, train/web-00000.h5' "$WEFT" data sample out --domain web -n 2
"$WEFT" data sample out --split train -n 1000 --tokens 100000 --json >train.json
"$WEFT" data sample out --split heldout -n 1000 --tokens 100000 --json >heldout.json
check 'the order of the files decides no document' test "$(json reordered.json 'sorted(d["text"] for d in v) == sorted(d["text"] for d in json.load(open("train.json")))')" = True
{ zcat code.jsonl.gz; zstdcat books.jsonl.zst; cat web.jsonl; } >all.jsonl
compare() {
    python3 - <<'END'
import json
train = [d["text"] for d in json.load(open("train.json"))]
heldout = [d["text"] for d in json.load(open("heldout.json"))]
text = [json.loads(line)["text"] for line in open("all.jsonl")] + [open("notes.txt").read()]
assert sorted(train + heldout) == sorted(text), "the texts differ"
assert not set(train) & set(heldout), "a text is on both sides"
END
}
check 'every document reads back as it was' compare

# Small shards: the same tokens in more files. A document is not cut.
expect 0 '' build -o many --heldout 0.1 --shard-tokens 1000 "${files[@]}"
check 'more than ten shards' test "$(ls many/train | wc -l)" -gt 10
expect 0 'sound' "$WEFT" data verify many
"$WEFT" data sample many --split train -n 1000 --tokens 100000 --json >many.json
check 'the same texts' test "$(json many.json 'sorted(d["text"] for d in v) == sorted(d["text"] for d in json.load(open("train.json")))')" = True

# Malformed lines up to the limit are counted.
{ echo '{"text": "cut'; head -n 50 web.jsonl; echo '{"no": "text"}'; printf '{"text": "\377"}\n'; } >bad.jsonl
expect 0 'bad.jsonl:1: malformed line skipped' build -o bad --heldout 0 bad.jsonl
expect 0 'skipped: 3 malformed lines' "$WEFT" data stats bad
expect 0 '' build -o bad3 --heldout 0 --max-errors 3 bad.jsonl

# ---- bad input: status 2, the reason, and nothing left behind ----
left() { ls -d x* 2>/dev/null; }
refuse() { # 'reason' ARGUMENTS of build
    local why=$1
    shift
    expect 2 "$why" build -o x "$@"
    check 'nothing is left behind' test -z "$(left)"
}
refuse 'bad.jsonl:53: malformed line' --max-errors 2 bad.jsonl
refuse 'bad.jsonl:1: malformed line' --max-errors 0 bad.jsonl
refuse 'nothere.txt: cannot be opened' web.jsonl nothere.txt
refuse 'not a name that ends in' tok/tokenizer.model
: >empty.txt
: >empty.jsonl
refuse 'the corpus is empty' empty.txt
refuse 'the corpus is empty' empty.txt empty.jsonl
mkdir d.txt
refuse 'd.txt: no file there that can be read' d.txt
printf 'good text, then \303\050' >latin.txt
refuse 'latin.txt: not UTF-8 at byte 16' web.jsonl latin.txt
head -c 1000 books.jsonl.zst >cut.jsonl.zst
refuse 'cut.jsonl.zst: truncated zstd data: the file ends at byte 1000' web.jsonl cut.jsonl.zst
head -c 1000 code.jsonl.gz >cut.jsonl.gz
refuse 'cut.jsonl.gz: truncated gzip data: the file ends at byte 1000' cut.jsonl.gz
cp web.jsonl notzst.jsonl.zst
refuse 'notzst.jsonl.zst: damaged zstd data' notzst.jsonl.zst
refuse 'no document is left for training: 1 are held out' --heldout 0.9999999 notes.txt
refuse 'it must be at least 0 and below 1' --heldout 1 web.jsonl
refuse 'neither a file nor DOMAIN=FILE' 'a b=web.jsonl'
refuse 'unknown option' --held-out 0.1 web.jsonl
for i in $(seq 33); do printf '{"text": "x", "domain": "d%d"}\n' $i; done >domains.jsonl
refuse "'d33' would be domain number 33; at most 32" domains.jsonl
expect 2 'no tokenizer is named' "$WEFT" data build -o x web.jsonl
expect 2 'nothere' "$WEFT" data build --tokenizer nothere -o x web.jsonl
expect 2 'notes.txt' "$WEFT" data build --tokenizer notes.txt -o x web.jsonl
check 'nothing is left behind' test -z "$(left)"
expect 2 'out: exists already' build -o out web.jsonl
expect 2 'out: exists already' build -o out/ web.jsonl
check 'what exists is untouched' diff -r -x report.html out again2
expect 0 '' build -o nodir/y web.jsonl

# A full disk: a small tmpfs where this user may mount one, a limit on the size of files everywhere.
python3 - <<'END'
import json, random
random.seed(1)
with open("large.jsonl", "w") as f:
    for i in range(400):
        f.write(json.dumps({"text": "".join(chr(random.randrange(33, 127)) for _ in range(5000)), "domain": f"d{i % 3}"}) + "\n")
END
# PMIx keeps large files of its own unless it is told to use none.
limited() { (trap '' XFSZ; ulimit -f "$1"; PMIX_MCA_gds=hash build -o x large.jsonl); }
for blocks in 1 100 300; do
    expect 2 'File too large' limited $blocks
    check "no directory is made at a limit of $blocks KiB" test ! -e x
done
expect 0 'x.work: going on with the build' build -o x large.jsonl
build -o whole large.jsonl >/dev/null
check 'with room the same command goes on to the same bytes' diff -r -x report.html x whole
rm -r x
mkdir full
if mount -t tmpfs -o size=1m tmpfs full 2>/dev/null; then
    trap 'umount full 2>/dev/null' EXIT
    for room in 1000 900 700 400 200 50 2; do
        # Everything but this many KiB is taken: the disk fills at another point each time.
        head -c $(((1024 - room) * 1024)) /dev/zero >full/ballast
        expect 2 'No space left on device' build -o full/x large.jsonl
        check "no directory is made with $room KiB" test ! -e full/x
        rm -rf full/x.work
    done
    umount full
else
    echo 'skipped: no tmpfs can be mounted here; the full disk was tried with ulimit only'
fi

# ---- damaged directories ----
damaged() { # 'reason': of verify, on a copy that the caller spoilt
    expect 2 "$1" "$WEFT" data verify copy
    rm -rf copy
}
spoil() { rm -rf copy && cp -r out copy; }
flip() { python3 -c 'import sys; f = open(sys.argv[1], "r+b"); f.seek(int(sys.argv[2])); b = f.read(1); f.seek(int(sys.argv[2])); f.write(bytes([b[0] ^ 1]))' "$@"; }
size=$(stat -c %s out/train/web-00000.h5)
for at in 0 100 600 1200 4000 $((size / 2)) $((size - 1)); do
    spoil && flip copy/train/web-00000.h5 "$at" && damaged 'train/web-00000.h5'
done
spoil && flip copy/train/web-00000.h5 4000 && flip copy/heldout/code-00000.h5 4000 && damaged '2 damaged'
spoil && truncate -s $((size - 10)) copy/train/web-00000.h5 && damaged 'truncated shard'
spoil && truncate -s 0 copy/train/web-00000.h5 && damaged 'truncated'
spoil && rm copy/train/web-00000.h5 && damaged 'No such file'
spoil && cp copy/train/code-00000.h5 copy/train/web-00000.h5 && damaged 'train/web-00000.h5'
printf '\211HDF\r\n\032\n%2000s' '' >foreign.h5
spoil && cp foreign.h5 copy/train/web-00000.h5 && damaged 'an HDF5 file, but not a weft shard'
spoil && flip copy/tokenizer/tokenizer.model 500 && damaged 'tokenizer.model: damaged'
spoil && rm copy/manifest.json && damaged 'manifest.json'
spoil && echo '{' >copy/manifest.json && damaged 'not JSON'
spoil && echo '{}' >copy/manifest.json && damaged 'not the manifest'
spoil && sed -i '0,/"tokens": /s//"tokens": 9/' copy/manifest.json && damaged 'manifest.json: damaged'
expect 2 'nothere' "$WEFT" data verify nothere
expect 2 'nothere' "$WEFT" data stats nothere
expect 2 "there is no domain 'wob'; it has: books, code, default, web" "$WEFT" data sample out --domain wob
expect 2 "there is no split 'test'" "$WEFT" data sample out --split test
"$WEFT" tokenizer train --vocab 390 -o tok390 web.jsonl code.jsonl.gz books.jsonl.zst 2>/dev/null
"$WEFT" data build --tokenizer tok390 -o other --heldout 0.1 "${files[@]}" >/dev/null
spoil && cp other/train/web-00000.h5 copy/train/web-00000.h5 && damaged 'web-00000.h5'
spoil && cp other/train/web-00000.h5 copy/train/web-00000.h5 &&
    expect 2 'made with another tokenizer' "$WEFT" train "$SRC/configs/tiny-hybrid.yaml" run=r data.path=copy train.seq_len=16 \
        model.vocab_size="$(sed -n 's/.*"vocab_size": \([0-9]*\).*/\1/p' copy/manifest.json)"
spoil && cp other/tokenizer/tokenizer.model copy/tokenizer/ && expect 2 'not the tokenizer that made the shards' "$WEFT" data sample copy
expect 2 "did you mean 'verify'" "$WEFT" data verfy out
finish
