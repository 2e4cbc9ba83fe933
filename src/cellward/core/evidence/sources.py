"""Which tests a file of tests has. A claim that names another one is refused."""

import ast

from cellward.core.errors import Code, FormatRefused


def file_of(node: str) -> str:
    """`tests/x/test_y.py::test_z` → `tests/x/test_y.py`."""
    return node.partition("::")[0]


def node_ids(source: str, file: str) -> frozenset[str]:
    """Its node ids without parameters, and the file's own, which stands for all of them, if it has any.

    Raises FormatRefused (metadata.format).
    """
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise FormatRefused(Code.METADATA_FORMAT, file, expected="Python", found=str(error)[:120]) from error
    found = set(_names(body, f"{file}::"))
    for node in body:
        if isinstance(node, ast.ClassDef):
            found |= _names(node.body, f"{file}::{node.name}::")
    return frozenset(found | {file}) if found else frozenset()


def _names(body: list[ast.stmt], prefix: str) -> set[str]:
    functions = (node for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {prefix + node.name for node in functions if node.name.startswith("test_")}
