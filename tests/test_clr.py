"""The package itself: every public name is there, and none is imported before it is used."""

import ast
import inspect
import subprocess
import sys

import pytest

import clr


@pytest.mark.parametrize("name", clr.__all__)
def test_every_public_name_is_there(name):
    value = getattr(clr, name)
    assert inspect.ismodule(value) == (name in clr._MODULES)
    assert name in dir(clr)


def test_type_checkers_see_the_public_names():
    (block,) = (node for node in ast.parse(inspect.getsource(clr)).body if isinstance(node, ast.If))
    imported = [alias.name for statement in block.body for alias in statement.names]
    assert sorted(imported) == sorted(clr.__all__)


def test_importing_clr_imports_no_library():
    code = """if True:
        import sys
        import clr
        assert "PolicyLR" in dir(clr)
        loaded = {"torch", "torchvision", "numpy", "pandas", "scipy", "matplotlib"} & sys.modules.keys()
        assert not loaded, loaded
        clr.figures, clr.results
        assert "torch" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'clr' has no attribute 'Cosine'"):
        _ = clr.Cosine
