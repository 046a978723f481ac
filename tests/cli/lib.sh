# Helpers for command-line tests: source "$CLI_DIR/lib.sh".
set -u
cli_failures=0
# expect STATUS 'text that stderr or stdout must contain' COMMAND...
expect() {
    local want=$1 text=$2 got out
    shift 2
    out=$("$@" 2>&1)
    got=$?
    if [ "$got" -ne "$want" ]; then
        printf 'FAILED: %s\n  exit status %s, wanted %s\n%s\n' "$*" "$got" "$want" "$out"
        cli_failures=$((cli_failures + 1))
    elif [ -n "$text" ] && ! grep -qF -- "$text" <<<"$out"; then
        printf 'FAILED: %s\n  output lacks: %s\n%s\n' "$*" "$text" "$out"
        cli_failures=$((cli_failures + 1))
    else
        printf 'ok: %s\n' "$*"
    fi
}
# check 'what' COMMAND...: the command must succeed
check() {
    local what=$1
    shift
    if "$@"; then printf 'ok: %s\n' "$what"; else
        printf 'FAILED: %s\n' "$what"
        cli_failures=$((cli_failures + 1))
    fi
}
finish() {
    [ "$cli_failures" -eq 0 ] && exit 0
    printf '%s failure(s)\n' "$cli_failures"
    exit 1
}
