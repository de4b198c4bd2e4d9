"""Fuzz a target with atheris: ``fuzz.py codec|sealer FOUND [LIBFUZZER-ARGUMENT…] [CORPUS…]``; scripts/fuzz.sh runs it.

FOUND is a directory, into which the seeds are laid. Half of the inputs come of libFuzzer's own changes, half of changes
that keep a document readable.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from random import Random

import atheris

sys.path.insert(0, str(Path(__file__).parent))

with atheris.instrument_imports(include=["flowpersist"]):
    import targets

import mutations

name, found = sys.argv[1], Path(sys.argv[2])
run = targets.TARGETS[name]
documents = targets.seeds() + targets.kept("codec")


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """libFuzzer's hook for changes."""
    random = Random(seed)
    if random.random() < 0.5:
        return atheris.Mutate(data, max_size)
    other = random.choice(documents)
    if name == "sealer":
        return sealed(random, data, other)[:max_size]
    return mutations.restructured(random, data if random.random() < 0.8 else random.choice(documents), other)[:max_size]


def sealed(random: Random, data: bytes, other: bytes) -> bytes:
    """An envelope round a changed document."""
    opened = targets.SEALER.open_bytes(data, context=targets.CONTEXT).value_or(other)
    changed = mutations.restructured(random, opened, other)
    return targets.SEALER.seal_bytes(changed, context=targets.CONTEXT).value_or(data)


def main() -> None:
    """Run until libFuzzer ends, or something is found."""
    for number, document in enumerate(targets.seeds()):
        seed = document if name == "codec" else targets.SEALER.seal_bytes(document, context=targets.CONTEXT).unwrap()
        found.joinpath(f"seed-{number}").write_bytes(seed)
    # libFuzzer runs this again to merge, by a shell.
    program = shlex.join([sys.executable, *sys.argv[:3]])
    atheris.Setup([program, *sys.argv[3:]], run, custom_mutator=mutate)
    atheris.Fuzz()


main()
