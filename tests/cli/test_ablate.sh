# weft ablate: variants to the end; on parts of a job, after kill -9 and from hand-made remains the same results; what is
# refused; --list, --run, --slurm, --report.
source "$CLI_DIR/lib.sh"

# ---- a small corpus and a small ablation ----
words=(weft warp loom thread shuttle heddle reed selvage bobbin cloth)
sentence() { printf '%s %s the %s, %s times; the %s.' "${words[$1 % 10]}" "${words[$1 * 7 % 10]}" "${words[$1 / 10 % 10]}" "$1" "${words[$1 * 3 % 10]}"; }
for i in $(seq 200); do printf '{"text": "%s\\n%s", "domain": "web"}\n' "$(sentence $i)" "$(sentence $((i * 3)))"; done >web.jsonl
for i in $(seq 200); do printf '{"domain": "code", "text": "if (x_%d == %d) {\\n    return %s;\\n}\\n"}\n' $i $((i % 7)) "${words[$i % 10]}"; done >code.jsonl
{ "$WEFT" tokenizer train --vocab 400 -o tok web.jsonl code.jsonl && "$WEFT" data build --tokenizer tok -o data --heldout 0.2 web.jsonl code.jsonl; } >make.log 2>&1 || { cat make.log; exit 1; }
cat >base.yaml <<'END'
model: {vocab_size: 400, hidden_size: 32, intermediate_size: 64, num_hidden_layers: 4, num_attention_heads: 2}
model.num_key_value_heads: 1
model.attn_layer_period: 4
model.attn_layer_offset: 1
model.num_experts: 1
data: {path: data}
train: {steps: 24, global_batch: 4, micro_batch: 1, seq_len: 64}
optim: {warmup: 4}
checkpoint: {every: 8}
END
cat >ratio.yaml <<'END'
out: one
title: Attention to Mamba
base: base.yaml
variants:
  hybrid: {}
  mamba: {model: {attn_layer_period: 0, attn_layer_offset: 0}}
seeds: 1, 2
match: {by: active, multiple: 2}
eval: {tasks: "bits, recall, activations", recall: {pairs: 2, documents: 4}, activations: {sequences: 2}}
END
json() { python3 -c 'import json, sys; v = json.load(open(sys.argv[1])); print(eval(sys.argv[2]))' "$@"; }
same_results() { cmp one/results.json "$1/results.json" && cmp one/results.md "$1/results.md" && test -s "$1/report.html"; }

# ---- to the end ----
expect 0 'usage: weft ablate' "$WEFT" ablate --help
expect 0 '     3  mamba-s2' "$WEFT" ablate ratio.yaml --list
check 'a list makes nothing' test ! -e one
expect 2 '4 of 4 runs are not done: hybrid-s1, hybrid-s2' "$WEFT" ablate ratio.yaml --report
expect 0 'run 3 of 4: mamba-s1 is done' "$WEFT" ablate ratio.yaml
check 'results of both variants' test "$(json one/results.json '[v["name"] for v in v["variants"]]')" = "['hybrid', 'mamba']"
check 'two domains, and a task' test "$(json one/results.json '[sorted(x["heldout"]) + sorted(x["tasks"]) for x in v["variants"]][1]')" = "['all', 'code', 'web', 'recall']"
check 'differences have pairs' test "$(json one/results.json '[v["variants"][1]["difference"][k]["pairs"] for k in ("train", "seeds")]')" = '[2, 2]'
check 'the report is there' test -s one/report.html
check 'a table' grep -q '^| mamba  *|' one/results.md
check 'the definition is kept' cmp ratio.yaml one/ablation.yaml
"$WEFT" ablate ratio.yaml --list --json >list.json
check 'all are done' test "$(json list.json '{x["state"] for x in v}')" = "{'done'}"
check 'mamba was matched' test "$(json list.json 'abs(v[2]["match_off"]) < 0.01 and v[2]["matched"].startswith("model.intermediate_size=")')" = True
cp one/results.json kept.json
touch -d '2001-01-01' one/mamba-s1/eval.json one/mamba-s1/metrics.jsonl
expect 0 'results.json, results.md and report.html are written' "$WEFT" ablate ratio.yaml
check 'what is done is not done again' test one/mamba-s1/eval.json -ot kept.json -a one/mamba-s1/metrics.jsonl -ot kept.json
"$WEFT" ablate ratio.yaml --report --json >printed.json 2>/dev/null
check '--json prints the results' cmp printed.json one/results.json

# ---- the same results side by side, and on two ranks ----
expect 0 'run 4 of 4: mamba-s2 is done' mpirun -n 2 "$WEFT" ablate ratio.yaml --at-once 2 out=side
check 'side by side the same results' same_results side
check 'each run has its log' grep -q 'step 24/24' side/hybrid-s1/log.txt side/mamba-s2/log.txt
expect 0 '' mpirun -n 2 "$WEFT" ablate ratio.yaml out=two
check 'on two ranks the same results' same_results two

