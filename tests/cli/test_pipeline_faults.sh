# weft data build RECIPE.yaml when something goes wrong: the disk, the files, the ranks, other jobs. What is made afterwards
# by the same command is, byte for byte, what an undisturbed build makes; or there is an error, and no directory.
source "$CLI_DIR/lib.sh"
source "$CLI_DIR/pipeline_lib.sh"
sanitized() { ldd "$WEFT" | grep -q 'lib[at]san'; }
same() { diff -r --exclude=report.html --exclude=recipe.yaml good/out "$1/out"; }
absent() { check "$1: no directory appears" test ! -e "$1/out"; }
json() { python3 -c 'import json, sys; v = json.load(open(sys.argv[1])); print(eval(sys.argv[2]))' "$@"; }
kill_in() { # FOLDER RANKS STAGE RECORDS VICTIM
    in_folder "$1" corpus kill out.work "$3" "$4" "$5" $([ "$2" = 1 ] || echo mpirun -n "$2") "$WEFT" data build ../small.yaml \
        2>"$1.log"
}

in_folder first corpus small ../small || exit 1
zcat small/b.jsonl.gz >words.jsonl
"$WEFT" tokenizer train --vocab 500 --sample-bytes 150000 -o tok words.jsonl 2>train.log || { cat train.log; exit 1; }
cat >small.yaml <<'END'
tokenizer: ../tok
out: out
heldout: 0.05
unit_kib: 32
memory_mib: 24
shard_tokens: 15000
keep_work: true
sources:
  a:
    path: ../small/a.jsonl
  b:
    path: ../small/b.jsonl.gz
  c:
    path: ../small/c.jsonl.zst
filters:
  gopher_quality:
    min_stop_words: off
    min_words: 61
    tag: true
exact: {}
lines: {}
near: {}
substring: {}
decontaminate:
  files: ../small/evaluation.jsonl
scrub: {}
END
expect 0 'all              train' in_folder good build 1 small
expect 0 'sound' "$WEFT" data verify good/out

# What exists is left alone.
expect 2 'out: exists already; remove it or choose another name' in_folder good build 3 small
check 'what exists is untouched' "$WEFT" data verify good/out
mkdir file && : >file/out.work
expect 2 'out.work' in_folder file build 1 small
absent file

# ---- a full disk: then room, and the same command goes on ----
room() { # DIRECTORY KIB: takes all but so much of what is free
    rm -f "$1/ballast"
    local free
    free=$(df -k --output=avail "$1" | tail -1)
    [ "$free" -le "$2" ] || head -c $(((free - $2) * 1024)) /dev/zero >"$1/ballast"
}
mkdir full
if mount -t tmpfs -o size=12m tmpfs full 2>/dev/null; then
    trap 'umount full 2>/dev/null' EXIT
    times=0
    for more in 20 300 400 300 600 300 400 500 300; do
        room full $more
        out=$(in_folder full build $((times % 2 * 2 + 1)) small 2>&1)
        status=$?
        [ $status -eq 0 ] && break
        times=$((times + 1))
        check "full disk $times: it says so" grep -q 'No space left on device' <<<"$out" || echo "$out"
        check "full disk $times: status 2 (was $status)" test $status -eq 2
        [ -s full/out.work/identity ] &&
            check "full disk $times: it says what to do" grep -q 'the same command goes on from there' <<<"$out"
        absent full
    done
    check "the disk was full several times ($times)" test $times -ge 4
    rm -f full/ballast
    [ -e full/out ] || expect 0 'going on with the build' in_folder full build 2 small
    check 'the same bytes after full disks' same full
    umount full
else
    echo 'skipped: no tmpfs can be mounted here; the full disk is tried with ulimit only'
fi
# PMIx keeps large files of its own unless it is told to use none.
limited() { (trap '' XFSZ; ulimit -f "$1"; PMIX_MCA_gds=hash build 1 small); }
for blocks in 0 20 33; do
    expect 2 'File too large' in_folder limit limited $blocks
    absent limit
