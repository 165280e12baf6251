"""What the pages show is so: Python blocks run, messages are those of the code, examples in docstrings hold."""

import ast
import doctest
import importlib
import re
import shlex
import shutil
from functools import cache
from pathlib import Path

import pytest

from nibkit.cli import main, train

ROOT = Path(__file__).resolve().parent.parent
SOURCES = [path for package in ("nibkit", "tasks", "callbacks") for path in sorted((ROOT / package).rglob("*.py"))]
WITH_EXAMPLES = [path for path in SOURCES if ">>> " in path.read_text()]
FAQ = (ROOT / "docs" / "faq.md").read_text()
SHOWN = re.findall(r"^\$ (.*)\n(.*)\n", "".join(re.findall(r"```console\n(.*?)```", FAQ, re.DOTALL)), re.MULTILINE)
QUOTED = "".join(re.findall(r"```text\n(.*?)```", FAQ, re.DOTALL)).splitlines()


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_examples_in_docstrings(path):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    failed, tried = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert tried
    assert not failed


@pytest.mark.parametrize("page", ["README.md", "docs/quickstart.md"])
def test_python_on_the_page_runs(page, tiny_run, tmp_path, capsys):
    shutil.copytree(tiny_run, tmp_path / "RUN_DIR")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, page, "exec"), {})
        promised = re.findall(r"^print\(.*?\)  # ([^:\n]*)", block, re.MULTILINE)
        assert capsys.readouterr().out.splitlines() == promised


@pytest.mark.parametrize(("command", "answer"), SHOWN, ids=[command for command, _ in SHOWN])
def test_commands_of_the_faq_are_answered_as_it_says(command, answer, capsys):
    words = shlex.split(command)
    program, arguments = (train, words[2:]) if words[:2] == ["python", "train.py"] else (main, words[1:])
    with pytest.raises(SystemExit) as stop:
        program(arguments)
    assert stop.value.code == 2
    wanted = ".*".join(re.escape(part) for part in answer.split("..."))
    assert re.fullmatch(wanted, capsys.readouterr().err.strip())
    assert not list(Path.cwd().iterdir())


@pytest.mark.parametrize("message", QUOTED)
def test_messages_of_the_faq_are_in_the_code(message):
    parts = [part.strip() for part in message.split("...") if part.strip()]
    assert any(all(part in text for part in parts) for text in texts()), message


@cache
def texts():
    """Return every text of the code, what is put into it left out."""
    found = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                found.add("\0".join(str(v.value) if isinstance(v, ast.Constant) else "" for v in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found
