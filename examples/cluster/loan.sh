#!/usr/bin/env bash
# A short loan of a card: check the project there, then go on with long runs, so that several loans add up to whole ones.
#   examples/cluster/loan.sh MINUTES TO [FROM]
# TO gets checkpoints and records, first what is newer in FROM: what the loan before has left. The data lie in SBA_DATA.
# The first loan runs the tests that need a card and three notebooks on it; TO/checked-DEVICE says that they passed there.
# RUNS: a line of arguments of `sba sweep` for each row, done in turn; DEVICE, JOBS, CHECK_SECONDS, END_SECONDS, PYTHON.
# The status is that of a sweep: 0 when every run has a record, 3 when some are left, 2 when a check or a run failed.
set -euo pipefail

minutes=${1:?minutes of the loan} to=${2:?folder of checkpoints and records} from=${3:-}
seconds=$(awk "BEGIN { print int(60 * $minutes) }")
device=${DEVICE:-cuda} python=${PYTHON:-python}
runs=${RUNS:-"table1-cifar --where cifar10/resnet44 --methods erm,sba --seeds 1 --amp bf16
table1-cifar --where cifar10/vgg16 --methods erm,sba --seeds 1 --amp bf16"}

mkdir -p "$to"
[[ -z $from || $from -ef $to ]] || cp -au "$from/." "$to/"

worst=0
if [[ ! -e $to/checked-$device ]]; then
  export python device to
  if timeout --kill-after=5 "${CHECK_SECONDS:-120}" bash -ec '
    "$python" -m pytest -q -m gpu tests/training tests/bench
    "$python" -m sba notebooks --stage "$(mktemp -d)/stage" -p device "$device" \
      --only 01_tour --only 04_soft_label --only 14_gradient' >"$to/checks.log" 2>&1
  then
    touch "$to/checked-$device"
  else
    echo "the checks failed: $to/checks.log" >&2
    worst=2
  fi
fi

while read -r -a line; do
  # a sweep needs some seconds to write its checkpoints, and the loan to carry them away
  rest=$((seconds - SECONDS - ${END_SECONDS:-45}))
  ((rest > 0)) || { ((worst == 2)) || worst=3; break; }
  status=0
  "$python" -m sba sweep "${line[@]}" --device "$device" --jobs "${JOBS:-2}" --store "$to" --budget "$rest" </dev/null || status=$?
  case $status in
    0) ;;
    3) ((worst == 2)) || worst=3 ;;
    *) worst=2 ;;
  esac
done <<<"$runs"
exit "$worst"
