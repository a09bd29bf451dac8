#!/bin/sh
# Vendors the plotly.js bundle that belongs to the installed plotly.py. Run it after an upgrade of
# plotly; tests/test_report.py fails while the two differ.
set -eu
python=${PYTHON:-python3}
root=$(cd "$(dirname "$0")/.." && pwd)
version=$("$python" -c 'import plotly.offline; print(plotly.offline.get_plotlyjs_version())')
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm pack --silent "plotly.js-cartesian-dist-min@$version" >/dev/null
tar -xzf ./*.tgz
mkdir -p "$root/templates/vendor"
cp package/plotly-cartesian.min.js "$root/templates/vendor/plotly-cartesian.min.js"
cp package/LICENSE "$root/templates/vendor/plotly-cartesian.LICENSE"
echo "templates/vendor/plotly-cartesian.min.js is plotly.js $version"
