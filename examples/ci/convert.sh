#!/bin/sh
# Convert a network, gate on what that costs, and leave everything that a CI system shows in one folder.
#
#   sh convert.sh OUTPUT [GATE ...]      in a folder with snnc.yaml; gates as in: --max-drop 2% --max-energy-ratio 0.5
#
# Exits as snnc does: with 4 where a gate failed, after all files were written.
set -eu

if [ $# -lt 1 ]; then
    echo "usage: sh convert.sh OUTPUT [GATE ...]" >&2
    exit 2
fi
output=$1
shift
mkdir -p "$output"

# In GitHub Actions the result is also shown on the page of the run.
summary=
if [ -n "${GITHUB_STEP_SUMMARY:-}" ]; then
    summary=--github-summary
fi

snnc convert --output "$output/model.snn" --quiet
snnc calibrate "$output/model.snn" --quiet

status=0
snnc evaluate "$output/model.snn" --blame "$@" \
    --html "$output/report.html" --markdown "$output/report.md" \
    --junit "$output/gates.xml" --sarif "$output/findings.sarif" $summary || status=$?

# Compare with what was accepted last time, where the caller has put its report there.
if [ "$status" -eq 0 ] && [ -f "$output/accepted.report.json" ]; then
    snnc diff "$output/accepted.report.json" "$output/model.report.json" --markdown "$output/diff.md" || status=$?
fi
exit "$status"
