# What the tests of `weft data build RECIPE.yaml` share: source it behind lib.sh.
export PYTHONPATH=$CLI_DIR PYTHONDONTWRITEBYTECODE=1
corpus() { python3 "$CLI_DIR/pipeline_corpus.py" "$@"; }

# Every build runs in a folder of its own, beside the corpus: the same recipe, the same names, the same bytes.
in_folder() { # FOLDER COMMAND...
    local folder=$1
    shift
    mkdir -p "$folder"
    (cd "$folder" && "$@")
}
ranks() { # RANKS COMMAND...
    local n=$1
    shift
    if [ "$n" = 1 ]; then "$@"; else mpirun -n "$n" "$@"; fi
}
build() { ranks "$1" "$WEFT" data build "../$2.yaml" "${@:3}"; }
