"""What the journal's keys say of modules: an edit is noticed wherever it is."""

from __future__ import annotations

import importlib
import importlib.machinery
import os
import shutil
import sys
import textwrap
import types
import warnings
import zipfile
import zipimport
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from keying import key, task
from mpitasks.journal import modules, packages
from mpitasks.journal.keys import Identity, Keys

HELPER = """
    def go(x):
        return x * RATE

    def other(x):
        return x

    RATE = 2
    DATA = {"a": [1, 2]}

    class Model:
        limit = 3
        def step(self, x):
            return x + self.limit
"""


class Project:
    """A folder of the user with modules, on the path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, text: str) -> Path:
        """Write a file."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    def forget(self) -> None:
        """Forget the modules that were loaded, as a new process does."""
        for name, module in list(sys.modules.items()):
            path = getattr(module, "__file__", None) or ""
            own = getattr(module, "__path__", None)
            paths = [path, *(own if isinstance(own, list) else [])]
            if any(each.startswith(str(self.folder)) for each in paths):
                del sys.modules[name]
        importlib.invalidate_caches()

    def load(self, name: str = "work") -> types.ModuleType:
        """Import a module anew."""
        self.forget()
        return importlib.import_module(name)

    def identity(self, name: str = "work", function: str = "task") -> Identity:
        """Return the identity of a function of a module, in a new process."""
        found: Callable[..., object] = vars(self.load(name))[function]
        return Keys().identify(found)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(str(tmp_path))
    made = Project(tmp_path)
    yield made
    made.forget()