# ---- another ablation that shares the runs ----
sed -e 's/^out: one/out: also\nruns: one/' -e 's/mamba: .*/rope: {model: {positions: rope}}/' ratio.yaml >also.yaml
touch -d '2001-01-01' one/hybrid-s2/eval.json
expect 0 'run 3 of 4: rope-s1 is done' "$WEFT" ablate also.yaml
check 'new runs lie beside the others' test -s one/rope-s2/eval.json -a ! -e also/rope-s2 -a ! -e also/hybrid-s1
check 'those of both are not done again' test one/hybrid-s2/eval.json -ot kept.json
check 'each has its own results' test "$(json also/results.json '[v["name"] for v in v["variants"]]')" = "['hybrid', 'rope']" -a -s also/report.html
check 'and the first stay' cmp one/results.json kept.json
sed -i 's/hybrid: {}/hybrid: {model: {positions: rope}}/' also.yaml
expect 2 'model.positions' "$WEFT" ablate also.yaml

# ---- killed, and begun again ----
# kill_when 'CONDITION' OUT: kill -9 as soon as it holds; a fast machine may be done before
kill_when() {
    "$WEFT" ablate ratio.yaml "out=$2" >/dev/null 2>&1 &
    local pid=$!
    until eval "$1" || ! kill -0 $pid 2>/dev/null; do sleep 0.002; done
    kill -9 $pid 2>/dev/null
    wait $pid 2>/dev/null
}
kill_when '[ -s k/hybrid-s1/metrics.jsonl ]' k
kill_when '[ -d k/hybrid-s1/checkpoints/step_00000008 ]' k
kill_when '[ -d k/hybrid-s1/checkpoints/step_00000024 ]' k
kill_when '[ -e k/hybrid-s1/eval.json ]' k
kill_when '[ -s k/mamba-s1/metrics.jsonl ]' k
kill_when '[ -e k/mamba-s2/eval.json ]' k
kill_when '[ -e k/results.json -o -e k/.results.json.tmp ]' k
expect 0 '' "$WEFT" ablate ratio.yaml out=k
check 'killed seven times, the results are the same' same_results k

# The same moments, exactly: what each leaves.
remains() { # WHAT COMMAND...: on a copy of the whole
    local what=$1
    shift
    rm -rf one && cp -r whole one && rm -f one/results.* one/report.html && (cd one && "$@")
    expect 0 '' "$WEFT" ablate ratio.yaml
    check "$what: the same results" same_results whole
    check "$what: the same report" same_report
}
# What was measured stands in a section of its own; all else is the same.
same_report() {
    python3 - <<'END'
import re
text = [re.sub(r'<section[^>]*id="measured".*?</section>', "", open(d + "/report.html").read(), flags=re.S) for d in ("one", "whole")]
assert text[0] == text[1]
END
}
cp -r one whole
before_checkpoint() { rm -r mamba-s1/checkpoints mamba-s1/eval.json && sed -i '6,$d' mamba-s1/metrics.jsonl && printf '{"step": 6, "lo' >>mamba-s1/metrics.jsonl; }
behind_checkpoint() { rm -r mamba-s1/checkpoints/step_00000024 mamba-s1/eval.json && sed -i '21,$d' mamba-s1/metrics.jsonl; }
in_evaluation() { rm -r hybrid-s2/eval.json && printf '{"model": "' >hybrid-s2/.eval.json.tmp; }
in_report() { printf '{"title' >.results.json.tmp; }
remains 'killed before the first checkpoint' before_checkpoint
remains 'killed behind it' behind_checkpoint
remains 'killed in an evaluation' in_evaluation
remains 'killed while the report was written' in_report

# A signal saves and stops; other parts too.
"$WEFT" ablate ratio.yaml out=s train.steps=4000 >stop.log 2>&1 &
pid=$!
until [ -s s/hybrid-s1/metrics.jsonl ] || ! kill -0 $pid 2>/dev/null; do sleep 0.01; done
kill -USR1 $pid
wait $pid
status=$?
check "USR1 ends with 75 (was $status)" test $status -eq 75
check 'and says so' grep -q 'hybrid-s1 is stopped' stop.log
check 'and has saved' "$WEFT" ckpt verify s/hybrid-s1

# ---- two processes ----
rm -rf r && cp -r one r && rm r/mamba-s2/eval.json r/hybrid-s1/eval.json
"$WEFT" ablate ratio.yaml out=r >first.log 2>&1 &
expect 0 '' "$WEFT" ablate ratio.yaml out=r
wait $!
check 'two processes share the runs' test $? -eq 0
check 'the same results' same_results r
rm r/results.json r/mamba-s2/eval.json
python3 - <<'END' &
import ctypes, fcntl, os, struct, time
fd = os.open("r/locks/mamba-s2", os.O_RDWR)
fcntl.fcntl(fd, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))  # F_OFD_SETLK
open("locked", "w").close()
while os.path.exists("locked"): time.sleep(0.05)
END
until [ -e locked ]; do sleep 0.02; done
expect 0 'mamba-s2; whoever ends last writes the report' "$WEFT" ablate ratio.yaml out=r
expect 0 'running' "$WEFT" ablate ratio.yaml out=r --list
check 'no report yet' test ! -e r/results.json
rm locked && wait $!

