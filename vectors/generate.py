"""Make vectors/*.json anew: `python -m vectors.generate` from the top of the tree, with src on the path.

Keys are made here and forgotten; the files hold public data only. Verdicts and reasons are written by
hand beside each case, never taken from the code under test. Which images a fresh run makes differs from
the committed ones in keys and signatures alone; tests/vectors/test_python.py compares the rest.
"""

from pathlib import Path

from vectors.cases import good, reader, reference, rsa, signature, structure, tlvs, trust
from vectors.cases.world import World
from vectors.recipe import HERE, Vectors, dump

IMAGE = (
    "Images as a slot of a bank holds them: for the Python decoder, the C verifier and the emulated module."
)
FILE = "Images as files, with or without a named key: for the Python decoder alone."


def image_vectors(world: World) -> Vectors:
    modules = (good, reference, structure, tlvs, trust, signature, rsa)
    rows = tuple(case for module in modules for case in module.cases(world))
    return Vectors(IMAGE, {"good": world.good.write(), "rsa": world.good_rsa.write()}, world.trusts, rows)


def file_vectors(world: World) -> Vectors:
    return Vectors(
        FILE,
        {"good": world.good.write(), "rsa": world.good_rsa.write()},
        world.reader_trusts,
        tuple(reader.cases(world)),
    )


def generate(folder: Path) -> None:
    world = World()
    for name, vectors in (("image", image_vectors(world)), ("file", file_vectors(world))):
        (folder / f"{name}.json").write_text(dump(vectors))


if __name__ == "__main__":
    generate(HERE)