# How a function comes to a helper, so that an edit of the helper counts.
WAYS = {
    "attribute": "import helper as h\ndef task(x): return h.go(x)",
    "in a comprehension": """
        import helper as h
        def task(x): return [h.go(y) for y in x]
    """,
    "in a generator": "import helper as h\ndef task(x): return sum(h.go(y) for y in x)",
    "in a lambda": "import helper as h\ndef task(x): return (lambda y: h.go(y))(x)",
    "in a nested function": """
        import helper as h
        def task(x):
            def inner(y):
                def innermost():
                    return h.go(y)
                return innermost()
            return inner(x)
    """,
    "in a nested class": """
        import helper as h
        def task(x):
            class Inner:
                found = h.go(1)
            return Inner.found
    """,
    "by name": "from helper import go\ndef task(x): return go(x)",
    "inner import": "def task(x):\n    import helper\n    return helper.go(x)",
    "inner import by name": "def task(x):\n    from helper import go\n    return go(x)",
    "inner import of a package's module": """
        def task(x):
            from plugins import inner
            return inner.go(x)
    """,
    "inner import in a lambda": """
        def task(x):
            return (lambda: __import__("helper").go(x))()
    """,
    "inner import in a nested function": """
        def task(x):
            def inner():
                import helper
                return helper
            return inner().go(x)
    """,
    "import_module": """
        import importlib
        def task(x):
            return importlib.import_module("helper").go(x)
    """,
    "import_module by another name": """
        import importlib as il
        def task(x):
            return il.import_module("helper").go(x)
    """,
    "import_module, imported inside": """
        def task(x):
            from importlib import import_module
            return import_module("helper").go(x)
    """,
    "through a module that imports inside": """
        import middle
        def task(x):
            return middle.go(x)
    """,
    "through two modules": "def task(x):\n    import outer\n    return outer.go(x)",
    "held by a variable": """
        import helper
        def task(x):
            found = helper
            return found.go(x)
    """,
    "getattr": "import helper\ndef task(x): return getattr(helper, 'g' + 'o')(x)",
    "held by a closure": """
        import helper
        def make(module):
            def task(x):
                return module.go(x)
            return task
        task = make(helper)
    """,
    "held by a default": "import helper\ndef task(x, m=helper): return m.go(x)",
    "held by a keyword's default": """
        import helper
        def task(x, *, m=helper): return m.go(x)
    """,
    "held by a dict": """
        import helper
        MODULES = {"h": helper}
        def task(x): return MODULES["h"].go(x)
    """,
    "held by a list in a tuple": """
        import helper
        MODULES = (1, [helper])
        def task(x): return MODULES[1][0].go(x)
    """,
    "held by a class": """
        import helper
        class Tools:
            module = helper
        def task(x): return Tools.module.go(x)
    """,
    "held by an object": """
        import helper
        class Tools:
            def __init__(self): self.module = helper
        tools = Tools()
        def task(x): return tools.module.go(x)
    """,
    "held by an attribute": """
        import helper
        def task(x): return task.module.go(x)
        task.module = helper
    """,
    "partial": """
        import functools, helper
        def apply(module, x): return module.go(x)
        task = functools.partial(apply, helper)
    """,
    "partial of a function": """
        import functools, helper
        task = functools.partial(helper.go, 1)
    """,
    "mapping proxy": """
        import types, helper
        TABLE = types.MappingProxyType({"go": helper.go})
        def task(x): return TABLE["go"](x)
    """,
    "wrapped": """
        import functools, helper
        @functools.wraps(helper.go)
        def task(x): return task.__wrapped__(x)
    """,
    "cached": """
        import functools, helper
        go = functools.lru_cache(helper.go)
        def task(x): return go(x)
    """,
    "globals": "from helper import go\ndef task(x): return globals()['go'](x)",
    "eval": "from helper import go\ndef task(x): return eval('go(x)')",
    "sys.modules": """
        import sys, helper
        def task(x): return sys.modules['helper'].go(x)
    """,
    "sys.modules, imported inside": """
        import helper
        def task(x):
            import sys
            return sys.modules["helper"].go(x)
    """,
    "a module without its import": "import pkg\ndef task(x): return pkg.inner.go(x)",
    "a package's module": "import pkg.inner\ndef task(x): return pkg.inner.go(x)",
    "a package that imports relatively": """
        def task(x):
            import pkg
            return pkg.go(x)
    """,
    "star of a package": """
        def task(x):
            import stars
            return stars.middle.go(x)
    """,
    "run_path": """
        import runpy
        def task(x):
            return runpy.run_path("helper.py")["go"](x)
    """,
    "run_path beside a module": """
        def task(x):
            import deep.runs
            return deep.runs.go(x)
    """,
    "after an import that goes too far up": """
        def task(x):
            try:
                from ..... import nothing
            except ImportError:
                import helper
            return helper.go(x)
    """,
    "beside a name that goes too far up": """
        import importlib
        def task(x, name="...too.far"):
            return importlib.import_module("helper").go(x)
    """,
    "a start of a name": """
        import importlib
        def task(x, name="inner"):
            return importlib.import_module(f"plugins.{name}").go(x)
    """,
    "a subclass": """
        import helper
        class Base:
            pass
        class Sub(Base):
            go = staticmethod(helper.go)
        def task(x): return Base.__subclasses__()[0].go(x)
    """,
    "singledispatch": """
        import functools, helper
        @functools.singledispatch
        def task(x): return x
        task.register(int, helper.go)
    """,
    "a property": """
        import helper
        class Model:
            x = 1
            @property
            def found(self): return helper.go(self.x)
        def task(x): return Model().found
    """,
    "a cached property": """
        import functools, helper
        class Model:
            x = 1
            @functools.cached_property
            def found(self): return helper.go(self.x)
        def task(x): return Model().found
    """,
    "a metaclass": """
        import helper
        class Meta(type):
            def go(cls, x): return helper.go(x)
        class Model(metaclass=Meta): pass
        def task(x): return Model.go(x)
    """,
    "a base class": """
        import helper
        class Base:
            def go(self, x): return helper.go(x)
        class Model(Base): pass
        def task(x): return Model().go(x)
    """,
    "a field's metadata": """
        import dataclasses, helper
        @dataclasses.dataclass
        class Model:
            x: int = dataclasses.field(default=1, metadata={"go": helper.go})
        def task(x): return dataclasses.fields(Model)[0].metadata["go"](x)
    """,
    "an annotation": """
        import helper
        def task(x: helper.go): return task.__annotations__["x"](x)
    """,
    "a function among the built-in ones": """
        import builtins, helper
        builtins.go_of_the_test = helper.go
        def task(x): return go_of_the_test(x)
    """,
}

FILES = {
    "helper.py": HELPER,
    "middle.py": "def go(x):\n    import helper\n    return helper.go(x)",
    "outer.py": "import middle\ngo = middle.go",
    "pkg/__init__.py": "from .inner import go",
    "pkg/inner.py": HELPER,
    "plugins/__init__.py": "",
    "plugins/inner.py": HELPER,
    "stars/__init__.py": "from stars import *\n__all__ = ['middle']",
    "stars/middle.py": HELPER,
    "deep/runs.py": "import runpy\ndef go(x): runpy.run_path('beside.py')['go'](x)",
    "deep/beside.py": HELPER,
}
EDIT = ("return x * RATE", "return x * RATE + 1000")


