# Meshes from the command line: every mesh trains the model that one rank trains, the plan's bytes are the run's,
# checkpoints go from mesh to mesh, what cannot be is refused.
source "$CLI_DIR/lib.sh"
tiny=$SRC/configs/tiny-hybrid.yaml

losses() { sed -E 's/.*"step": ([0-9]+), "loss": ([^,]+), "grad_norm": ([^,]+),.*/\1 \2 \3/' "$1/metrics.jsonl"; }
# same_losses RUN RUN STEPS: to 1e-5, gradient norms to 1e-4
same_losses() {
    paste -d' ' <(losses "$1") <(losses "$2") | awk -v steps="$3" '
        function apart(a, b) { d = a - b; return (d < 0 ? -d : d) / b }
        NF != 6 || $1 != $4 || !($5 > 0) || apart($2, $5) > 1e-5 || apart($3, $6) > 1e-4 { print; bad = 1 }
        END { exit bad || NR != steps }'
}
# number FILE KEY: the first value of a key in JSON
number() { grep -oE "\"$2\": [-+.0-9eE]+" "$1" | sed -n '1s/.*: //p'; }
# bytes FILE KEY: the members of an object of bytes by axis, one a line
bytes() { sed -n "/\"$2\": {/,/}/p" "$1" | grep -oE '"(dp|fsdp|cp|tp|ep)": [0-9]+'; }
same_bytes() { diff <(bytes plan.json per_step_bytes) <(bytes ledger.json step_bytes_per_rank); }
within_tenth() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(b > 0 && a <= 1.1 * b && a >= 0.9 * b) }'; }

# ---- every mesh, and its plan ----

expect 0 "done: step 3" "$WEFT" train "$tiny" run=one train.steps=3
runs=0
trains_the_same() { # RANKS key=value...
    local ranks=$1 run=mesh$((++runs))
    shift
    local mesh=${*:-fsdp by itself}
    expect 0 "done: step 3" mpirun -n "$ranks" "$WEFT" train "$tiny" run=$run train.steps=3 "$@"
    "$WEFT" plan "$tiny" --ranks "$ranks" train.steps=3 "$@" --json >plan.json
    "$WEFT" ledger $run --json >ledger.json
    check "$mesh: the losses of one rank" same_losses $run one 3
    check "$mesh: the plan's memory is the run's" test "$(number plan.json per_rank_bytes)" -eq "$(number $run/metrics.jsonl mem_bytes)"
    check "$mesh: the plan's traffic is the run's" same_bytes
    check "$mesh: there is traffic" grep -q '[1-9]' <<<"$(bytes plan.json per_step_bytes | sed 's/.*: //')"
}
trains_the_same 4
trains_the_same 4 mesh.dp=2 mesh.ep=4 mesh.reshard=after_backward
trains_the_same 4 mesh.tp=4
trains_the_same 4 mesh.cp=4
# A rank between others receives two halos, the first rank one.
"$WEFT" ledger mesh$runs --json --rank 0 >first.json
"$WEFT" ledger mesh$runs --json --rank 1 >second.json
check "the plan's traffic is that of the rank that receives most" \
    test "$(bytes plan.json per_step_bytes)" = "$(bytes second.json step_bytes_per_rank)" -a "$(bytes plan.json per_step_bytes)" != "$(bytes first.json step_bytes_per_rank)"
trains_the_same 4 mesh.cp=2 mesh.tp=2 mesh.ep=2 mesh.prefetch=false
trains_the_same 8 mesh.cp=4 mesh.tp=2 mesh.ep=4 train.recompute=all mesh.reshard=never
expect 0 "received by a rank in a step, at most (cp=4)" "$WEFT" plan "$tiny" --ranks 4 mesh.cp=4

# ---- a checkpoint goes from mesh to mesh ----

# Text, so that sequences hold several documents.
words=(weft warp loom thread shuttle heddle reed selvage bobbin cloth)
for i in $(seq 240); do echo "{\"text\": \"${words[i % 10]} ${words[i * 7 % 10]} the ${words[i / 10 % 10]}, $i times $((i * i)).\"}"; done >text.jsonl
"$WEFT" tokenizer train --vocab 320 -o tok text.jsonl >/dev/null 2>&1
"$WEFT" data build --tokenizer tok -o data --heldout 0.1 text.jsonl >/dev/null
small=(data.path=data model.vocab_size=320 model.hidden_size=32 optim.warmup=2 optim.schedule=constant)

expect 0 "done: step 10" "$WEFT" train "$tiny" run=whole "${small[@]}" train.steps=10
go_on() { # STEPS RANKS key=value...: to that step
    local steps=$1 ranks=$2
    shift 2
    expect 0 "done: step $steps" mpirun -n "$ranks" "$WEFT" train "$tiny" run=moved "${small[@]}" train.steps="$steps" "$@"
    expect 0 "" "$WEFT" ckpt verify moved
}
go_on 2 4 mesh.fsdp=4
go_on 4 4 mesh.tp=4
go_on 6 1
go_on 8 4 mesh.cp=4 mesh.ep=2
go_on 10 4 mesh.cp=2 mesh.tp=2 mesh.ep=2
check "five meshes one after the other: the losses of one rank" same_losses moved whole 10

# What was written under tp, cp and ep is read by one rank.
"$WEFT" eval moved --json >moved.json
"$WEFT" eval whole --json >whole.json
check "eval gives the loss of one rank's model" awk -v a="$(number moved.json loss)" -v b="$(number whole.json loss)" \
    'BEGIN { d = a - b; exit !(b > 0 && d * d <= (1e-5 * b) ^ 2) }'
