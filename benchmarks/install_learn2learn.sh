#!/bin/sh
# Install learn2learn 0.2.0 into the environment whose Python is given. The C files in its source release are for Python 3.10 and
# older: they are made anew from the .pyx files beside them, with a Cython below 3. Without its dependencies: the benchmark uses
# its MAML alone, which needs torch only.
set -e
python=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
pip="$python -m pip --disable-pip-version-check -q"
$pip install 'Cython<3' setuptools wheel
$pip download --no-deps --no-binary :all: --no-build-isolation -d "$folder" learn2learn==0.2.0
tar -xzf "$folder"/learn2learn-0.2.0.tar.gz -C "$folder"
"$python" -m cython -3 "$folder"/learn2learn-0.2.0/learn2learn/data/*.pyx
$pip install --no-deps --no-build-isolation "$folder"/learn2learn-0.2.0
