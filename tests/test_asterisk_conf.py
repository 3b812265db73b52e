"""Asterisk's configuration files, read as Asterisk 22.10.1 was seen to read the same text."""

from pathlib import Path

import pytest

from ivr_agi.doctor.asterisk_conf import Tree


@pytest.fixture
def etc(tmp_path):
    """An /etc/asterisk below a root of its own."""
    folder = tmp_path / "etc/asterisk"
    folder.mkdir(parents=True)
    return folder


def read(etc, text, **others):
    """Parse `text` as x.conf; others: further files by name, without `.conf`."""
    for name, content in {"x": text, **others}.items():
        (etc / f"{name}.conf").write_text(content, encoding="utf-8")
    return Tree(etc).read("x.conf")


def lines(conf, section="a"):
    """Name, value, and the file and line they stand in."""
    return [(v.name, v.value, Path(v.where).name) for v in conf.values(section)]


def test_values(etc):
    """`=` and `=>` are the same; blanks around are no part; each value has its line."""
    conf = read(etc, "[a]\n\nx=1\n  y  =>  two words \nz = a=b\nno value here\n")
    assert lines(conf) == [("x", "1", "x.conf:3"), ("y", "two words", "x.conf:4"), ("z", "a=b", "x.conf:5")]
    assert conf.last("A", "X").where == f"{etc}/x.conf:3"
    assert conf.problems == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("x=1;2", "1"),
        ("x=1\\;2", "1;2"),
        ("x=1 ; c \\; d", "1"),
        ("x=a\\;b ; c", "a;b"),
        ("x=1;--mid--;2", "12"),
        ("x=1;--\nx=9\n--;2", "1"),
        ("x=1 ;---- a line of dashes", "1"),
        (";-- one\nx=9 ;-- two --; x=8\n--; x=1", "1"),
        (";x=9\nx=1", "1"),
    ],
)
def test_comments(etc, text, value):
    r"""`;` to the end of the line, `;-- --;` over lines and nested, `\\;` a semicolon."""
    conf = read(etc, f"[a]\n{text}\n")
    assert [v.value for v in conf.values("a") if v.name == "x"] == [value]


def test_comment_hides_a_section(etc):
    """As Asterisk read it: the hidden section is gone, and the line after the comment's end counts."""
    text = "[general]\n;-- block\n[hidden]\nx=1\n--;[globals]\nY=a\\;b ; c\n[b]\nexten => 2,1,NoOp(b) ;--\ngone --; same => n,NoOp(after)\n"
    conf = read(etc, text)
    assert [s.name for s in conf.sections] == ["general", "globals", "b"]
    assert lines(conf, "b")[1] == ("same", "n,NoOp(after)", "x.conf:9")


def test_templates(etc):
    """Inherited lines come first and keep their place; a template is no section of its own."""
    conf = read(etc, "[t](!)\nread = call,dtmf\n[a](t)\n[b](t)\nread = call\n[c](t)\nread += ,agi\n")
    assert lines(conf) == [("read", "call,dtmf", "x.conf:2")]
    assert conf.last("b", "read").value == "call"
    assert conf.last("c", "read").value == "call,dtmf ,agi"
    assert conf.named("t") == []


def test_sections_again(etc):
    """A second section of a name is read as well; `(+)` adds to the first."""
    conf = read(etc, "[a]\nx=1\n[b](a)\n[a](+)\nx=2\n[a]\nx=3\n")
    assert [s.name for s in conf.sections] == ["a", "b", "a"]
    assert [value for _, value, _ in lines(conf)] == ["1", "2", "3"]
    assert [value for _, value, _ in lines(conf, "b")] == ["1"]


@pytest.mark.parametrize("form", ['"y.conf"', "<y.conf>", "y.conf", "/etc/asterisk/y.conf", '"y.conf" ; why'])
def test_include(etc, form):
    """Each form of `#include`; the included lines belong to the section above, and name their own file."""
    conf = read(etc, f"[a]\n#include {form}\nz=1\n", y="x=1\n[b]\nx=2\n")
    assert lines(conf) == [("x", "1", "y.conf:1"), ("z", "1", "x.conf:3")]
    assert lines(conf, "b") == [("x", "2", "y.conf:3")]
    assert [path.name for path in conf.files] == ["x.conf", "y.conf"]


def test_include_pattern(etc):
    """A pattern takes all that fits, in order; a name is looked for in the configuration's own folder."""
    (etc / "d").mkdir()
    for name in ("2", "1"):
        (etc / f"d/{name}.conf").write_text(f"x={name}\n#include deep.conf\n")
    conf = read(etc, '[a]\n#include "d/*.conf"\n', deep="y=0\n")
    assert [value for _, value, _ in lines(conf)] == ["1", "0", "2", "0"]


@pytest.mark.parametrize(
    ("text", "what", "fatal"),
    [
        ("[a]\n#include none.conf\n", "#include none.conf: there is no such file", True),
        ('[a]\n#include "none/*.conf"\n', "#include none/*.conf: there is no such file", True),
        ("[a]\n#exec /bin/true\n", "#exec: what that program writes is not seen by this check", False),
        ("[a]\n#include x.conf\n", "files include each other too deeply", True),
        ("#nonsense y\n", "unknown directive #nonsense", False),
        ("\nx=1\n", "a line before the first section", True),
        ("[a\n", "a section's name without its closing bracket", True),
        ("[a]\n[b](c)\n", "[b](c): there is no [c] above", True),
        ("[a]\n[b](+)\n", "[b](+): there is no [b] above", True),
    ],
)
def test_problems(etc, text, what, fatal):
    """What Asterisk stumbles over, or what cannot be seen from here, is told with its line."""
    problem = read(etc, text).problems[0]
    number = 1 + len(text[: text.rindex("\n")].splitlines()[:-1])
    assert (problem.what, problem.fatal, problem.where) == (what, fatal, f"{etc}/x.conf:{number}")


def test_missing(etc):
    """A missing file is an empty one, and `#tryinclude` of one is nothing to speak of."""
    assert Tree(etc.parent.parent).read("none.conf").sections == []
    conf = read(etc, "[a]\n#tryinclude none.conf\nx=1\n")
    assert (conf.problems, len(lines(conf))) == ([], 1)


def test_not_text(etc):
    """Bytes that are no UTF-8, carriage returns and a byte-order mark do no harm."""
    (etc / "x.conf").write_bytes(b"\xef\xbb\xbf[a]\r\nx=\xff1\r\n")
    assert lines(Tree(etc).read("x.conf"))[0][1:] == ("\ufffd1", "x.conf:2")


def test_links_stay_within_the_root(etc, tmp_path):
    """FreePBX links its files to /var/www: in another root that is the root's own /var/www."""
    real = tmp_path / "var/www/x.conf"
    real.parent.mkdir(parents=True)
    real.write_text("[a]\nx=1\n")
    (etc / "x.conf").symlink_to("/var/www/x.conf")
    assert lines(Tree(tmp_path).read("x.conf")) == [("x", "1", "x.conf:2")]


def test_no_configuration(tmp_path):
    """A folder without a configuration is none."""
    with pytest.raises(FileNotFoundError):
        Tree(tmp_path)