done
expect 0 '' in_folder limit build 1 small
check 'the same bytes after a limit on the size of files' same limit

# ---- ranks that die ----
status=$(kill_in killed 4 sign 3 2)
check "one rank of four killed: the job fails (status ${status:-none})" test -n "$status" -a "${status:-0}" != 0
absent killed
expect 0 'going on with the build' in_folder killed build 3 small
check 'the same bytes after a killed rank' same killed

# A read error on one rank: all end, the message names the rank; what was done serves.
cat >broken.c <<'TEXT'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
ssize_t read(int fd, void *to, size_t n) { /* of b.jsonl.gz only the first block can be read */
    ssize_t (*next)(int, void *, size_t) = (ssize_t(*)(int, void *, size_t))dlsym(RTLD_NEXT, "read");
    char link[64], path[4096] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (readlink(link, path, sizeof path - 1) > 0 && strstr(path, "b.jsonl.gz") && lseek(fd, 0, SEEK_CUR) > 0) {
        errno = EIO;
        return -1;
    }
    return next(fd, to, n);
}
TEXT
if cc -shared -fPIC -o broken.so broken.c -ldl && ! sanitized; then
    broken="env LD_PRELOAD=$PWD/broken.so"
    expect 2 'b.jsonl.gz: read error at byte 131072: Input/output error' in_folder broken mpirun -n 2 $broken "$WEFT" data build ../small.yaml
    absent broken
    expect 0 'going on with the build' in_folder broken build 2 small
    check 'the same bytes after a read error' same broken
    expect 0 '' in_folder skipped $broken "$WEFT" data build ../small.yaml sources.b.damaged_files=skip
    check 'skipped, it is counted' test "$(json skipped/out/report.json 'v["files"][1]["damaged"], v["files"][1]["documents"] > 50')" = '(1, True)'
fi

# ---- other jobs, other recipes, other files ----
job=$(kill_in two 1 clean 2 stop)
check 'a job stands still' test -n "$job" || cat two.log
expect 2 'out.work: another job is building in this directory; wait for it, or stop it' in_folder two build 1 small
expect 2 'another job is building' in_folder two build 2 small
check 'its work is untouched' test -s two/out.work/journal/read.0
kill -CONT "$job"
for _ in $(seq 600); do
    kill -0 "$job" 2>/dev/null || break
    sleep 0.1
done
check 'the first job ends well' same two || cat two.log

# Refused, with what to do; nothing is lost.
kill_in changed 2 near-verify 1 all >/dev/null
stays() { check "$1: the work is still there" test -s changed/out.work/journal/sign.0; }
changed='remove it to begin anew, or restore them to go on'
expect 2 "$changed" in_folder changed build 1 small seed=9
stays 'another recipe'
cp -p small/b.jsonl.gz b.backup
touch small/b.jsonl.gz
expect 2 "out.work: left by a build with another recipe, other files, or files that have changed since; $changed" in_folder changed build 2 small
stays 'a file touched'
printf 'x' >>small/b.jsonl.gz
expect 2 "$changed" in_folder changed build 1 small
stays 'a file longer'
rm small/b.jsonl.gz
expect 2 'b.jsonl.gz' in_folder changed build 2 small
stays 'a file missing'
cp -p b.backup small/b.jsonl.gz
cp -p small/evaluation.jsonl e.backup
printf '{"q": "another question"}\n' >>small/evaluation.jsonl
expect 2 "$changed" in_folder changed build 1 small
stays 'an evaluation file changed'
cp -p e.backup small/evaluation.jsonl
[ -e changed/out ] || expect 0 'going on with the build' in_folder changed build 1 small
check 'the same bytes after all were restored' same changed

# ---- a flipped bit in any file of the work directory: found, or without effect; never another result ----
stages=(read clean exact line-keys lines sign near-candidates near-verify near-components-0 near-components-1 near-components-2
    near-components-3 near-label near-resolve tokens substring finish shards evidence)