expect 0 "" "$WEFT" export moved -o hf_moved
expect 0 "" "$WEFT" export whole -o hf_whole
weights() { # behind the header, whose length the first 8 bytes tell
    local file=$1/model.safetensors size
    size=$(od -An -t u8 -N 8 "$file")
    od -An -v -w4 -t f4 -j $((8 + size)) "$file"
}
header() { head -c "$((8 + $(od -An -t u8 -N 8 "$1/model.safetensors")))" "$1/model.safetensors"; }
same_weights() {
    paste <(weights hf_moved) <(weights hf_whole) | awk '
        { d = $1 - $2; if (d < 0) d = -d; if (NF != 2 || !(d <= 1e-5)) { bad++; if (bad < 5) print NR, $0 } else if (d > most) most = d; sum += $2 * $2 }
        END { printf "%d weights, at most %.1e apart\n", NR, most; exit bad > 0 || NR < 1e5 || !(sum > 0) }'
}
check "export gives the same tensors" cmp <(header hf_moved) <(header hf_whole)
check "export gives the weights of one rank's model" same_weights

# ---- memory ----

# Of fsdp: an eighth of the state, one layer's whole weights and gradients, activations. The state is the plan's of
# one rank, the layer's parameters those that a second layer adds.
fat=(model.hidden_size=512 model.num_attention_heads=8 model.intermediate_size=1024 model.num_experts=1 model.vocab_size=256
    train.deterministic=run train.recompute=all)
planned() { "$WEFT" plan "$tiny" "${fat[@]}" "$@"; }
parameters() { planned model.num_hidden_layers=${#1} model.mixer_pattern="$1" --json >layers.json && number layers.json total; }
planned --json >one.json
state=$(($(number one.json parameters) + $(number one.json gradients) + $(number one.json optimizer)))
layer=$((4 * ($(parameters MM) - $(parameters M)))) # bytes of the larger kind: Mamba and a dense part
fits() { # PREFETCH HELD: how many times a layer's bytes are held
    local want
    planned --ranks 8 mesh.fsdp=8 mesh.prefetch="$1"
    planned --ranks 8 mesh.fsdp=8 mesh.prefetch="$1" --json >eight.json
    want=$((state / 8 + $2 * layer + $(number eight.json activations)))
    echo "state $state, a layer's weights $layer: wanted about $want"
    check "fsdp=8, prefetch=$1: within 10% of an eighth of the state, $2 layers, activations" within_tenth "$(number eight.json per_rank_bytes)" $want
}
fits true 3  # weights of this layer and the next, gradients of this one
fits false 2 # weights and gradients of this one
check "fsdp=8: the state is most of it" test $((state / 4)) -gt "$(number eight.json per_rank_bytes)"
expect 0 "done: step 1" mpirun -n 8 "$WEFT" train "$tiny" run=fat "${fat[@]}" mesh.fsdp=8 mesh.prefetch=false train.steps=1
check "fsdp=8: the run has what was planned" test "$(number fat/metrics.jsonl mem_bytes)" -eq "$(number eight.json per_rank_bytes)"

# Of cp: an eighth of a long sequence's activations.
long=(train.seq_len=131072 train.global_batch=1)
for recompute in none all; do
    "$WEFT" plan "$tiny" "${long[@]}" train.recompute=$recompute --json >one.json
    "$WEFT" plan "$tiny" "${long[@]}" train.recompute=$recompute --ranks 8 mesh.cp=8 --json >eight.json
    one=$(($(number one.json activations) + $(number one.json workspace)))
    eight=$(($(number eight.json activations) + $(number eight.json workspace)))
    check "cp=8, recompute=$recompute: $eight bytes of activations, within 10% of an eighth of $one" within_tenth $eight $((one / 8))
done

# ---- what cannot be ----

refused() { # RANKS 'reason and remedy' key=value...
    local ranks=$1 text=$2
    shift 2
    expect 2 "$text" mpirun -n "$ranks" "$WEFT" train "$tiny" run=refused "$@"
    expect 2 "$text" "$WEFT" plan "$tiny" --ranks "$ranks" "$@"
}
refused 4 "tp=3 takes a multiple of 3 ranks, but there are 4; nearest that works: fsdp=1 tp=4" mesh.tp=3
refused 3 "model.num_attention_heads 4 is not a multiple of mesh.tp 3; mesh.tp could be 2 or 4" mesh.tp=3
refused 4 "ep must divide dp*fsdp*cp, which is 4; nearest that works: fsdp=4 ep=4" mesh.ep=3
refused 2 "train.seq_len 63 is not a multiple of 2 * mesh.cp, which is 4; train.seq_len could be 64, or mesh.cp 1" mesh.cp=2 train.seq_len=63
refused 4 "only one axis can be auto, not both cp and tp; nearest that works: fsdp=1 cp=1 tp=4" mesh.cp=auto mesh.tp=auto
check "it is said once" test "$(mpirun -n 4 "$WEFT" train "$tiny" run=refused mesh.ep=3 2>&1 | grep -c 'weft: .*error:')" -eq 1
check "nothing was begun" test ! -e refused
# Ranks that have read different files are told so.
expect 2 "the configuration is not the same on every rank" timeout 60 mpirun \
    -n 1 "$WEFT" train "$tiny" run=differ seed=1 : -n 1 "$WEFT" train "$tiny" run=differ seed=2
expect 2 "the configuration is not the same on every rank" timeout 60 mpirun \
    -n 1 "$WEFT" train "$tiny" run=differ mesh.fsdp=2 : -n 1 "$WEFT" train "$tiny" run=differ mesh.cp=2
check "nothing was begun" test ! -e differ
finish
