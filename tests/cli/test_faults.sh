# A rank that dies, ends, stops, or leaves a collective out: the job ends, and one message says which rank it was.
source "$CLI_DIR/lib.sh"
tiny=$SRC/configs/tiny-hybrid.yaml

train() { # RUN: a job of four ranks without end, in the background
    timeout 60 mpirun -n 4 "$WEFT" train "$tiny" run="$1" train.steps=1000000 mesh.timeout=5 >"$1.log" 2>&1 &
    job=$!
}
until_step() { # RUN STEP; false when the job ends before
    until [ -s "$1/metrics.jsonl" ] && [ "$(wc -l <"$1/metrics.jsonl")" -ge "$2" ]; do
        kill -0 $job 2>/dev/null || return 1
        sleep 0.05
    done
}
pids() { "$WEFT" ledger "$1" --json | sed -n 's/.*"pid": \([0-9]*\),.*/\1/p'; }
pid_of() { "$WEFT" ledger "$1" --json --rank "$2" | sed -n 's/.*"pid": \([0-9]*\),.*/\1/p'; }
no_process() { # mpirun returns when it has sent the signals
    local try p alive
    for try in $(seq 30); do
        alive=0
        for p in $(pids "$1"); do kill -0 "$p" 2>/dev/null && alive=1; done
        [ $alive -eq 0 ] && return 0
        sleep 0.1
    done
    return 1
}
one_message() { # LOG: one error of ours, whatever mpirun adds
    test "$(grep -c '^weft: .*error:' "$1")" -eq 1
}
# ended RUN SECONDS TEXT...: the job ends in time and in failure; its one message, and `weft ledger` afterwards, have each text.
ended() {
    local run=$1 limit=$2 begin=$SECONDS status text
    shift 2
    wait $job
    status=$?
    check "$run: the status is not 0 (was $status)" test $status -ne 0 -a $status -ne 124
    check "$run: it ends within $limit seconds" test $((SECONDS - begin)) -le "$limit"
    check "$run: all ranks are gone" no_process "$run"
    check "$run: one message" one_message "$run.log" || cat "$run.log"
    for text in "$@"; do
        check "$run: the message says: $text" grep -q "^weft: .*error: .*$text" "$run.log" || cat "$run.log"
        expect 1 "$text" "$WEFT" ledger "$run"
    done
}

# Killed from outside, as by the out-of-memory killer.
train killed
check "the job runs" until_step killed 3
expect 0 "alive" "$WEFT" ledger killed
expect 0 '"parted": false' "$WEFT" ledger killed/ledger --json
expect 0 "all_gather" "$WEFT" ledger killed --records 20 --rank 1
expect 2 "no rank 4" "$WEFT" ledger killed --rank 4
kill -9 "$(pid_of killed 2)"
ended killed 10 "rank 2 died" "it was at step "
expect 1 '"parted": true' "$WEFT" ledger killed --json
expect 1 '"state": "died"' "$WEFT" ledger killed --json

# A rank that ends by itself, with any status.
WEFT_FAULT=exit:2:layers.3 train exits
ended exits 10 "rank 2 died" "it was at step 1"

# A rank that leaves out one collective of many.
left_out() { # TENSOR TEXT...
    local run=left_out_${1// /_} tensor=$1
    shift
    WEFT_FAULT="skip:1:$tensor" train "$run"
    ended "$run" 15 "$@"
}
# The others wait for it in a group that rank 1 has left behind ...
left_out layers.3 "rank 1 never entered layers.3 (" "they wait for each other: rank 1 "
# ... or meet it in the same group with something else.
left_out losses "rank 1 parts from the others" "all_gather of losses" "rank 1 all_reduce of gradient norm"

# A rank that stands still.
train stopped
check "the job runs" until_step stopped 3
kill -STOP "$(pid_of stopped 3)"
ended stopped 10 "rank 3 is stopped by a signal" "it was at step "

# An error in a file that several ranks read, and an exit in the thread of one rank's loader.
awk 'BEGIN {
    srand(7)
    for (i = 0; i < 6000; i++) {
        printf "{\"text\": \""
        for (w = 0; w < 14; w++) { for (k = 2 + int(4 * rand()); k >= 0; k--) printf "%c", 97 + int(26 * rand()); printf " " }
        print "\"}"
    }
}' >text.jsonl
"$WEFT" tokenizer train --vocab 320 -o tok text.jsonl >/dev/null 2>&1
"$WEFT" data build --tokenizer tok -o data --heldout 0.05 text.jsonl >/dev/null 2>&1
shard=$(ls data/train/*.h5)
train_on_text() { # RUN [mpirun's arguments]
    local run=$1
    shift
    timeout 60 mpirun -n 4 "$@" "$WEFT" train "$tiny" run="$run" data.path=data model.vocab_size=320 train.steps=1000000 >"$run.log" 2>&1 &
    job=$!
}
cat >leave.c <<'TEXT'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
ssize_t pread(int fd, void *to, size_t n, off_t at) { /* ends rank 2 when it reads training data */
    ssize_t (*next)(int, void *, size_t, off_t) = (ssize_t(*)(int, void *, size_t, off_t))dlsym(RTLD_NEXT, "pread");
    const char *rank = getenv("OMPI_COMM_WORLD_RANK");
    static int calls;
    char link[64], path[4096] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (readlink(link, path, sizeof path - 1) > 0 && strstr(path, "/train/") && rank && *rank == '2' && ++calls > 3) exit(3);
    return next(fd, to, n, at);
}
TEXT
if cc -shared -fPIC -o leave.so leave.c -ldl && ! ldd "$WEFT" | grep -q libasan; then
    train_on_text left -x LD_PRELOAD="$PWD/leave.so"
    ended left 10 "rank 2 died"
fi
printf '\377\377\377\377' | dd of="$shard" bs=1 seek=$(($(stat -c %s "$shard") / 2)) conv=notrunc 2>/dev/null
train_on_text damaged
wait $job
check "damaged: the status is 2" test $? -eq 2
check "damaged: one message" one_message damaged.log || cat damaged.log
check "damaged: it names the rank and the file" grep -q "rank [0-3]\] error: .*$shard: damaged shard\|^weft: error: .*$shard: damaged" damaged.log

# Another job may use the directory now. It ends in order.
rm -rf killed/checkpoints killed/metrics.jsonl
expect 0 "done: step 3" mpirun -n 2 "$WEFT" train "$tiny" run=killed train.steps=3
expect 0 "all ranks finished" "$WEFT" ledger killed
expect 0 '"ranks": 2' "$WEFT" ledger killed --json

# Files that cannot be read.
expect 2 "nowhere" "$WEFT" ledger nowhere
mkdir -p empty
expect 2 "empty: holds no ledger" "$WEFT" ledger empty
truncate -s 1000 killed/ledger/rank_00001.ledger
expect 2 "rank_00001.ledger: is damaged: it has 1000 bytes" "$WEFT" ledger killed
rm killed/ledger/rank_00001.ledger
expect 2 "rank_00001.ledger: is missing" "$WEFT" ledger killed
expect 2 "--records -1" "$WEFT" ledger killed --records -1
expect 0 "usage: weft ledger" "$WEFT" ledger --help
finish