@pytest.mark.parametrize("way", WAYS)
def test_an_edit_of_a_helper_counts(project: Project, way: str) -> None:
    for name, text in FILES.items():
        project.write(name, text)
    project.write("work.py", WAYS[way])
    before = project.identity()
    assert project.identity().digest == before.digest  # in any other process
    for name, text in FILES.items():
        project.write(name, text.replace(*EDIT))
    assert project.identity().digest != before.digest


SEEN_THROUGH = {
    "another function": (
        "def other(x):\n        return x",
        "def other(x):\n        return 2",
    ),
    "a comment": ("def go(x):", "# a comment\n\n    def go(x):"),
}


@pytest.mark.parametrize("edit", SEEN_THROUGH)
def test_what_a_function_does_not_use_does_not_count(
    project: Project, edit: str
) -> None:
    project.write("helper.py", HELPER)
    project.write("work.py", "import helper\ndef task(x): return helper.go(x)")
    before = project.identity()
    assert HELPER.replace(*SEEN_THROUGH[edit]) != HELPER
    project.write("helper.py", HELPER.replace(*SEEN_THROUGH[edit]))
    assert project.identity().digest == before.digest
    project.write("work.py", "# moved\nimport helper\ndef task(x): return helper.go(x)")
    assert project.identity().digest == before.digest


def test_the_package_of_a_module_counts_as_well(project: Project) -> None:
    project.write("plugins/__init__.py", "")
    project.write("plugins/inner.py", HELPER)
    before = modules.cover("plugins.inner")
    assert modules.cover("plugins.inner") == before
    project.write("plugins/__init__.py", "import sys")
    assert modules.cover("plugins.inner") != before


def test_a_covered_module_says_so(project: Project) -> None:
    project.write("helper.py", HELPER)
    project.write("work.py", "def task(x):\n    import helper")
    assert "module helper" in project.identity().parts


def test_a_module_that_is_missing_counts_when_it_comes(project: Project) -> None:
    project.write("work.py", "def task(x):\n    import missing_helper")
    before = project.identity()
    project.write("missing_helper.py", "")
    assert project.identity().digest != before.digest


def test_it_does_not_matter_what_is_loaded(project: Project) -> None:
    for name, text in FILES.items():
        project.write(name, text)
    project.write("work.py", WAYS["through two modules"])
    before = project.identity()
    loaded = project.load()
    for name in ("outer", "middle", "helper"):
        importlib.import_module(name)
    assert Keys().identify(loaded.task).digest == before.digest


def test_a_constant_that_is_not_the_file_s_is_covered(project: Project) -> None:
    project.write("helper.py", HELPER)
    project.write("work.py", "import helper\ndef task(x): return x * helper.RATE")
    module = project.load()
    module.helper.RATE = 5  # which no worker knows
    patched = Keys().identify(module.task).digest
    project.write("helper.py", HELPER.replace("RATE = 2", "RATE = 5"))
    assert project.identity().digest != patched


def test_a_constant_that_holds_a_function_now_is_covered(project: Project) -> None:
    text = HELPER + "\n    HOOK = None\n"
    project.write("helper.py", text)
    project.write("work.py", "import helper\ndef task(x): return helper.HOOK(x)")
    before = project.identity().digest
    module = project.load()
    for hook in (module.helper.go, module.helper, len):
        module.helper.HOOK = hook
        patched = Keys().identify(module.task)
        assert patched.digest != before
        assert "module helper" in patched.parts


def test_modules_of_an_archive_count_by_it(project: Project) -> None:
    archive = project.folder / "all.zip"

    def told(helper: str) -> bytes:
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("helper.py", textwrap.dedent(helper))
        for finder in (sys.path_importer_cache, zipimport._zip_directory_cache):  # type: ignore[attr-defined]
            finder.pop(str(archive), None)
        return project.identity().digest

    project.write("work.py", "def task(x):\n    import helper\n    return helper.go(x)")
    sys.path.insert(0, str(archive))
    try:
        before = told(HELPER)
        assert told(HELPER.replace(*EDIT)) != before
    finally:
        sys.path.remove(str(archive))


@pytest.mark.parametrize("text", ["x = 1 +", "x = " + "y + " * 20_000 + "y", "\0"])
def test_a_file_that_cannot_be_compiled_counts_as_it_is(
    project: Project, text: str
) -> None:
    project.write("helper.py", text)
    before = modules.cover("helper")
    project.write("helper.py", text.replace("x", "z") + "#")
    assert modules.cover("helper") != before


