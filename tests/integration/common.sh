# What the scripts of this folder share; they source it. A temporary folder that is also the working directory, keys, data,
# programs in the background that end with the script, and checks that say what was expected.
#
# TERN_BIN names the folder of the programs (default: build/release/bin). Nothing waits longer than it is told to, times LONGER.
# A script that needs fewer than all three programs says so before: programs=(tern).
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bin=$(realpath "${TERN_BIN:-$root/build/release/bin}")
[[ -v programs ]] || programs=(tern tern-coordinator tern-client)
for program in "${programs[@]}"; do
  [[ -x $bin/$program ]] || {
    echo "$program is not in $bin: build the programs, or set TERN_BIN" >&2
    exit 2
  }
done
export TERN_BIN=$bin
test_name=$(basename "$0")
# On a busy machine everything takes longer; what is waited for comes or doesn't.
longer=${TERN_TEST_PATIENCE:-4}

declare -A pid_of=()
work=$(mktemp -d "${TMPDIR:-/tmp}/tern-test.XXXXXX")
export TMPDIR=$work  # also of what the scripts call
cd "$work"

clean_up() {
  local status=$? name
  trap - EXIT INT TERM
  if ((status != 0)); then
    echo "$test_name: failed; the ends of the logs:" >&2
    for name in "$work"/*.log; do
      [[ -s $name ]] || continue
      echo "--- ${name##*/}" >&2
      tail -n 6 "$name" | cut -c 1-300 >&2
    done
  fi
  for name in "${!pid_of[@]}"; do
    kill -KILL "${pid_of[$name]}" 2>/dev/null || true
  done
  wait 2>/dev/null || true
  if [[ -n ${TERN_TEST_KEEP:-} ]]; then echo "kept: $work" >&2; else rm -rf "$work"; fi
}
trap clean_up EXIT
trap 'exit 130' INT TERM

fail() {
  echo "$test_name: $*" >&2
  exit 1
}
step() { echo "-- $* ($SECONDS s)"; }

# ---- Programs in the background

# start NAME COMMAND...: stdout goes to NAME.out, stderr to NAME.log. The process ends with this script, however that ends.
start() {
  local name=$1
  shift
  [[ -z ${pid_of[$name]:-} ]] || ! running "$name" || fail "$name runs already"
  : >"$name.out" >"$name.log"  # readable from now on
  # exec: $! is to be the program itself. Without --default-signal what runs in the background ignores SIGINT.
  (exec setpriv --pdeathsig KILL env --default-signal=INT,QUIT "$@") >"$name.out" 2>"$name.log" &
  pid_of[$name]=$!
}
running() { kill -0 "${pid_of[$1]}" 2>/dev/null; }
signal() { kill "-$2" "${pid_of[$1]}"; }

# until_true SECONDS COMMAND...: asks again and again; false when the time is over.
until_true() {
  local end=$((SECONDS + longer * $1 + 1))
  shift
  until "$@"; do
    ((SECONDS < end)) || return 1
    sleep 0.02
  done
}

# wait_log NAME PATTERN [SECONDS]: until the log of NAME has a line with this (grep -E).
wait_log() {
  said_or_over() { grep -qE -- "$2" "$1.log" || ! running "$1"; }
  until_true "${3:-10}" said_or_over "$1" "$2" || fail "$1 doesn't say '$2'"
  grep -qE -- "$2" "$1.log" || fail "$1 ended without saying '$2'"
}

# gone NAME [SECONDS]: waits for its end, however it ends.
is_over() { ! running "$1"; }
gone() {
  until_true "${2:-10}" is_over "$1" || fail "$1 still runs after $((longer * ${2:-10})) s"
  unset "pid_of[$1]"
}

# ended NAME STATUS [SECONDS]: waits for its end and compares its exit status.
ended() {
  local status=0
  # Who was killed ends; waiting at once keeps the shell from speaking of it.
  (($2 == 137)) || until_true "${3:-10}" is_over "$1" || fail "$1 still runs after $((longer * ${3:-10})) s"
  wait "${pid_of[$1]}" 2>/dev/null || status=$?
  unset "pid_of[$1]"
  ((status == $2)) || fail "$1 ended with exit status $status, expected $2"
}

# ---- Checks