# ---- one run at a time ----
expect 0 '1 of 4 runs are left: mamba-s2' "$WEFT" ablate ratio.yaml out=r --run 0
expect 0 'results.json' "$WEFT" ablate ratio.yaml out=r --run 3
check 'the last run wrote the results' same_results r
"$WEFT" ablate ratio.yaml "title=it's" --slurm >array.sh
check '--slurm prints a script' bash -n array.sh
check 'for all runs' grep -qx '#SBATCH --array=0-3' array.sh
check 'quoted' grep -qF "'title=it'\\''s' --run \"\$SLURM_ARRAY_TASK_ID\"" array.sh
printf '#!/bin/bash\necho "$@" >>"%s/submitted"; cat >"%s/job.$(wc -l <"%s/submitted")"; echo "77;cluster"\n' "$TMP" "$TMP" "$TMP" >sbatch
chmod +x sbatch
PATH=$TMP:$PATH bash array.sh --time=1 >/dev/null
check 'the runs get the options' test "$(sed -n 1p submitted)" = '--parsable --time=1'
check 'the report waits for them' test "$(sed -n 2p submitted)" = '--dependency=afterok:77'
for job in job.1 job.2; do check 'a job is a script' bash -n $job; done
check 'the second writes the report' grep -q -- '--report' job.2

# ---- a definition that has changed ----
expect 2 'r/hybrid-s1 was begun with train.steps: 24, and ratio.yaml now says 25' "$WEFT" ablate ratio.yaml out=r 'train.steps=25'
sed 's/attn_layer_offset: 0}}/attn_layer_offset: 0}, optim: {lr: 0.01}}/' ratio.yaml >other.yaml
expect 2 'r/mamba-s1 was begun with optim.lr: 0.001, and other.yaml now says 0.01' mpirun -n 2 "$WEFT" ablate other.yaml out=r
check 'nothing was touched' same_results r
expect 0 '' "$WEFT" ablate ratio.yaml out=r log.every=1 checkpoint.every=0
expect 0 'evaluating mamba-s1' "$WEFT" ablate ratio.yaml out=r eval.tasks=bits
check 'only the evaluation was done again' test "$(json r/results.json '[x["tasks"] for x in v["variants"]]')" = '[{}, {}]'
python3 -c 'import json
e = json.load(open("r/mamba-s1/eval.json"))
e["bits"]["sequences"]["web"][0][0] += 1000
json.dump(e, open("r/mamba-s1/eval.json", "w"))'
expect 0 'evaluating mamba-s1' "$WEFT" ablate ratio.yaml out=r 'eval.tasks=bits, recall' eval.recall.pairs=3
check 'a task that was asked alike is not asked again' test "$(json r/mamba-s1/eval.json 'v["bits"]["sequences"]["web"][0][0] > 1000 and v["recall"][0]["pairs"]')" = 3
expect 0 'evaluating mamba-s1' "$WEFT" ablate ratio.yaml out=r 'eval.tasks=bits, recall' eval.bits.max_sequences=3
check 'one that was asked otherwise is' test "$(json r/mamba-s1/eval.json 'v["bits"]["sequences"]["web"][0][0] < 1000')" = True
check 'training was kept' test "$(grep -c . r/mamba-s1/metrics.jsonl)" -eq 24

# ---- a run that fails ----
cat >failing.yaml <<'END'
base: base.yaml
out: f
variants: {good: {}, bad: {data.path: nowhere}, also: {model.mamba_expand: 1}}
eval: {tasks: bits, bits: {max_sequences: 2}}
END
expect 2 '1 of 3 runs failed: bad-s1234' "$WEFT" ablate failing.yaml
check 'the others are done' test -s f/good-s1234/eval.json -a -s f/also-s1234/eval.json -a ! -e f/results.json
rm -rf f
expect 2 '1 of 3 runs failed: bad-s1234' mpirun -n 2 "$WEFT" ablate failing.yaml --at-once 2
check 'the others are done' test -s f/good-s1234/eval.json -a -s f/also-s1234/eval.json
check 'the failure was met once, and is told' test "$(grep -c 'error: .*nowhere' f/bad-s1234/log.txt)" -eq 1

# ---- wrong input ----
expect 2 'nothing.yaml' "$WEFT" ablate nothing.yaml
expect 2 'each part needs one' "$WEFT" ablate ratio.yaml --at-once 2
expect 2 'numbered 0 to 3' "$WEFT" ablate ratio.yaml --run 4
expect 2 'one at a time' "$WEFT" ablate ratio.yaml --run 1 --list
expect 2 "did you mean 'train.steps'" mpirun -n 2 "$WEFT" ablate ratio.yaml train.stepz=3
finish