def test_a_file_that_warns_is_read_in_silence(project: Project) -> None:
    project.write("work.py", "def task(x):\n    import helper\n    return helper.go(x)")
    project.write("helper.py", HELPER + "\n    ODD = '\\d'\n    assert (1, 2)\n")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        modules.cover("helper")
    assert said == []


def test_a_file_that_was_edited_since_it_was_loaded(project: Project) -> None:
    edited = HELPER.replace(*EDIT)
    project.write("helper.py", HELPER)
    for text in ("def task(x):\n    import helper", WAYS["attribute"]):
        project.write("helper.py", HELPER)
        project.write("work.py", text)
        module = project.load()
        importlib.import_module("helper")
        project.write("helper.py", edited)
        during = Keys().identify(module.task).digest
        assert project.identity().digest != during


def test_modules_by_hand_count_by_what_they_hold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = types.ModuleType("made_by_hand")
    exec("def go(x): return x\ndef unused(x): return x", made.__dict__)
    monkeypatch.setitem(sys.modules, "made_by_hand", made)
    scope: dict[str, types.FunctionType] = {}
    exec(
        "import made_by_hand as m\n"
        "def one(x): return m.go(x)\n"
        "def two(x):\n    import made_by_hand\n    return made_by_hand.go(x)\n"
        "def three(x, module=m): return module.go(x)\n",
        scope,
    )
    functions = [scope[name] for name in ("one", "two", "three")]
    before = [Keys().identify(function).digest for function in functions]
    assert before == [Keys().identify(function).digest for function in functions]
    exec("def unused(x): return x + 1", made.__dict__)
    unused = [Keys().identify(function).digest for function in functions]
    assert [a == b for a, b in zip(before, unused, strict=True)] == [True, False, False]
    exec("def go(x): return x + 1", made.__dict__)
    after = [Keys().identify(function).digest for function in functions]
    assert not set(before + unused) & set(after)


def test_a_module_as_an_argument(project: Project) -> None:
    project.write("helper.py", HELPER)
    before = key(task, project.load("helper"))
    assert key(task, project.load("helper")) == before
    project.write("helper.py", HELPER.replace(*EDIT))
    assert key(task, project.load("helper")) != before


def test_a_class_and_a_function_as_arguments(project: Project) -> None:
    project.write("helper.py", HELPER)

    def keys() -> list[bytes]:
        helper = project.load("helper")
        return [key(task, each) for each in (helper.Model, helper.Model(), helper.go)]

    before = keys()
    assert keys() == before
    project.write("helper.py", HELPER.replace("limit = 3", "limit = 4"))
    after = keys()
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, False, True]
    project.write("helper.py", HELPER.replace("* RATE", "* 2 * RATE"))
    assert keys()[2] != before[2]