undo_from() { # STAGE: it and all behind it are not done
    local stage found=
    for stage in "${stages[@]}"; do
        [ "$stage" = "$1" ] && found=1
        [ -z "$found" ] || rm -f bit/out.work/journal/"$stage".*
    done
}
flip() { python3 -c '
import os, sys
with open(sys.argv[1], "r+b") as f:
    size, where = os.path.getsize(sys.argv[1]), float(sys.argv[2])
    at = int(size * where if where >= 0 else size + where)
    f.seek(at)
    byte = f.read(1)
    f.seek(at)
    f.write(bytes([byte[0] ^ 2]))' "$@"; }
fresh_work() { # as just before the directory is published
    rm -rf bit && mkdir bit && cp -a good/out.work bit/out.work && cp -a good/out bit/out.work/out
}
largest() { ls -S $1 2>/dev/null | head -1; }
flipped() { # 'FILES' STAGE [WHERE]: the largest of these, as STAGE and those behind it find it
    local file out status
    fresh_work
    file=$(cd bit/out.work && largest "$1")
    check "flipped $1: there is such a file" test -n "$file" || return
    undo_from "$2"
    flip "bit/out.work/$file" "${3:-0.5}"
    out=$(in_folder bit build 1 small 2>&1)
    status=$?
    if [ $status -eq 0 ]; then
        check "flipped $file: without effect" same bit || return
    else
        check "flipped $file: found, status 2 (was $status)" test $status -eq 2 || echo "$out"
        check "flipped $file: the message names it" grep -q "error: out.work.*$(basename "$file")\|error: out.work: left by" <<<"$out" || echo "$out"
        absent bit
    fi
}
check 'the last stage is known' test -z "$(ls good/out.work/journal | grep -vE "^($(IFS='|'; echo "${stages[*]}"))\.0$")"
last=$(ls good/out.work/near/000000.round* | tail -1)
flipped 'read/*.docs' clean
flipped 'read/*.docs' clean 0.02
flipped 'read/*.domains' clean 0
flipped 'clean/*.exact' exact
flipped 'clean/*.docs' line-keys
flipped 'exact/*.drops' line-keys
flipped 'lines/*.keys' lines
flipped 'lines/*.drops' sign
flipped 'sign/*.bands' near-candidates
flipped 'sign/*.docs' near-verify
flipped 'sign/*.docs' finish 0.98
flipped 'near/*.pairs' near-verify
flipped 'near/*.edges' near-components-0
flipped "near/*.${last##*.}" near-label
flipped 'near/*.labelled' near-resolve
flipped 'near/*.drops' finish
flipped 'substring/*.tokens' substring
flipped 'substring/*.repeats' finish
flipped 'finish/*.tokens' shards
flipped 'evidence/*.near' evidence
flipped 'evidence/*.exact' evidence
flipped 'evidence/*.contaminated' evidence 0.9
flipped 'examples/000000.json' evidence 0.9
flipped 'journal/read.0' clean
flipped 'journal/clean.0' exact
flipped 'journal/shards.0' evidence
flipped 'journal/evidence.0' none
flipped 'identity' evidence
# Shards are checked when they are written, and by verify.
fresh_work
undo_from evidence
flip bit/out.work/out/train/a-00000.h5 0.5
in_folder bit build 1 small >/dev/null 2>&1 && expect 2 'damaged' "$WEFT" data verify bit/out
# A directory that was removed after all was done: made again, not without its shards.
rm -rf bit && mkdir bit && cp -a good/out.work bit/out.work
expect 0 '' in_folder bit build 2 small
check 'the same bytes where the directory was removed' same bit

# ---- bad input: what the source's options say ----
cat >one.yaml <<'END'
tokenizer: ../tok
out: out
heldout: 0
memory_mib: 16
unit_kib: 1024
sources:
  x:
    path: ../x.jsonl
    max_document_mib: 16
END
refused() { # 'reason' key=value...
    rm -rf one
    expect 2 "$1" in_folder one build "${n:-1}" one "${@:2}"
    absent one
}
taken() { # 'files[0] of the report, in Python' VALUE key=value...
    rm -rf one
    expect 0 '' in_folder one build "${n:-1}" one "${@:3}"
    check "$1 is $2 (${*:3})" test "$(json one/out/report.json "(lambda f: $1)(v['files'][0])" 2>&1)" = "$2" ||
        json one/out/report.json 'v["files"]'
}
head -n 100 small/a.jsonl >x.jsonl
# Packing that is cut off: what comes before is kept, or nothing.
for pack in gz zst; do
    # Of zstd four frames: one alone is decoded as a whole or not at all.
    if [ $pack = gz ]; then gzip <small/a.jsonl >whole; else split -n l/4 --filter='zstd -q' small/a.jsonl >whole; fi
    head -c $(($(stat -c %s whole) / 2)) whole >cut.jsonl.$pack
    if [ $pack = gz ]; then zcat cut.jsonl.gz 2>/dev/null; else zstd -dcq cut.jsonl.zst 2>/dev/null; fi >cut.jsonl
    n=2 refused "cut.jsonl.$pack: truncated" sources.x.path=../cut.jsonl.$pack
    taken '(f["damaged"], f["malformed"], f["documents"] >= 100)' '(1, 0, True)' sources.x.path=../cut.jsonl.$pack sources.x.damaged_files=skip
    check "the whole lines of $pack before its end" test "$(json one/out/report.json 'v["files"][0]["documents"]')" -eq "$(wc -l <cut.jsonl)"
    # Damaged gzip data may decode to anything before its checksum comes: only that is spoilt.
    cp whole flipped.jsonl.$pack && flip flipped.jsonl.$pack "$([ $pack = gz ] && echo -6 || echo 0.6)"
    refused "flipped.jsonl.$pack: damaged" sources.x.path=../flipped.jsonl.$pack
    taken '(f["damaged"], f["documents"] >= 200)' '(1, True)' sources.x.path=../flipped.jsonl.$pack sources.x.damaged_files=skip
done

# A line, a text, a record that is too long is passed over without being held.
python3 - <<'END'
import gzip, json
def line(i): return json.dumps({"text": f"document {i} of a few words"}).encode() + b"\n"
with gzip.open("long.jsonl.gz", "wb", 1) as f:
    f.write(line(1) + line(2) + b'{"text": "')
    for _ in range(80): f.write(b"long " * 209715)
    f.write(b'"}\n' + line(3))
with gzip.open("short.jsonl.gz", "wb", 1) as f: f.write(line(1) + line(2) + line(3))
with gzip.open("long.txt.gz", "wb", 1) as f:
    for _ in range(17): f.write(b"long " * 209716)
END
refused 'long.jsonl.gz:3: a line longer than 16777216 bytes, the most that is allowed' sources.x.path=../long.jsonl.gz
taken '(f["oversize"], f["documents"], f["malformed"])' '(1, 3, 0)' sources.x.path=../long.jsonl.gz sources.x.oversize=skip
check 'its bytes are counted' test "$(json one/out/report.json 'v["files"][0]["skipped_bytes"] > 80 * 1000 * 1000')" = True
refused 'long.txt.gz: a text longer than 16777216 bytes' sources.x.path=../long.txt.gz
refused 'the corpus is empty' sources.x.path=../long.txt.gz sources.x.oversize=skip
peak() { # FILE: KiB
    rm -rf one
    in_folder one /usr/bin/time -o ../peak -f %M "$WEFT" data build ../one.yaml sources.x.path="../$1" sources.x.oversize=skip >/dev/null 2>&1
    tail -1 peak
}
if [ -x /usr/bin/time ] && ! sanitized; then
    short=$(peak short.jsonl.gz) long=$(peak long.jsonl.gz)
    check "the memory is bounded: $short KiB, with a line of 84 MB $long KiB" test $((long - short)) -lt $((40 * 1024))
fi

# NUL bytes and invalid UTF-8: an error, skipped, repaired.
printf '{"text": "good one"}\n{"text": "a \\u0000 NUL"}\n{"text": "another \0 NUL"}\n' >nul.jsonl
refused 'nul.jsonl:2: ' sources.x.path=../nul.jsonl
taken '(f["documents"], f["invalid"], f["repaired"])' '(1, 2, 0)' sources.x.path=../nul.jsonl sources.x.nul_bytes=skip
taken '(f["documents"], f["invalid"], f["repaired"])' '(3, 0, 2)' sources.x.path=../nul.jsonl sources.x.nul_bytes=repair
check 'the text without its NUL' bash -c '"$WEFT" data sample one/out -n 9 | grep -qx "a  NUL"'
printf '{"text": "good one"}\n{"text": "not \377 UTF-8"}\n{"text": "half \\ud800 a pair"}\n' >utf.jsonl
taken '(f["documents"], f["malformed"])' '(1, 2)' sources.x.path=../utf.jsonl
refused 'utf.jsonl:3: malformed line' sources.x.path=../utf.jsonl max_errors=1
taken '(f["documents"], f["invalid"], f["malformed"])' '(1, 1, 1)' sources.x.path=../utf.jsonl sources.x.invalid_utf8=skip
taken '(f["documents"], f["repaired"], f["malformed"])' '(3, 2, 0)' sources.x.path=../utf.jsonl sources.x.invalid_utf8=repair
check 'U+FFFD takes its place' bash -c '"$WEFT" data sample one/out -n 9 | grep -qx "not � UTF-8"'
mkdir texts && printf 'good text' >texts/a.txt && printf 'bad \303\050 text' >texts/b.txt && printf 'NUL \0 text' >texts/c.txt
refused 'b.txt: not UTF-8 at byte 4' sources.x.path=../texts sources.x.nul_bytes=skip
refused 'c.txt: its text has a NUL byte' sources.x.path=../texts sources.x.invalid_utf8=skip
taken '[x["documents"] for x in v["files"]]' '[1, 0, 0]' sources.x.path=../texts sources.x.invalid_utf8=skip sources.x.nul_bytes=skip
taken '[x["repaired"] for x in v["files"]]' '[0, 1, 1]' sources.x.path=../texts sources.x.invalid_utf8=repair sources.x.nul_bytes=repair

# Malformed lines: the limit holds for all files together.
mkdir many
for i in 1 2; do { for _ in $(seq 60); do echo '{"text"'; done; head -n 20 small/a.jsonl; } >many/$i.jsonl; done
n=2 refused '120 malformed lines in all files; the limit is 100 (max_errors)' sources.x.path=../many
refused 'many/1.jsonl:51: malformed line' sources.x.path=../many max_errors=50
taken 'f["malformed"]' 60 sources.x.path=../many max_errors=120

# Files that cannot be read at all, found before any is.
refused 'nothere.jsonl' sources.x.path=../nothere.jsonl sources.y.path=../cut.jsonl.gz
mkdir dir.jsonl
refused 'dir.jsonl: no file there that can be read' sources.x.path=../dir.jsonl
if [ "$(id -u)" -ne 0 ]; then
    cp x.jsonl secret.jsonl && chmod 000 secret.jsonl
    n=2 refused 'secret.jsonl: cannot be opened: Permission denied' sources.x.path=../secret.jsonl
fi
refused 'nothere.jsonl' sources.x.path=../cut.jsonl.gz decontaminate.files=../nothere.jsonl
refused "'emial' is none of email, ip, phone; did you mean 'email'?" sources.x.path=../cut.jsonl.gz scrub.kinds=emial
refused 'no document is left for training' 'filters.gopher_quality.min_words=1000'
finish