# has FILE PATTERN / has_not FILE PATTERN
has() { grep -qE -- "$2" "$1" || fail "$1 doesn't have '$2'"; }
has_not() { ! grep -qE -- "$2" "$1" || fail "$1 has '$2': $(grep -E -m1 -- "$2" "$1")"; }
count() { grep -cE -- "$2" "$1" || true; }
same() { [[ $2 == "$3" ]] || fail "$1: $2 and $3 differ"; }

# refused STATUS PATTERN COMMAND...: fails within 20 s with this exit status and says why. What it said is in refused.log.
refused() {
  local expected=$1 pattern=$2 status=0
  shift 2
  timeout $((longer * 20)) "$@" >refused.out 2>refused.log || status=$?
  ((status == expected)) || fail "exit status $status, expected $expected: $*"
  grep -qE -- "$pattern" refused.log || fail "'$pattern' wasn't said by: $*"
}

# field FILE NAME [NTH]: a number or text of a JSON file that has one field on a line, as summary.json has.
field() {
  local value
  value=$(sed -nE 's/^ *"'"$2"'": "?([^",]*)"?,?$/\1/p' "$1" | sed -n "${3:-1}p")
  [[ -n $value ]] || fail "$1 has no $2"
  echo "$value"
}
model_of() { field "$1/summary.json" sha256; }
# accuracies DIR: of each evaluation of the run, by round.
accuracies() {
  grep -oE '"(round|accuracy)":[0-9.e-]+' "$1/metrics.jsonl" | paste -sd ' ' | grep -oE '"round":[0-9]+ "accuracy":[0-9.e-]+'
}

# ---- Keys, data, scenarios

# make_keys NAME...: NAME.key and NAME.pub.
make_keys() {
  local name
  for name in "$@"; do "$bin/tern" keys new "$name.key" >"$name.pub"; done
}

# make_list FILE NAME...: clients 0, 1, ... are those of these names.
make_list() {
  local file=$1 name
  shift
  for name in "$@"; do
    echo "$(<"$name.pub") $name"
  done >"$file"
}

# make_data ROWS FEATURES CLASSES [SPREAD] >data.csv: classes around random centres, the same numbers everywhere.
make_data() {
  awk -v rows="$1" -v features="$2" -v classes="$3" -v spread="${4:-3}" '
    function next_value() { state = (state * 16807) % 2147483647; return state / 2147483647 - 0.5 }
    BEGIN {
      state = 20221
      for (i = 0; i < 10; ++i) next_value()
      for (c = 0; c < classes; ++c)
        for (f = 0; f < features; ++f) centre[c, f] = next_value()
      for (f = 0; f < features; ++f) printf "f%d,", f
      print "class"
      for (r = 0; r < rows; ++r) {
        for (f = 0; f < features; ++f) printf "%.3f,", centre[r % classes, f] + spread * next_value()
        print r % classes
      }
    }'
}

# endpoint_of NAME: where this coordinator listens.
endpoint_of() {
  wait_log "$1" ' listening '
  sed -nE 's/.* listening .*endpoint="?(tcp:[^ "]*).*/\1/p' "$1.log" | head -n 1
}

# coordinator NAME SCENARIO [OPTION...]: with the key coordinator.key and the list clients.list on a port of the system's
# choice; results in NAME.run.
coordinator() {
  local name=$1 scenario=$2
  shift 2
  start "$name" "$bin/tern-coordinator" "$scenario" --set "server.listen=tcp://127.0.0.1:*" \
    --set "server.state_dir=$work/$name.run" --set "server.key=$work/coordinator.key" \
    --set "server.clients=$work/clients.list" "$@"
}

# client_options NAME ENDPOINT: what a client with the key NAME.key needs beside its scenario.
client_options() {
  options=(--set "client.connect=$2" --set "client.server_key=$work/coordinator.pub" --set "client.key=$work/$1.key"
    --set "client.state_dir=$work/$1.state")
}

# client NAME ENDPOINT SCENARIO [OPTION...]
client() {
  local name=$1 endpoint=$2 scenario=$3 options
  shift 3
  client_options "$name" "$endpoint"
  start "$name" "$bin/tern-client" "$scenario" "${options[@]}" "$@"
}
