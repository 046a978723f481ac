# weft parity: layouts agree with one rank; what is wrong is found and named.
source "$CLI_DIR/lib.sh"
tiny=$SRC/configs/tiny-hybrid.yaml

# Every axis, and axes together. 4 ranks of tp share 2 key/value heads.
parity() { # RANKS 'mesh as it is printed' key=value...
    local ranks=$1 text=$2
    shift 2
    expect 0 "$text agrees with one rank" mpirun -n "$ranks" "$WEFT" parity "$tiny" "$@"
}
parity 2 "mesh tp=2" mesh.tp=2
parity 2 "mesh cp=2" mesh.cp=2
parity 2 "mesh fsdp=2 ep=2" mesh.fsdp=2 mesh.ep=2
parity 4 "mesh tp=4" mesh.tp=4
parity 4 "mesh cp=2 tp=2" mesh.cp=2 mesh.tp=2
parity 4 "mesh dp=2 tp=2 ep=2" mesh.dp=2 mesh.tp=2 mesh.ep=2 train.micro_batch=2 train.recompute=all \
    model.tie_word_embeddings=true model.router_z_loss_coef=0.001 model.activation_loss_coef=0.01
expect 0 "mesh dp=2 fsdp=2 agrees with one rank to the last bit" mpirun -n 4 "$WEFT" parity "$tiny" mesh.dp=2

# The table: every kind of tensor, experts of a layer on one line; all of them in the JSON.
mpirun -n 2 "$WEFT" parity "$tiny" mesh.tp=2 >table.txt
check "the table begins with the embedding" grep -qE '^ +1  forward   embed_tokens +8x64x64 .* ok$' table.txt
check "the table has losses, norm and gradients" \
    test "$(grep -cE '(forward   (cross-entropy|load balance|router z)|gradient  gradient norm|backward  embed_tokens) ' table.txt)" -eq 5
check "12 tensors of experts share a line" grep -qE 'update    layers.1.feed_forward.experts.\* +12 tensors ' table.txt
mpirun -n 2 "$WEFT" parity "$tiny" mesh.tp=2 --json >report.json
check "the JSON agrees" grep -q '"agrees": true' report.json
check "the JSON has every tensor" test "$(grep -c '"order": ' report.json)" -eq \
    "$(sed -n 's/.*agrees with one rank: \([0-9]*\) tensors.*/\1/p' table.txt)"

# A fault is found, at the next tensor.
fault() { # RANKS RANK:TENSOR 'what is named' arguments...
    local ranks=$1 fault=$2 text=$3
    shift 3
    WEFT_PARITY_FAULT=$fault expect 1 "differs from one rank first in $text" mpirun -n "$ranks" "$WEFT" parity "$tiny" "$@"
}
fault 4 2:embed_tokens "layers.0.mamba (forward)" mesh.cp=2 mesh.tp=2 --tolerance 1e-3
fault 2 1:final_layernorm "final_layernorm (backward)" mesh.ep=2
WEFT_PARITY_FAULT=1:layers.3.mamba mpirun -n 2 "$WEFT" parity "$tiny" mesh.tp=2 >faulty.txt 2>err.txt
check "a fault is no success" test $? -eq 1
check "the tensor behind it is marked, all before it are ok" awk '
    /<-- first beyond 0.0001$/ {found = $3 == "layers.3.moe"; exit}
    $1 ~ /^[0-9]+$/ && $NF != "ok" {exit}
    END {exit !found}' faulty.txt
check "one line says it" test "$(grep -c '^weft: error: mesh tp=2 differs from one rank first in layers.3.moe (forward)' err.txt)" -eq 1

# Wrong input: one line, exit status 2.
expect 2 "model.num_attention_heads 4 is not a multiple of mesh.tp 3" mpirun -n 3 "$WEFT" parity "$tiny" mesh.tp=3
expect 2 "nothing to be compared with" "$WEFT" parity "$tiny"
expect 2 "no tensor nowhere" env WEFT_PARITY_FAULT=1:nowhere mpirun -n 2 "$WEFT" parity "$tiny"
expect 2 "must be above 0" "$WEFT" parity "$tiny" --tolerance 0
expect 1 "on the machine of rank 0" mpirun -n 2 "$WEFT" parity "$SRC/configs/models/jamba-52b.yaml" data.path=random
expect 0 "usage: weft parity" "$WEFT" parity --help
finish
