"""Installed plug-ins: found by their entry point, told in one sentence if they are broken."""

import sys

import pytest

from nibkit import plugins, registry
from nibkit.cli import train
from nibkit.config import load_config
from nibkit.errors import UserError
from nibkit.registry import backbone_names

NETWORK = """
from nibkit.backbones import ResNet
from nibkit.registry import register_backbone

@register_backbone("buds")
class Buds(ResNet):
    pass
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a package of this code that brings ``nib=faint``."""
    classes = dict(registry._BACKBONES.classes)

    def install(code, package="buds", value="buds"):
        home = tmp_path / "site"
        groups = home / package / "configs" / "nib"
        groups.mkdir(parents=True)
        (groups / "faint.yaml").write_text("defaults: [symmetric, _self_]\nscale: 0.01\n")
        (home / package / "__init__.py").write_text(code)
        facts = home / "buds-1.0.dist-info"
        facts.mkdir()
        (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: buds\nVersion: 1.0\n")
        (facts / "entry_points.txt").write_text(f"[nibkit.plugins]\nbuds = {value}\n")
        monkeypatch.syspath_prepend(home)
        plugins.plugins.cache_clear()
        return home

    assert backbone_names()
    monkeypatch.setattr(registry._BACKBONES, "classes", classes)
    yield install
    sys.modules.pop("buds", None)
    plugins.plugins.cache_clear()


def test_configs_are_found_before_the_package_is_imported(install):
    install(NETWORK)
    config = load_config(["nib=faint"])
    assert (config.nib.scale, config.nib.form) == (0.01, "symmetric")
    assert "buds" not in sys.modules
    assert "buds" in backbone_names()


def test_choices_are_listed_with_the_shipped_ones(install, capsys):
    install(NETWORK)
    with pytest.raises(UserError, match=r"unknown nib 'fait' \(did you mean 'faint'\?\); choose from: additive"):
        load_config(["nib=fait"])
    with pytest.raises(SystemExit):
        train(["--help"])
    assert "dynamic, faint, feature" in capsys.readouterr().out


def test_a_folder_of_configs_comes_before_them(install, tmp_path):
    install(NETWORK)
    (tmp_path / "conf/nib").mkdir(parents=True)
    (tmp_path / "conf/nib/faint.yaml").write_text("defaults: [symmetric, _self_]\nscale: 0.02\n")
    assert load_config(["nib=faint"], str(tmp_path / "conf")).nib.scale == 0.02


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        (NETWORK.replace('"buds"', '"resnet"'), "ValueError: backbone 'resnet' is already registered by nibkit."),
    ],
    ids=["import", "name"],
)
def test_one_that_cannot_be_imported_is_named(install, code, why):
    install(code)
    with pytest.raises(UserError) as caught:
        backbone_names()
    assert str(caught.value).startswith(f"the plug-in 'buds' cannot be used ({why}")
    assert str(caught.value).endswith("; repair it, or: pip uninstall buds")


@pytest.mark.parametrize("value", ["gone", "gone.deep"])
def test_one_whose_package_is_missing_is_named(install, refused, value):
    install(NETWORK, value=value)
    message = refused("task=dithering")
    assert (
        message == f"the plug-in '{value}' cannot be used (its package is missing); repair it, or: pip uninstall buds"
    )
