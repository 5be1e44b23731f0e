"""Files damaged at random: each must be refused in the package's words, or load unchanged."""

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path


def damage(whole: bytes, rng: random.Random) -> bytes:
    """One of seven kinds of damage: bits, bytes, holes, cuts, doubles, swaps, forged lengths."""
    data, n = bytearray(whole), len(whole)
    # Headers are short beside tensors: half of the damage goes there
    where = rng.randrange(min(n, 4096)) if rng.random() < 0.5 else rng.randrange(n)
    span = rng.randrange(1, 64)
    kind = rng.randrange(7)
    if kind == 0:
        data[where] ^= 1 << rng.randrange(8)
    elif kind == 1:
        data[where : where + span] = rng.randbytes(len(data[where : where + span]))
    elif kind == 2:
        del data[where : where + span]
    elif kind == 3:
        del data[where:]
    elif kind == 4:
        data[where:where] = data[where : where + span]
    elif kind == 5:
        other = rng.randrange(n)
        data[where], data[other] = data[other], data[where]
    else:
        data[:8] = rng.randrange(2 ** rng.choice([8, 16, 32, 63])).to_bytes(8, "little")
    return bytes(data)


def attack(
    path: Path,
    load: Callable[[Path], object],
    same: Callable[[object], bool],
    refusals: tuple[type[Exception], ...],
    rounds: int,
    seed: int = 0,
) -> Counter:
    """What became of `rounds` damaged copies of a file: refused, unchanged, wrong or foreign.

    *Wrong* loaded with other content than the original's, *foreign* raised an exception that is
    not the package's own; both must stay at zero.
    """
    rng, whole = random.Random(seed), path.read_bytes()
    victim = path.with_name("victim" + path.suffix)
    found = Counter()
    for _ in range(rounds):
        victim.write_bytes(damage(whole, rng))
        try:
            loaded = load(victim)
        except refusals:
            found["refused"] += 1
        except Exception as error:  # whatever else comes out is what is looked for
            found[f"foreign: {type(error).__name__}: {error}"[:200]] += 1
        else:
            found["unchanged" if same(loaded) else "wrong"] += 1
    return found
