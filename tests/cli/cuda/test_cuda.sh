# device=cuda from the command line, in an emulated build: the same losses as on the CPU, resumed bit for bit, planned
# to the byte, and errors that say what to do.
source "$CLI_DIR/lib.sh"
tiny=$SRC/configs/tiny-hybrid.yaml
small=(model.hidden_size=32 model.vocab_size=101 model.num_hidden_layers=4 model.attn_layer_period=4
    model.attn_layer_offset=2 train.seq_len=32 optim.warmup=2)
train() { # RANKS RUN key=value...
    local ranks=$1 run=$2
    shift 2
    mpirun -n "$ranks" "$WEFT" train "$tiny" run="$run" "${small[@]}" "$@"
}
losses() { sed -E 's/.*"step": ([0-9]+), "loss": ([^,]+), "grad_norm": ([^,]+),.*/\1 \2 \3/' "$1/metrics.jsonl"; }
# same_losses RUN RUN STEPS TOLERANCE
same_losses() {
    paste -d' ' <(losses "$1") <(losses "$2") | awk -v steps="$3" -v most="$4" '
        function apart(a, b) { d = a - b; return (d < 0 ? -d : d) / b }
        NF != 6 || $1 != $4 || !($5 > 0) || apart($2, $5) > most { print; bad = 1 }
        END { exit bad || NR != steps }'
}
number() { grep -oE "\"$2\": [-+.0-9eE]+" "$1" | sed -n '1s/.*: //p'; }
bytes() { sed -n "/\"$2\": {/,/}/p" "$1" | grep -oE '"(dp|fsdp|cp|tp|ep)": [0-9]+'; }

expect 0 "done: step 4" train 1 cpu device=cpu train.steps=4
runs=0
follows_the_cpu() { # RANKS key=value...
    local ranks=$1 run=cuda$((++runs))
    shift
    expect 0 "done: step 4" train "$ranks" $run device=cuda train.steps=4 "$@"
    check "$* on $ranks: the losses of the CPU" same_losses $run cpu 4 1e-5
    "$WEFT" plan "$tiny" --ranks "$ranks" device=cuda "${small[@]}" train.steps=4 "$@" --json >plan.json
    "$WEFT" ledger $run --json >ledger.json
    check "$*: the plan's memory is the run's" test "$(number plan.json per_rank_bytes)" -eq "$(number $run/metrics.jsonl mem_bytes)"
    check "$*: the plan's traffic is the run's" diff <(bytes plan.json per_step_bytes) <(bytes ledger.json step_bytes_per_rank)
}
follows_the_cpu 1
follows_the_cpu 2 mesh.fsdp=2
follows_the_cpu 4 mesh.fsdp=2 mesh.tp=2 mesh.ep=2

# A GPU's checkpoint is anyone's: killed half-way, resumed on the CPU and on other ranks.
expect 0 "done: step 2" train 2 moved device=cuda precision=bf16 mesh.fsdp=2 train.steps=2
expect 0 "done: step 4" train 2 moved device=cuda precision=bf16 mesh.fsdp=2 train.steps=4
expect 0 "done: step 4" train 2 whole device=cuda precision=bf16 mesh.fsdp=2 train.steps=4
check "bf16, resumed: the same bits" diff <(losses moved) <(losses whole)
check "bf16: near the CPU's fp32" same_losses whole cpu 4 1e-2
expect 0 "going on from" train 1 moved device=cpu train.steps=5
expect 0 "going on from" train 4 moved device=cuda mesh.tp=4 train.steps=6

# attention: auto takes cuDNN where it can and where it agrees with our kernels.
whole=(device=cuda precision=bf16 data.document_mask=false train.seq_len=128 model.num_attention_heads=2
    model.num_key_value_heads=1 train.global_batch=2 train.steps=2)
expect 0 "1 x 128 tokens, 2 heads of 16 over 1: cuDNN" train 1 by-cudnn "${whole[@]}" attention=cudnn
expect 0 "done: step 2" train 1 by-weft "${whole[@]}" attention=weft
WEFT_EMULATED_CUDNN=wrong expect 0 "the two disagree on a probe" train 1 by-auto "${whole[@]}"
check "cuDNN's attention and ours: near each other" same_losses by-cudnn by-weft 2 1e-3
check "auto, where the two disagree: ours" cmp <(losses by-auto) <(losses by-weft)

# All orders of the emulated streams give the same bits.
for order in late eager random; do
    WEFT_EMULATED_STREAMS=$order expect 0 "done: step 3" train 2 order-$order device=cuda mesh.fsdp=2 train.steps=3
done
check "streams that run early or late: the same bits" cmp <(losses order-late) <(losses order-eager)
check "in random order: the same bits" cmp <(losses order-late) <(losses order-random)

# Nothing reads memory that it has not written.
WEFT_EMULATED_POISON=1 expect 0 "done: step 3" train 2 poisoned device=cuda mesh.fsdp=2 train.steps=3
check "memory of NaN: the same bits" cmp <(losses order-late) <(losses poisoned)

# ---- plans, which need no GPU ----

fits() { # BYTES RANKS CONFIG key=value...: on each GPU of that many
    local most=$1 ranks=$2
    shift 2
    WEFT_EMULATED_GPUS=0 "$WEFT" plan "$@" --ranks "$ranks" --json >plan.json
    check "${*##*/} on $ranks: $(number plan.json per_rank_bytes) bytes of $most" \
        test "$(number plan.json per_rank_bytes)" -gt 1000000000 -a "$(number plan.json per_rank_bytes)" -lt "$most"
}
fits 80000000000 1 "$SRC/configs/models/1.3b-hybrid-1-7.yaml"
fits 80000000000 8 "$SRC/configs/models/7b-hybrid-1-7.yaml"
fits 80000000000 64 "$SRC/configs/models/jamba-52b.yaml" device=cuda precision=bf16 mesh.ep=8
fits 80000000000 512 "$SRC/configs/models/jamba-52b.yaml" device=cuda precision=bf16 mesh.ep=8

# ---- what cannot be ----

expect 2 "needs a GPU" train 1 refused device=cpu precision=bf16 train.steps=1
WEFT_EMULATED_CUDNN=absent expect 2 "attention by cuDNN was asked for" train 1 refused "${whole[@]}" attention=cudnn
expect 2 "needs a GPU" train 1 refused device=cpu mesh.reduce=bf16 train.steps=1
WEFT_EMULATED_GPUS=2 expect 2 "2 GPUs can be used" train 4 refused device=cuda train.steps=1
WEFT_EMULATED_GPUS=0 expect 2 "device=cpu" train 1 refused device=cuda train.steps=1
WEFT_EMULATED_MEMORY=100000 expect 1 "weft plan" train 1 refused device=cuda train.steps=1
check "a refused run leaves nothing" test ! -e refused
finish
