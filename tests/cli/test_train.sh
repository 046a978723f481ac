# weft train: resume, ranks, signals, used run directories, wrong input.
source "$CLI_DIR/lib.sh"
tiny=$SRC/configs/tiny-hybrid.yaml

losses() { sed -E 's/.*"step": ([0-9]+), "loss": ([^,]+), "grad_norm": ([^,]+),.*/\1 \2 \3/' "$1/metrics.jsonl"; }
same() { diff <(losses "$1") <(losses "$2") >diff.txt || { head -4 diff.txt; return 1; }; }
steps() { wc -l <"$1/metrics.jsonl"; }

# 50 steps on 1, 2 and 4 ranks: the same bits, microbatch of one sequence.
for n in 1 2 4; do
    expect 0 "done: step 50" mpirun -n $n "$WEFT" train "$tiny" run=ranks$n
done
check "50 steps are logged" test "$(steps ranks1)" -eq 50
check "2 ranks give the losses of 1, to the digit" same ranks1 ranks2
check "4 ranks give the losses of 1, to the digit" same ranks1 ranks4
check "an untrained model knows nothing: loss log(512)" awk 'NR==1{d=$2-log(512); exit !(d*d < 0.0025)}' <(losses ranks1)

# Other numbers of threads, packed microbatches, recomputation: the same problem.
OMP_NUM_THREADS=2 expect 0 "" "$WEFT" train "$tiny" run=threads2 train.steps=12
OMP_NUM_THREADS=1 expect 0 "" "$WEFT" train "$tiny" run=threads1 train.steps=12
check "threads change no digit" same threads1 threads2
expect 0 "" "$WEFT" train "$tiny" run=recompute train.steps=12 train.recompute=all
check "recomputation changes no digit" same threads1 recompute
expect 0 "" mpirun -n 2 "$WEFT" train "$tiny" run=plain train.steps=50 train.deterministic=run model.router_aux_loss_coef=0 train.micro_batch=4
expect 0 "" "$WEFT" train "$tiny" run=plain1 train.steps=50 train.deterministic=run model.router_aux_loss_coef=0 train.micro_batch=8
check "other microbatches agree to 1e-5" awk 'function rel(a,b){d=a-b; if(d<0)d=-d; return d/b} {if (rel($2,$5)>1e-5) {print; bad=1}} END{exit bad}' \
    <(paste -d' ' <(losses plain) <(losses plain1))

# What the plan says is what the run uses.
plan=$("$WEFT" plan "$tiny" --json | sed -n 's/.*"per_rank_bytes": \([0-9]*\).*/\1/p')
OMP_NUM_THREADS=1 expect 0 "" "$WEFT" train "$tiny" run=planned train.steps=1
check "plan's bytes are the run's" grep -q "\"mem_bytes\": $plan," planned/metrics.jsonl

# Interrupted by a signal, resumed on another number of ranks: the curve of the uninterrupted run.
cp -r ranks1 whole
for sig in USR1 USR2 TERM INT; do
    rm -rf cut
    "$WEFT" train "$tiny" run=cut >cut.log 2>&1 &
    pid=$!
    until [ -s cut/metrics.jsonl ] && [ "$(steps cut)" -ge 5 ]; do sleep 0.02; done
    kill -$sig $pid
    wait $pid
    status=$?
    # A fast machine may be done before the signal: then there is nothing to resume.
    check "$sig: saves and exits 75 (was $status)" test "$status" -eq 75 -o "$(steps cut)" -eq 50
    check "$sig: what was saved is whole" "$WEFT" ckpt verify cut
    expect 0 "" mpirun -n 2 "$WEFT" train "$tiny" run=cut
    check "$sig: the resumed curve is the uninterrupted one" same whole cut
done

# Killed behind a checkpoint: the records of the lost steps are replaced.
"$WEFT" train "$tiny" run=killed checkpoint.every=7 >/dev/null 2>&1 &
pid=$!
until [ -s killed/metrics.jsonl ] && [ "$(steps killed)" -ge 18 ]; do sleep 0.02; done
kill -9 $pid
wait $pid 2>/dev/null
expect 0 "" "$WEFT" train "$tiny" run=killed checkpoint.every=7
check "after kill -9 the curve is the uninterrupted one" same whole killed

# A finished run can be given more steps. Used directories are not begun again.
expect 0 "are done" "$WEFT" train "$tiny" run=whole
expect 2 "resume=never was asked for" "$WEFT" train "$tiny" run=whole resume=never
check "the used run is untouched" test "$(steps whole)" -eq 50
mkdir -p dead && echo '{"step": 1}' >dead/metrics.jsonl
expect 2 "no checkpoint to go on from" mpirun -n 2 "$WEFT" train "$tiny" run=dead
expect 2 "another model" "$WEFT" train "$tiny" run=whole model.intermediate_size=64 train.steps=60
expect 2 "hidden_size" "$WEFT" train "$tiny" run=whole model.hidden_size=128 train.steps=60
expect 2 "train.seq_len was 64" "$WEFT" train "$tiny" run=whole train.seq_len=32 train.steps=60
expect 2 "seed was" "$WEFT" train "$tiny" run=whole seed=5 train.steps=60

# Branching off an earlier checkpoint needs a run directory of its own.
expect 0 "" "$WEFT" train "$tiny" run=root checkpoint.every=20
older=root/checkpoints/step_00000020
expect 2 "choose another run directory" "$WEFT" train "$tiny" run=root resume=$older
expect 0 "going on from $older" "$WEFT" train "$tiny" run=branch resume=$older
check "the branch's curve is the root's" test -z "$(diff <(losses root | tail -n 30) <(losses branch))"

# Wrong input: one line, exit status 2, on every rank.
expect 2 "did you mean" "$WEFT" trian
expect 2 "CONFIG.yaml" "$WEFT" train
expect 2 "no-such.yaml" "$WEFT" train no-such.yaml
expect 2 "train.step" mpirun -n 2 "$WEFT" train "$tiny" run=x train.step=5
expect 2 "cannot share" mpirun -n 3 "$WEFT" train "$tiny" run=x
expect 2 "device=cuda" "$WEFT" train "$tiny" run=x device=cuda
expect 2 "no data" "$WEFT" train "$tiny" run=x data.path=
expect 2 "nowhere" mpirun -n 2 "$WEFT" train "$tiny" run=x data.path=nowhere
expect 2 "nowhere" "$WEFT" train "$tiny" run=x resume=nowhere
check "nothing was begun" test ! -e x
expect 0 "usage: weft train" "$WEFT" train --help
expect 0 "compiler" "$WEFT" --version
finish
