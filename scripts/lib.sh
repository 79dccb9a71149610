# What the scripts beside this file share. Sourced, from the root of the tree.

export CARGO_TERM_COLOR=never
tools="$PWD/target/tools"
mkdir -p "$tools"

step() { printf '\n== %s (%ss)\n' "$1" "$SECONDS"; }
skip() { printf 'SKIPPED: %s\n' "$1"; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

# Installs Debian packages, each named after a program that shows whether it is there: PROGRAM:PACKAGE.
install_packages() {
    local missing=() wanted
    for wanted in "$@"; do
        command -v "${wanted%%:*}" >/dev/null || missing+=("${wanted#*:}")
    done
    [ ${#missing[@]} = 0 ] && return
    as_root apt-get update -qq && as_root apt-get install -y -qq "${missing[@]}" >/dev/null ||
        skip "packages that cannot be installed here: ${missing[*]}"
}

install_python() {
    local wanted=scripts/requirements.txt stamp=.venv/installed
    cmp -s "$wanted" "$stamp" && return
    python3 -m venv .venv 2>/dev/null || {
        as_root apt-get update -qq && as_root apt-get install -y -qq python3-venv >/dev/null
        python3 -m venv .venv
    }
    .venv/bin/pip install -q --disable-pip-version-check -r "$wanted"
    cp "$wanted" "$stamp"
}

install_cargo_tool() { # NAME VERSION
    local tool="$tools/bin/$1"
    [ -x "$tool" ] && "$tool" --version 2>/dev/null | grep -qF "$2" && return
    cargo install --quiet --locked --root "$tools" "$1" --version "$2"
}

fuzz_targets() { sed -n '/^\[\[bin\]\]/,$s/^name = "\(.*\)"$/\1/p' fuzz/Cargo.toml; }

# Runs a fuzz target on the saved corpus and then for some seconds; what it finds on the way stays out
# of the tree. Prints one line; fails when the target does.
fuzz() { # TARGET SECONDS
    local found output status=0
    found=$(mktemp -d)
    mkdir -p "fuzz/corpus/$1"
    output=$(cd fuzz && "$tools/bin/cargo-fuzz" fuzz run --sanitizer none "$1" "$found" "corpus/$1" -- \
        -max_total_time="$2" -rss_limit_mb=512 -timeout=5 -verbosity=0 -print_final_stats=1 2>&1) || status=$?
    rm -rf "$found"
    if [ "$status" != 0 ]; then
        printf '%s\n' "$output" | tail -n 40
        printf 'fuzz %s: FAILED\n' "$1"
        return 1
    fi
    awk -v target="$1" '/number_of_executed_units/ { units = $2 } /peak_rss_mb/ { rss = $2 }
        END { printf "fuzz %s: ok, %d executions, %d MB at most\n", target, units, rss }' <<<"$output"
}
