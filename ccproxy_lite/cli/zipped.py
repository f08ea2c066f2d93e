"""Importing from ``ccproxy-lite.pyz``: the byte code of all modules stands in one entry, their sources in ``src/``.

Python's own zipimport reads byte code of one version only, and one entry for each module, which takes longer than
running it. Used by the file that ``ccproxy-lite bundle`` writes, before anything else is imported.
"""

from __future__ import annotations

import marshal
import os
import sys
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from types import ModuleType
from zipimport import zipimporter


def entry(version: tuple[int, int]) -> str:
    """The name of the entry for a version of CPython: its own tag for byte code (PEP 3147).

    >>> entry((3, 11))
    'cpython-311'
    """
    return "cpython-{}{}".format(*version)


def install(archive: str) -> None:
    """Find modules in the byte code for this version, if there is some; else their sources are compiled."""
    try:
        codes = zipimporter(archive).get_data(os.path.join(archive, str(sys.implementation.cache_tag)))
    except OSError:
        return
    sys.meta_path.insert(0, _ByteCode(os.path.join(archive, "src"), marshal.loads(codes)))


class _ByteCode:
    """Finder and loader of the modules in one entry; everything else of them (sources, data) is in ``src``."""

    def __init__(self, sources: str, codes: dict[str, tuple[bool, bytes]]) -> None:
        self.archive = os.path.dirname(sources)
        self._sources = sources
        self._codes = codes
        self._inner = zipimporter(sources)

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name not in self._codes:
            return None
        is_package, _ = self._codes[name]
        stem = os.path.join(self._sources, *name.split("."))
        file = os.path.join(stem, "__init__.py") if is_package else f"{stem}.py"
        inside = [stem] if is_package else None
        return spec_from_file_location(name, file, loader=self, submodule_search_locations=inside)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        exec(marshal.loads(self._codes[module.__name__][1]), module.__dict__)

    def get_source(self, name: str) -> str | None:
        return self._inner.get_source(name)

    def get_data(self, path: str) -> bytes:
        return self._inner.get_data(path)