def test_a_script_is_seen_through(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def identify(text: str, name: str) -> bytes:
        path = project.write("script", text)
        script = types.ModuleType("__main__")
        script.__file__ = str(path)
        monkeypatch.setitem(sys.modules, "__main__", script)
        exec(compile(path.read_text(), str(path), "exec"), script.__dict__)
        return Keys().identify(vars(script)[name]).digest

    text = "N = 1\nN = 2\ndef task(x): return x * N\ndef open(x): return eval('N')"
    before = identify(text, "task"), identify(text, "open")
    assert identify("# moved\n" + text, "task") == before[0]
    assert identify("# moved\n" + text, "open") != before[1]
    assert identify(text.replace("N = 2", "N = 3"), "task") != before[0]


# Packages.


def install(
    folder: Path, text: str, *, version: str = "1.0", url: str | None = None
) -> None:
    """Install a package of one module, as pip does."""
    info = folder / f"gadget-{version}.dist-info"
    for old in folder.glob("gadget-*"):
        shutil.rmtree(old)
    module = folder / "gadget" / "__init__.py"
    module.parent.mkdir(exist_ok=True)
    info.mkdir(parents=True)
    module.write_text(text)
    if url is not None:
        (info / "direct_url.json").write_text(url)
    sums = urlsafe_b64encode(sha256(text.encode()).digest()).rstrip(b"=").decode()
    (info / "RECORD").write_text(
        f"gadget/__init__.py,sha256={sums},{len(text)}\n"
        f"gadget-{version}.dist-info/RECORD,,\n"
    )
    packages.package_of.cache_clear()
    packages._recorded.cache_clear()
    modules._owner.cache_clear()


ONE = "def turn(x):\n    return x + 1\n"
TWO = "def turn(x):\n    return x + 2\n"


@pytest.fixture
def own(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project in the interpreter's own folder for packages."""
    folders = frozenset({os.path.realpath(project.folder)})
    monkeypatch.setattr(packages, "_own_folders", lambda: folders)
    return project


USES = "import gadget\ndef task(x): return gadget.turn(x)"


def test_an_installed_package_counts_by_its_version(own: Project) -> None:
    own.write("other/work.py", USES)
    sys.path.insert(0, str(own.folder / "other"))
    try:
        install(own.folder, ONE)
        before = own.identity()
        assert "package gadget" in before.parts
        install(own.folder, ONE, version="1.1")
        assert own.identity().digest != before.digest
        install(own.folder, TWO)  # whoever publishes that has a new version
        assert own.identity().digest == before.digest
    finally:
        sys.path.remove(str(own.folder / "other"))


@pytest.mark.parametrize(
    "text",
    [
        USES,
        "from gadget import turn as task",
        "def task(x):\n    import gadget\n    return gadget.turn(x)",
        "import gadget\nmodule = [gadget]\ndef task(x): return module[0].turn(x)",
    ],
)
def test_a_package_that_was_edited_in_place_counts(own: Project, text: str) -> None:
    install(own.folder, ONE)
    own.write("other/work.py", text)
    sys.path.insert(0, str(own.folder / "other"))
    try:
        before = own.identity()
        path = own.folder / "gadget" / "__init__.py"
        os.utime(path)  # touched, and the same
        packages._recorded.cache_clear()
        packages.package_of.cache_clear()
        modules._owner.cache_clear()
        assert own.identity().digest == before.digest
        path.write_text(TWO)  # of the same length
        packages._recorded.cache_clear()
        packages.package_of.cache_clear()
        modules._owner.cache_clear()
        assert own.identity().digest != before.digest
        path.write_text(TWO + "\n")
        os.utime(path, (0, 0))  # older than the list, and of another size
        assert packages._changed(path, "sha256=x", str(len(TWO)), 1) is not None
        assert packages._changed(path, "sha256=x", str(len(TWO) + 1), 1) is None
        path.unlink()
        assert packages._changed(path, "sha256=x", "1", 0) == "FileNotFoundError"
    finally:
        sys.path.remove(str(own.folder / "other"))


COUNTS = """
COUNT = [0]
def turn(function):
    def inner(x):
        COUNT[0] += 1
        return function(x)
    return inner
"""


def test_what_a_package_holds_is_its_own_business(own: Project) -> None:
    text = "import gadget\n@gadget.turn\ndef task(x): return x + 1"
    work = own.write("other/work.py", text)
    sys.path.insert(0, str(own.folder / "other"))
    try:
        install(own.folder, COUNTS)
        module = own.load()
        before = Keys().identify(module.task).digest
        assert module.task(1) == 2
        assert Keys().identify(module.task).digest == before
        work.write_text(text.replace("x + 1", "x + 2"))
        assert own.identity().digest != before
    finally:
        sys.path.remove(str(own.folder / "other"))


def test_a_package_of_a_repository_counts_by_its_files(own: Project) -> None:
    own.write("other/work.py", USES)
    sys.path.insert(0, str(own.folder / "other"))
    try:
        install(own.folder, ONE, url="{}")
        before = own.identity()
        install(own.folder, TWO, url="{}")
        assert own.identity().digest != before.digest
        install(own.folder, ONE, url="{}")
        assert own.identity().digest == before.digest
    finally:
        sys.path.remove(str(own.folder / "other"))


@pytest.mark.parametrize("name", ["target", "lib/site-packages"])
def test_a_package_in_another_folder_counts_by_its_files(
    project: Project, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("work.py", USES)
    target = project.folder / name
    target.mkdir(parents=True)
    monkeypatch.syspath_prepend(str(target))
    install(target, ONE)
    before = project.identity()
    assert "package gadget" in before.parts
    install(target, TWO)
    assert project.identity().digest != before.digest


@pytest.mark.parametrize("name", ["src", "lib/site-packages"])
def test_code_that_no_package_has_is_the_user_s(
    project: Project, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("work.py", USES)
    project.write(f"{name}/gadget/__init__.py", ONE)
    monkeypatch.syspath_prepend(str(project.folder / name))
    before = project.identity()
    assert modules.is_users("gadget")
    project.write(f"{name}/gadget/__init__.py", TWO)
    assert project.identity().digest != before.digest


@pytest.mark.parametrize("info", ["gadget", "a_gadget-1.0", "gadget-1.0"])
def test_a_package_that_has_an_egg_counts_by_its_version(
    own: Project, info: str
) -> None:
    """As distributions of systems have, and old ways to install."""

    def told(text: str, version: str, tops: str | None) -> Identity:
        for old in own.folder.glob("*.egg-info"):
            shutil.rmtree(old)
        folder = own.folder / f"{info.replace('1.0', version)}.egg-info"
        folder.mkdir()
        if tops is not None:
            (folder / "top_level.txt").write_text(tops)
        (own.folder / "zero.egg-info").mkdir()
        own.write("gadget/__init__.py", text)
        packages.package_of.cache_clear()
        modules._owner.cache_clear()
        return own.identity()

    own.write("other/work.py", USES)
    sys.path.insert(0, str(own.folder / "other"))
    try:
        before = told(ONE, "1.0", "nothing gadget\n")
        name = info.partition("-")[0]
        assert f"package {name}" in before.parts
        assert told(TWO, "1.0", "gadget").digest == before.digest
        if "-" in info:
            assert told(ONE, "1.1", "gadget").digest != before.digest
        alone = told(ONE, "1.0", None)
        assert (alone.digest == before.digest) == (name == "gadget")
        other = told(ONE, "1.0", "gadgets")
        assert (other.digest == before.digest) == (name == "gadget")
        if name != "gadget":
            assert alone.digest != told(TWO, "1.0", None).digest
    finally:
        sys.path.remove(str(own.folder / "other"))


def test_a_list_of_files_that_is_missing_is_none(own: Project) -> None:
    own.write("other/work.py", USES)
    (own.folder / "a-1.dist-info").mkdir()
    sys.path.insert(0, str(own.folder / "other"))
    try:
        install(own.folder, ONE)
        assert "package gadget" in own.identity().parts
    finally:
        sys.path.remove(str(own.folder / "other"))


def test_files_without_a_digest_are_read(own: Project) -> None:
    file = own.folder / "gadget.py"
    file.write_text(ONE)
    first = packages._changed(file, "", "", 1 << 80)
    file.write_text(TWO)
    assert packages._changed(file, "", "", 1 << 80) not in (first, None)
    assert packages._changed(file, "no_such_kind=x", "1", 0) == "ValueError"


def test_finders_of_others_may_fail(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing:
        def find_spec(self, *words: Any) -> None:
            raise RuntimeError

    project.write("helper.py", HELPER)
    project.write("work.py", "def task(x):\n    import helper\n    return helper.go(x)")
    before = project.identity()
    project.load()
    monkeypatch.setattr(sys, "meta_path", [Failing(), object(), *sys.meta_path])
    assert Keys().identify(sys.modules["work"].task) == before
    assert modules.home_of("helper").kind == modules.USER
    assert modules.home_of("no_such.helper").kind == modules.MISSING


def test_modules_by_hand_are_of_their_package(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("helper.py", HELPER)
    for name, kind, package in [
        ("json.by_hand", modules.PYTHON, None),
        ("numpy.by_hand", modules.PACKAGE, "numpy"),
        ("helper.by_hand", modules.USER, None),
        ("by_hand", modules.USER, None),
    ]:
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        home = modules.home_of(name)
        assert home.kind == kind
        assert (home.package and home.package.name) == package


def test_whose_a_module_is(project: Project) -> None:
    project.write("helper.py", HELPER)
    assert modules.is_users("helper")
    assert modules.is_users("__main__")
    assert modules.is_users("no_such_module")
    assert modules.is_users(None)
    assert modules.is_users(__name__), "beside the package, and no part of it"
    for name in ("sys", "os", "json.decoder", "builtins", "mpitasks.options", "numpy"):
        importlib.import_module(name)
        assert not modules.is_users(name), name
    assert modules.home_of("numpy.linalg").package is not None
    assert modules.home_of("json").kind == modules.PYTHON


def test_an_extension_of_the_user_counts_by_its_file(project: Project) -> None:
    suffix = importlib.machinery.EXTENSION_SUFFIXES[0]
    project.write(f"fast{suffix}", "not really")
    project.write("work.py", "def task(x):\n    import fast\n    return fast.go(x)")
    before = project.identity()
    project.write(f"fast{suffix}", "not really!")
    assert project.identity().digest != before.digest
