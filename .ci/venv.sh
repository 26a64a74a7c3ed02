# Sourced by run.sh, test.sh and study.sh: enter .venv, made when there is none, with what the file $1 asks for.
venv=$root/.venv half_made=$root/.venv/.half-made
# What this script began is begun again; what someone else made is completed, and nothing in it is deleted.
[[ ! -e $half_made ]] || rm -rf "$venv"
trap 'exit 130' INT
made=true
if [[ ! -x $venv/bin/python ]]; then
    echo "making $venv"
    [[ -e $venv ]] || { mkdir "$venv"; : >"$half_made"; }
    said=$("${PYTHON:-python3}" -m venv "$venv" 2>&1) || made=false
elif ! "$venv/bin/python" -c 'import pip._internal.cli.main' 2>/dev/null; then
    echo "adding pip to $venv"
    said=$("$venv/bin/python" -m ensurepip --upgrade 2>&1) || made=false
fi
if ! $made; then
    echo "${0##*/}: error: .venv could not be made (${said##*$'\n'}): it takes Python 3.10 or newer with its modules" \
        "venv and ensurepip (Debian, Ubuntu: apt install python3-venv)" >&2
    exit 2
fi
rm -f "$half_made"
trap - INT
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$root/$1"
export PATH=$venv/bin:$PATH
