# Sourced by the scripts beside it: goes to the root of the project, finds interpreters, and keeps
# virtual environments in step with pyproject.toml.

cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Prints every Python from 3.10 to 3.14 that works here, oldest first, one of each.
interpreters() {
    local minor candidate
    for minor in 10 11 12 13 14; do
        for candidate in "python3.$minor" python3 \
            "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3."$minor".*/bin/python3; do
            # A name on the PATH may be a shim that refuses, or lack modules: only running it tells.
            if "$candidate" -c "
import ensurepip, sqlite3, ssl, sys, venv
sys.exit(sys.version_info[:2] != (3, $minor))" >/dev/null 2>&1; then
                echo "$candidate"
                break
            fi
        done
    done
}

# The interpreter to use: $PYTHON, else python3 if it is new enough, else the newest there is.
choose_python() {
    local python=${PYTHON:-python3}
    if ! "$python" -c "import sys; sys.exit(sys.version_info < (3, 10))" >/dev/null 2>&1; then
        [[ -z ${PYTHON:-} ]] && python=$(interpreters | tail -n 1)
        if [[ -z $python || $python == "${PYTHON:-}" ]]; then
            echo "Python 3.10 or newer is needed; PYTHON=/path/to/python3 names one." >&2
            return 1
        fi
    fi
    echo "$python"
}

# environment DIRECTORY PYTHON REQUIREMENT [PIP ARGUMENT…]
# Makes the virtual environment, or makes it anew if its Python is another one; installs the
# requirement, again only when what decides it has changed.
environment() {
    local directory=$1 python=$2 requirement=$3
    shift 3
    local version='import sys; print(sys.version)' stamp wanted
    if [[ $("$directory/bin/python" -c "$version" 2>/dev/null) != "$("$python" -c "$version")" ]]; then
        rm -rf "$directory"
        if ! "$python" -m venv "$directory"; then
            rm -rf "$directory"
            echo "$python has no working venv module; on Debian: apt-get install python3-venv" >&2
            return 1
        fi
    fi
    stamp="$directory/installed-${requirement//[^a-z]/-}"
    wanted=$(cat pyproject.toml constraints/*.txt | cksum)
    if [[ $(cat "$stamp" 2>/dev/null) != "$wanted" ]]; then
        echo "Installing $requirement into $directory …" >&2
        "$directory/bin/python" -m pip install -qq --disable-pip-version-check \
            --editable "$requirement" "$@"
        echo "$wanted" >"$stamp"
    fi
}
