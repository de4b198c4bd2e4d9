# Installs what native servers need, where it is missing; to be sourced after state.sh.

# need COMMAND PACKAGE…: the command, from Debian's packages if it is not there.
need() {
    local command=$1
    shift
    command -v "$command" >/dev/null || apt_install "$@"
    command -v "$command" >/dev/null || fail "there is no $command: install $*"
}

apt_install() {
    local sudo=()
    command -v apt-get >/dev/null || fail "there is no apt-get here: install $* by hand"
    if [ "$(id -u)" -ne 0 ]; then
        sudo -n true 2>/dev/null || fail "neither root nor a sudo without password: install $* by hand"
        sudo=(sudo -n)
    fi
    # Servers are prepared at the same time, and apt refuses a second process.
    exec 8>"$servers/apt-lock"
    flock 8
    if [ -z "$(find "$servers/apt-updated" -mmin -60 2>/dev/null)" ]; then
        ${sudo[@]+"${sudo[@]}"} apt-get update -q || fail "apt-get could not read its lists anew"
        touch "$servers/apt-updated"
    fi
    ${sudo[@]+"${sudo[@]}"} env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends -o DPkg::Lock::Timeout=300 "$@" || fail "apt-get could not install $*"
    exec 8>&-
}

# built NAME FILE…: whether a build of these files is there already; else leaves an empty directory for it.
built() {
    local directory=$builds/$1 wanted
    shift
    wanted=$(cat "$@" | cksum)
    [ "$(cat "$directory/.stamp" 2>/dev/null)" != "$wanted" ] || return 0
    rm -rf "$directory"
    mkdir -p "$directory"
    return 1
}

# Says that a build is whole: from now on it is kept.
keep_build() {
    local directory=$builds/$1
    shift
    cat "$@" | cksum >"$directory/.stamp"
}

# java_build FIXTURE: the jars that its pom names and the classes of its sources, in the builds' directory.
java_build() {
    local from=$fixtures/$1 to=$builds/$1
    # Java's own packages have a version in their names, which one of a distribution's releases has.
    command -v javac >/dev/null || (apt_install openjdk-17-jdk-headless) || apt_install openjdk-21-jdk-headless
    ! built "$1" "$from"/* || return 0
    need mvn maven
    # In a directory of its own: Maven writes beside the pom.
    cp "$from"/pom.xml "$to"
    (cd "$to" && mvn -q -B dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory=lib)
    javac -cp "$to/lib/*" -d "$to/classes" "$from"/*.java
    keep_build "$1" "$from"/*
}
