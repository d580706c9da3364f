from __future__ import annotations

import contextlib
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
from enum import Enum
from pathlib import Path
from uuid import uuid4

import psutil
import pytest
import sqlalchemy as sa
from celery import Celery, states
from celery.exceptions import SoftTimeLimitExceeded
from servers import wait_for
from traced import Runs, header

from celery_sqlalchemy_kit import (
    CommandError,
    DeclarationError,
    ShellTask,
    history,
    tables,
)
from celery_sqlalchemy_kit.errors import ParameterError
from celery_sqlalchemy_kit.routines import ERROR_LIMIT
from celery_sqlalchemy_kit.shell import group, guard, process
from celery_sqlalchemy_kit.store.connections import make_engine
from celery_sqlalchemy_kit.tasks import declared_tasks

pytestmark = pytest.mark.usefixtures("no_tasks_of_other_tests", "workers_leave_logging_alone")

#: Prints the arguments that reach a program.
SHOW = (sys.executable, "-c", "import json, sys; print(json.dumps(sys.argv[1:]))")
#: Seconds that a test may take which would hang if its subject failed.
LONG = 20


@pytest.fixture
def app():
    app = Celery("app", broker="memory://", backend="cache+memory://")
    app.conf.update(task_default_queue=f"queue-{uuid4()}", celery_retry_delay=0)
    yield app
    app.close()


def declare(command, /, base=ShellTask, **attributes):
    """A class as a user would write it."""
    written = {"__module__": __name__, "__qualname__": "Backup", "name": "backup"}
    return type("Backup", (base,), written | {"command": command} | attributes)


def python(source, *arguments):
    return [sys.executable, "-c", source.replace("{", "{{").replace("}", "}}"), *arguments]


def shell(script, *arguments):
    return ["sh", "-c", script.replace("{", "{{").replace("}", "}}"), "sh", *arguments]


@pytest.fixture
def run(app):
    """Declares a command and runs it once, without retries; returns the result, or raises."""

    def run(command, /, parameters=(), **attributes):
        declare(command, **{"max_retries": 0} | attributes)
        return app.tasks["backup"].apply(kwargs=dict(parameters)).get()

    return run


def is_running(pid):
    try:
        return psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def pids(path):
    """Those that a command has written into the file *path*, once it has."""
    wait_for(path.exists, LONG, what=f"{path.name}")
    return path.read_text().split()


# Arguments and their values.


class Kind(str, Enum):
    PLAIN = "plain"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *(
            (value, value)
            for value in [
                "",
                " ",
                "two words",
                "'single' \"double\" `back`",
                "; touch injected; #",
                "$(touch injected)",
                "`touch injected`",
                "${HOME} $HOME ~ * ? [a-z]",
                "a && touch injected || b | c > injected < d &",
                "one\ntouch injected\r\n\ttwo",
                "back\\slash \\n",
                "{value} {} {{}} {0.__class__} %s %(x)s",
                "ünï 漢字 🙂",
                "a -b --c=d",
                "x" * 100_000,
            ]
        ),
        (5, "5"),
        (0.5, "0.5"),
        (1e22, "1e+22"),
        (Kind.PLAIN, "plain"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_value_stays_what_it_is_and_within_its_argument(run, tmp_path, value, text):
    command = [*SHOW, "{value}", "--to={value}", "{{{value}}}", "end"]
    result = run(command, {"value": value}, working_directory=tmp_path, output_tail_bytes=1_000_000)

    assert [text, f"--to={text}", f"{{{text}}}", "end"] == json.loads(result["output"])
    assert list(tmp_path.iterdir()) == []


def test_what_the_code_declares_is_passed_as_it_stands_with_doubled_braces_as_one(run):
    command = (*SHOW, "$(touch x)", "-v", "{{}}", "{{name}}", "", "a b")
    assert ["$(touch x)", "-v", "{}", "{name}", "", "a b"] == json.loads(run(command)["output"])


def test_parameters_may_have_any_name_and_stand_anywhere(run):
    command = [*SHOW, "{self}-{args}", "{class}{self}"]
    parameters = {"self": 1, "args": 2, "class": 3}
    assert ["1-2", "31"] == json.loads(run(command, parameters)["output"])


DASHED = [
    ("{value}", {"value": "--output=/etc/passwd"}),
    ("{value}", {"value": "-"}),
    ("{value}", {"value": -5}),
    ("{value}", {"value": -0.5}),
    ("{value}/file", {"value": "-rf"}),
    ("{empty}{value}", {"empty": "", "value": "-rf"}),
    ("{value}-{value}", {"value": ""}),
]


@pytest.mark.parametrize(("argument", "parameters"), DASHED)
def test_an_argument_that_begins_with_a_value_is_no_option(run, argument, parameters):
    with pytest.raises(ParameterError, match=r"task 'backup': parameter 'value' = .*leading_dash"):
        run([*SHOW, argument], parameters)


@pytest.mark.parametrize(("argument", "parameters"), DASHED)
@pytest.mark.parametrize("how", ["leading_dash", "choices"])
def test_unless_the_code_says_that_it_may_be_one(run, argument, parameters, how):
    allowed = {"leading_dash": ["value"], "choices": {"value": [parameters["value"]]}}[how]
    result = run([*SHOW, argument], parameters, **{how: allowed})
    assert [argument.format(**parameters)] == json.loads(result["output"])


def test_choices_are_all_that_a_parameter_may_be(run):
    command, choices = [*SHOW, "--{mode}", "{level}"], {"mode": ["fast", "full"], "level": {1, -2}}

    for parameters in ({"mode": "fast", "level": 1}, {"mode": "full", "level": "-2"}):
        result = run(command, parameters, choices=choices)
        shown = [f"--{parameters['mode']}", str(parameters["level"])]
        assert shown == json.loads(result["output"])
    with pytest.raises(
        ParameterError,
        match=r"'level' = 3: allowed are '-2', '1'; parameter 'mode' = 'exec': "
        r"allowed are 'fast', 'full'",
    ):
        run(command, {"mode": "exec", "level": 3}, choices=choices)


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({}, r"parameter 'database' is missing"),
        ({"database": "a", "databse": "b"}, r"'databse' = 'b': .*no such.*allowed are 'database'"),
        ({"database": "a", "x": "y" * 999}, r"parameter 'x' = 'y{199}…: "),
        ({"database": None}, r"'database' = None: allowed are str, int and finite float"),
        ({"database": True}, r"'database' = True: allowed are str"),
        ({"database": ["a", "b"]}, r"'database' = \['a', 'b'\]: allowed are str"),
        ({"database": {"a": 1}}, r"'database' = \{'a': 1\}: allowed are str"),
        ({"database": b"a"}, r"'database' = b'a': allowed are str"),
        ({"database": float("nan")}, r"'database' = nan: allowed are .* finite float"),
        ({"database": float("-inf")}, r"'database' = -inf: allowed are .* finite float"),
        ({"database": "a\0b"}, r"'database' = 'a\\x00b': allowed is text without NUL"),
        ({"database": "\ud800"}, r"'database' = '\\ud800': allowed is what utf-8 can encode"),
        ({"x": 1, "y": 2}, r"'x' = 1: .*; parameter 'y' = 2: .*; parameter 'database' is missing"),
    ],
)
def test_wrong_parameters_are_told_before_anything_is_started_and_not_tried_again(
    app, tmp_path, parameters, told
):
    tries = []
    attributes = {"max_retries": 3, "before_start": lambda *_: tries.append(1)}
    declare(["touch", str(tmp_path / "begun"), "{database}"], **attributes)
    eager = app.tasks["backup"].apply(kwargs=parameters)

    assert (states.FAILURE, ParameterError) == (eager.state, type(eager.result))
    with pytest.raises(ParameterError, match=f"^task 'backup': .*{told}"):
        eager.get()
    assert tries == [1]
    assert list(tmp_path.iterdir()) == []


def test_parameters_without_a_name_are_refused(app):
    declare([*SHOW, "{database}"])
    with pytest.raises(ParameterError, match=r"task 'backup': args = \('proj',\): .*by name"):
        app.tasks["backup"].apply(("proj",)).get()


# Declarations.


@pytest.mark.parametrize(
    ("attributes", "told"),
    [
        ({"command": "pg_dump proj"}, r"command = 'pg_dump proj': allowed is a list"),
        ({"command": []}, r"command = \[\]: allowed is a list"),
        ({"command": {"pg_dump"}}, r"command = \{'pg_dump'\}: allowed is a list"),
        ({"command": ["pg_dump", 5]}, r"command\[1\] = 5: allowed is a str"),
        ({"command": ["pg_dump", b"x"]}, r"command\[1\] = b'x': allowed is a str"),
        ({"command": ["pg_dump", "a\0"]}, r"command\[1\] = 'a\\x00': allowed is a str without NUL"),
        ({"command": [""]}, r"command\[0\]: allowed is the name of a program"),
        ({"command": ["{program}"]}, r"command\[0\]: allowed is .* without placeholders"),
        ({"command": ["ls", "{a!r}"]}, r"command\[1\] = '\{a!r\}': .*allowed are placeholders"),
        ({"command": ["ls", "{a:>9}"]}, r"command\[1\] = '\{a:>9\}': "),
        ({"command": ["ls", "{a.b}"]}, r"command\[1\] = '\{a.b\}': "),
        ({"command": ["ls", "{a[0]}"]}, r"command\[1\] = '\{a\[0\]\}': "),
        ({"command": ["ls", "{0}"]}, r"command\[1\] = '\{0\}': "),
        ({"command": ["ls", "{}"]}, r"command\[1\] = '\{\}': "),
        ({"command": ["ls", "{ a }"]}, r"command\[1\] = '\{ a \}': "),
        ({"command": ["ls", "{a"]}, r"command\[1\] = '\{a': .*braces by doubling"),
        ({"command": ["ls", "a}"]}, r"command\[1\] = 'a\}': .*braces by doubling"),
        ({"command": ["ls", "-{a}"]}, r"command\[1\]: \{a\} would say which option"),
        ({"command": ["ls", "--{a}={b}"]}, r"command\[1\]: \{a\} would say which option"),
        ({"choices": {"other": ["x"]}}, r"choices: 'other': allowed are .* 'a'"),
        ({"choices": ["a"]}, r"choices = \['a'\]: allowed is a dict of lists"),
        ({"choices": {"a": "xyz"}}, r"choices\['a'\] = 'xyz': allowed is a list"),
        ({"choices": {"a": []}}, r"choices\['a'\] = \[\]: allowed is a list"),
        ({"choices": {"a": [None]}}, r"choices\['a'\] = \[None\]: allowed are str"),
        ({"leading_dash": ["other"]}, r"leading_dash: 'other': allowed are .* 'a'"),
        ({"leading_dash": "a"}, r"leading_dash = 'a': allowed is a list"),
        ({"environment": ["A=b"]}, r"environment: allowed is a dict"),
        ({"environment": {"A=": "b"}}, r"environment: 'A=' is no name"),
        ({"environment": {"": "b"}}, r"environment: '' is no name"),
        ({"environment": {"A": 5}}, r"environment\['A'\]: allowed is a str"),
        ({"environment": {"A": "\0"}}, r"environment\['A'\]: allowed is a str without NUL"),
        ({"working_directory": 5}, r"working_directory = 5: allowed is a path"),
        ({"working_directory": ""}, r"working_directory = '': allowed is a path"),
        ({"command_limit_seconds": 0}, r"command_limit_seconds = 0: allowed is a number above 0"),
        ({"command_limit_seconds": "5"}, r"command_limit_seconds = '5': allowed is a number"),
        ({"command_limit_seconds": float("inf")}, r"command_limit_seconds = inf: allowed is"),
        ({"command_limit_seconds": True}, r"command_limit_seconds = True: allowed is a number"),
        ({"command_grace_seconds": -1}, r"command_grace_seconds = -1: .* of at least 0"),
        ({"command_grace_seconds": None}, r"command_grace_seconds = None: allowed is a number"),
        ({"output_tail_bytes": 0.5}, r"output_tail_bytes = 0.5: allowed is a whole number"),
        ({"output_tail_bytes": -1}, r"output_tail_bytes = -1: allowed is a whole number of at"),
        ({"ok_exit_codes": 0}, r"ok_exit_codes = 0: allowed is a set"),
        ({"ok_exit_codes": {"0"}}, r"ok_exit_codes = \{'0'\}: allowed is a set"),
        ({"ok_exit_codes": {False}}, r"ok_exit_codes = \{False\}: allowed is a set"),
        ({"ok_exit_codes": {256}}, r"ok_exit_codes = \{256\}: allowed is a set of 0 to 255"),
        ({"kwargs": {"b": 1}}, r"parameter 'b' = 1: .*no such placeholder.*'a' is missing"),
        ({"kwargs": {"a": "-x"}}, r"parameter 'a' = '-x'"),
        ({"kwargs": ["a"]}, r"kwargs = \['a'\]: allowed is a dict"),
        ({"args": [1]}, r"args = \[1\]: parameters are passed by name"),
        (
            {"routines": {"night": {"schedule": 5, "kwargs": {"a": None}}}},
            r"routines\['night'\]: task 'backup': parameter 'a' = None",
        ),
    ],
)
def test_a_wrong_declaration_is_refused_where_it_is_declared(app, attributes, told):
    valid = {"schedule": 60, "kwargs": {"a": 1}}
    with pytest.raises(DeclarationError, match=f"task 'backup': {told}|^{told}"):
        declare(attributes.pop("command", ["ls", "{a}"]), **valid | attributes)
    assert "backup" not in app.tasks


def test_a_password_in_the_environment_is_not_shown():
    with pytest.raises(DeclarationError) as raised:
        declare(["ls"], environment={"PGPASSWORD": b"secret"})
    assert "secret" not in str(raised.value)


def test_a_function_is_no_command(app):
    def tidy():
        pass

    app.task(base=ShellTask, name="tidy", command=["ls"])(tidy)
    with pytest.raises(DeclarationError, match=r"'tidy'.*no function"):
        app.finalize()


def test_a_class_with_a_command_is_registered_and_a_routine(app):
    declare([*SHOW, "{a}"], schedule="0 3 * * *", kwargs={"a": "b"})
    task = app.tasks["backup"]

    assert declared_tasks(app) == [task]
    assert (task.schedule, task.kwargs) == ("0 3 * * *", {"a": "b"})
    assert json.loads(task.apply(kwargs=task.kwargs).get()["output"]) == ["b"]


def test_without_a_command_or_a_name_or_if_abstract_it_is_a_base_of_others(app):
    before = set(app.tasks)
    declare(None)
    declare(["pwd"], name=None)
    base = declare(None, abstract=True, working_directory="/", schedule=60, kwargs={"a": 1})
    other = declare(["echo", "{greeting}"], base, abstract=True, environment={"A": "b"})
    assert set(app.tasks) == before

    declare(["pwd"], base, name="where", kwargs={})
    declare(other.command, other, name="greet", kwargs={"greeting": "hello"})
    assert app.tasks["where"].apply().get()["output"] == "/\n"
    assert app.tasks["greet"].apply(kwargs={"greeting": "hello"}).get()["output"] == "hello\n"
    assert {task.name for task in declared_tasks(app)} == {"where", "greet"}


def test_run_may_check_and_complete_the_parameters(app):
    def run(self, *, day):
        return ShellTask.run(self, file=f"{day}.dump")

    declare(["echo", "{file}"], run=run, schedule=60, kwargs={"day": "monday"})
    assert app.tasks["backup"].apply(kwargs={"day": "friday"}).get()["output"] == "friday.dump\n"


# Environment, directory, standard input.


def test_the_environment_is_added_to_the_workers_as_it_stands(run, monkeypatch):
    monkeypatch.setenv("KEPT", "kept")
    monkeypatch.setenv("CHANGED", "before")
    source = "import os; print(os.environ['KEPT'], os.environ['CHANGED'], os.environ['ADDED'])"
    environment = {"CHANGED": "after", "ADDED": "{name} }}"}
    result = run(python(source), environment=environment)
    assert result["output"] == "kept after {name} }}\n"
    assert os.environ["CHANGED"] == "before"


def test_the_environment_may_be_what_the_code_declares_and_nothing_else(run, monkeypatch):
    monkeypatch.setenv("SCHEDULER_DB_URI", "postgresql://user:password@localhost")
    result = run(["env"], inherits_environment=False, environment={"A": "b"})
    assert result["output"] == "A=b\n"


def test_the_command_runs_in_its_directory_and_without_one_in_the_workers(run, tmp_path):
    assert run(["pwd"], working_directory=tmp_path)["output"] == f"{tmp_path}\n"
    assert run(["pwd"], working_directory=str(tmp_path))["output"] == f"{tmp_path}\n"
    assert run(["pwd"])["output"] == f"{Path.cwd()}\n"


def test_standard_input_is_empty(run):
    assert run(["cat"])["output"] == ""


def test_the_command_has_none_of_the_files_that_the_worker_has_open(run, tmp_path):
    with (tmp_path / "open").open("w"):
        listed = run(["ls", "-l", "/proc/self/fd"])["output"]
    assert str(tmp_path) not in listed
    assert listed.count(" -> ") == 4  # the three, and what ls reads


# How it ends.


def test_the_result_tells_exit_code_output_and_duration_as_json(run):
    result = run(shell("echo out; echo err >&2; sleep 0.1; printf end"))

    assert result == json.loads(json.dumps(result))
    assert 0.1 < result.pop("seconds") < LONG
    assert result == {"exit_code": 0, "output": "out\nerr\nend", "output_bytes": 11}


def test_another_exit_code_may_be_as_good(run):
    for code in (0, 1):
        assert run(shell(f"exit {code}"), ok_exit_codes={0, 1})["exit_code"] == code
    assert run(shell("kill -TERM $$"), ok_exit_codes=[-15])["exit_code"] == -15
    with pytest.raises(CommandError, match="exit code 2"):
        run(shell("exit 2"), ok_exit_codes={0, 1})
    with pytest.raises(CommandError, match="exit code 0"):
        run(shell("exit 0"), ok_exit_codes={1})


def test_a_failure_tells_task_program_exit_code_and_output(run):
    with pytest.raises(CommandError) as raised:
        run(shell("echo no space left >&2; exit 3"))
    error = raised.value

    assert ("backup", "sh", 3, "no space left\n", None) == (
        error.task,
        error.program,
        error.exit_code,
        error.output,
        error.limit_seconds,
    )
    assert str(error) == (
        f"task 'backup': sh ended with exit code 3 after {error.seconds:g} s; "
        "the output ends:\nno space left"
    )


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (shell("kill -KILL $$"), "sh was killed by SIGKILL after .* s; there is no output"),
        (shell("kill -TERM $$"), "sh was killed by SIGTERM after .* s; there is no output"),
        (shell("kill -50 $$"), "sh was killed by signal 50 after .* s; there is no output"),
        (["false"], "false ended with exit code 1 after .* s; there is no output"),
    ],
)
def test_a_failure_tells_the_signal_and_that_nothing_was_printed(run, command, told):
    with pytest.raises(CommandError, match=told):
        run(command)


def test_a_program_that_cannot_be_started_is_told(run, tmp_path):
    (tmp_path / "text").write_text("no program")
    with pytest.raises(FileNotFoundError, match="no such program"):
        run(["no such program"])
    with pytest.raises(PermissionError, match="text"):
        run([str(tmp_path / "text")])
    with pytest.raises(FileNotFoundError, match="elsewhere"):
        run(["true"], working_directory=tmp_path / "elsewhere")
    with pytest.raises(OSError, match="too long"):
        run(["true", "{value}"], {"value": "x" * 200_000})


def test_a_failure_passes_through_pickle_and_through_result_backends(app, run):
    with pytest.raises(CommandError) as raised:
        run(shell("printf 'no \\377 space'; exit 3"))
    error = raised.value
    backend = app.backend
    stored = json.loads(json.dumps(backend.prepare_exception(error, serializer="json")))

    for again in (pickle.loads(pickle.dumps(error)), backend.exception_to_python(stored)):
        assert (CommandError, str(error)) == (type(again), str(again))
        assert (3, "no \\xff space") == (again.exit_code, again.output)


def test_the_ledger_keeps_the_end_of_the_output(run):
    with pytest.raises(CommandError) as raised:
        run(shell("yes ü漢 | head -n 9999; echo the reason; exit 3"))
    told = history.describe(raised.value)

    assert told.startswith("celery_sqlalchemy_kit.errors.CommandError: task 'backup': sh ended")
    assert "exit code 3" in told
    assert told.endswith("ü漢\nthe reason")
    assert ERROR_LIMIT - 1024 < len(told.encode()) <= ERROR_LIMIT


@pytest.mark.parametrize(
    ("attributes", "times"),
    [
        ({}, 3),
        ({"max_retries": 0}, 1),
        ({"max_retries": 1}, 2),
        ({"dont_autoretry_for": (CommandError,)}, 1),
        ({"autoretry_for": (OSError,)}, 1),
    ],
)
def test_a_failing_command_is_retried_as_other_tasks_are(app, tmp_path, attributes, times):
    app.conf.celery_max_retry = 2
    declare(shell('echo >> "$1"; exit 3', str(tmp_path / "tries")), **attributes)

    with pytest.raises(CommandError, match="exit code 3"):
        app.tasks["backup"].apply().get()
    assert len((tmp_path / "tries").read_text()) == times


# Output.


def test_megabytes_on_both_streams_neither_block_nor_are_kept(run):
    source = """
import os, threading
def flood(stream):
    for _ in range(512):
        os.write(stream, b"." * 16384)
threads = [threading.Thread(target=flood, args=(stream,)) for stream in (1, 2)]
for each in threads: each.start()
for each in threads: each.join()
print("the end")
"""
    result = run(python(source))

    assert result["output_bytes"] == 2 * 512 * 16384 + 8
    assert result["output"] == "." * 4088 + "the end\n"


@pytest.mark.parametrize(("limit", "output"), [(0, ""), (3, "cd\n"), (5, "abcd\n"), (9, "abcd\n")])
def test_as_much_of_the_output_is_kept_as_the_code_says(run, limit, output):
    result = run(["echo", "abcd"], output_tail_bytes=limit)
    assert (output, 5) == (result["output"], result["output_bytes"])


def test_output_that_is_no_text_is_shown_escaped(run):
    result = run(shell(r"printf 'a\000b\377c\303\274d'"))
    assert result["output"] == r"a\x00b\xffcüd"


def test_a_command_that_closes_its_output_is_waited_for(run):
    assert run(shell("exec >&- 2>&-; sleep 0.2; exit 7"), ok_exit_codes={7})["seconds"] >= 0.2


# Limits, and processes that are left behind.

#: Ignores SIGTERM, as does its child, and writes down the ids of both.
STUBBORN = """
trap '' TERM
sleep 60 &
echo $$ $! > "$1.new"
mv "$1.new" "$1"
echo begun
wait
"""


def test_at_its_limit_a_command_is_ended_and_fails(run):
    script = "trap 'echo ending; exit 0' TERM; echo begun; sleep 60 & wait"
    with pytest.raises(CommandError) as raised:
        run(shell(script), command_limit_seconds=0.3)
    error = raised.value

    assert str(error) == (
        "task 'backup': sh has reached its limit of 0.3 s; the output ends:\nbegun\nending"
    )
    assert (0, 0.3) == (error.exit_code, error.limit_seconds)
    assert 0.3 <= error.seconds < LONG


def test_at_its_limit_a_command_that_ignores_sigterm_is_killed_with_all_that_it_has_started(
    run, tmp_path
):
    limits = {"command_limit_seconds": 0.5, "command_grace_seconds": 0.2}
    with pytest.raises(CommandError, match=r"limit of 0.5 s; .*\nbegun") as raised:
        run(shell(STUBBORN, str(tmp_path / "pids")), **limits)

    assert not any(map(is_running, pids(tmp_path / "pids")))
    assert -signal.SIGKILL == raised.value.exit_code
    assert 0.7 <= raised.value.seconds < LONG


def test_a_command_is_given_its_grace_to_end(run):
    source = "import signal, sys, time\nsignal.signal(15, lambda *_: None)\nprint('begun', flush=True)\nsignal.pause(); time.sleep(0.3); print('tidied')"
    with pytest.raises(CommandError, match=r"begun\ntidied"):
        run(python(source), command_limit_seconds=0.5)


def test_what_a_command_leaves_behind_is_ended_with_it(run, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(process, "LEFTOVER_SECONDS", 0.1)
    result = run(
        shell('trap "" HUP; sleep 60 & echo $! > "$1"; echo left', str(tmp_path / "pids")),
    )

    assert (0, "left\n") == (result["exit_code"], result["output"])
    assert not any(map(is_running, pids(tmp_path / "pids")))
    assert "left processes behind" in caplog.text


def test_what_a_command_leaves_behind_may_end_by_itself(run, caplog):
    result = run(shell("(sleep 0.2; echo later) & echo sooner"))
    assert result["output"] == "sooner\nlater\n"
    assert "left processes behind" not in caplog.text


def test_a_daemon_that_keeps_the_output_open_and_prints_on_holds_nobody_up(run, tmp_path):
    script = 'setsid yes & echo $! > "$1"; sleep 0.2; exit 7'
    result = run(shell(script, str(tmp_path / "pids")), ok_exit_codes={7})

    assert (7, "y\n") == (result["exit_code"], result["output"][-2:])
    (daemon,) = pids(tmp_path / "pids")
    wait_for(lambda: not is_running(daemon))  # as nobody reads any more


def test_a_silent_daemon_that_keeps_the_output_open_holds_nobody_up(run, tmp_path):
    result = run(shell('setsid sleep 60 & echo $! > "$1"', str(tmp_path / "pids")))
    (daemon,) = pids(tmp_path / "pids")

    assert (True, True) == (is_running(daemon), result["seconds"] < 50)
    os.kill(int(daemon), signal.SIGKILL)


def test_a_group_is_alive_until_its_last_process_has_ended_reaped_or_not():
    """Orphans are reaped by whatever has the first process id, which may never do so."""
    ended = subprocess.Popen(["true"], start_new_session=True)
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    assert not group.is_alive(ended.pid)
    ended.wait()
    assert not group.is_alive(ended.pid)

    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, start_new_session=True) as running:
        assert group.is_alive(running.pid)


class Interruption(BaseException):
    pass


@pytest.mark.parametrize("error", [SoftTimeLimitExceeded, SystemExit, Interruption])
def test_whatever_interrupts_the_task_ends_the_command_and_all_that_it_has_started(
    app, tmp_path, error
):
    def interrupt(*_):
        raise error

    def signal_once_begun():
        pids(tmp_path / "pids")
        os.kill(os.getpid(), signal.SIGUSR1)

    declare(shell(STUBBORN, str(tmp_path / "pids")), command_grace_seconds=0.2)
    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        threading.Thread(target=signal_once_begun).start()
        with pytest.raises(error):
            app.tasks["backup"].run()
    finally:
        signal.signal(signal.SIGUSR1, before)

    assert not any(map(is_running, pids(tmp_path / "pids")))


def test_an_interruption_while_the_command_is_being_started_leaves_nothing_behind(
    app, tmp_path, monkeypatch
):
    """A signal's handler may raise anywhere, and would lose a process that is not yet known."""
    popen = process.subprocess.Popen

    def interrupted(*args, **options):
        started = popen(*args, **options)
        if args[0][0] != "/bin/sh":
            pids(tmp_path / "pids")
            os.kill(os.getpid(), signal.SIGUSR1)
        return started

    def interrupt(*_):
        raise Interruption

    monkeypatch.setattr(process.subprocess, "Popen", interrupted)
    declare(shell(STUBBORN, str(tmp_path / "pids")), command_grace_seconds=0)
    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with pytest.raises(Interruption):
            app.tasks["backup"].run()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert not any(map(is_running, pids(tmp_path / "pids")))


def test_an_interruption_before_the_command_is_started_starts_none(app, tmp_path, monkeypatch):
    class Interrupted(threading.Thread):
        def start(self):
            raise Interruption

    monkeypatch.setattr(process.threading, "Thread", Interrupted)
    declare(["touch", str(tmp_path / "begun")])
    with pytest.raises(Interruption):
        app.tasks["backup"].run()
    assert list(tmp_path.iterdir()) == []


def test_commands_run_at_once_on_several_threads(app, tmp_path):
    """And none holds open what another one waits for to be closed."""
    declare(["sh", "-c", 'echo > "$1"; until [ -e "$2" ]; do sleep 0.01; done', "sh", "{mine}", "{other}"])  # fmt: skip
    places = [str(tmp_path / name) for name in "ab"]
    results = []

    def run(mine, other):
        results.append(app.tasks["backup"].run(mine=mine, other=other)["exit_code"])

    threads = [threading.Thread(target=run, args=pair) for pair in (places, places[::-1])]
    for each in threads:
        each.start()
    for each in threads:
        each.join(LONG)
    assert results == [0, 0]


def test_nothing_is_left_open_nor_running_by_a_command(run):
    def used():
        me = psutil.Process()
        return me.num_fds(), threading.active_count(), len(me.children())

    run(["true"])
    before = used()
    for command in (["true"], ["false"], ["no such program"]):
        with contextlib.suppress(CommandError, FileNotFoundError):
            run(command)
    wait_for(lambda: used() == before)


def test_without_a_shell_for_its_guard_a_command_runs_all_the_same(run, monkeypatch, caplog):
    def refuse(*args, **options):
        if args[0][0] == "/bin/sh":
            raise FileNotFoundError("/bin/sh")
        return popen(*args, **options)

    popen = guard.subprocess.Popen
    monkeypatch.setattr(guard.subprocess, "Popen", refuse)
    assert run(["echo", "ran"])["output"] == "ran\n"
    assert "outlives its worker" in caplog.text


def test_the_examples_in_the_docs_can_be_declared(app):
    page = (Path(__file__).parents[1] / "docs" / "shell.md").read_text(encoding="utf-8")
    for example in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(example, {"__name__": __name__})
    assert {task.name for task in declared_tasks(app)} >= {"backup", "rotate"}


# In real workers.

PROJECT = """
from celery import Celery
from celery_sqlalchemy_kit import ShellTask

app = Celery("proj", broker={broker!r}, backend={broker!r})
app.conf.update(
    scheduler_db_uri={database!r},
    broker_connection_retry_on_startup=True,
    celery_max_retry=0,
    result_expires=None,
)


class Dump(ShellTask):
    name = "dump"
    command = ["sh", "-c", 'echo "dumps $1"; exit "$2"', "dump", "{{database}}", "{{code}}"]
    choices = {{"code": [0, 3]}}


class Hold(ShellTask):
    name = "hold"
    command = ["sh", "-c", {stubborn!r}, "hold", "{{file}}"]
    command_grace_seconds = 0.2
"""


@pytest.fixture
def project(redis_url, sqlite, processes):
    """A project of a user's; returns a client of its workers."""
    database = sqlite.render_as_string(hide_password=False)
    source = PROJECT.format(broker=redis_url, database=database, stubborn=STUBBORN)
    processes.app("proj", source)
    client = Celery(broker=redis_url, backend=redis_url, set_as_current=False)
    yield client
    processes.kill()
    client.close()


def test_a_row_with_kwargs_runs_the_command_and_its_run_tells_how_it_ended(
    project, processes, sqlite
):
    processes.worker()
    processes.beat().expect("routines: ready")
    engine = make_engine(sqlite)
    rows = {
        "good": {"database": "$(id); 'proj'", "code": 0},
        "bad": {"database": "proj", "code": 3},
        "wrong": {"database": "--help", "code": 0},
    }
    insert = sa.text(
        "INSERT INTO routines (name, task, schedule, kwargs, origin)"
        " VALUES (:name, 'dump', :schedule, :kwargs, 'db')"
    )
    schedule = json.dumps({"once": "2026-01-01T00:00:00Z"})
    with engine.begin() as connection:
        for name, kwargs in rows.items():
            values = {"name": name, "schedule": schedule, "kwargs": json.dumps(kwargs)}
            connection.execute(insert, values)

    def ended():
        with engine.connect() as connection:
            found = connection.execute(sa.select(tables.runs)).all()
        return {row.routine_name: row for row in found if row.finished_at is not None}

    wait_for(lambda: ended().keys() == rows.keys(), LONG, what="the end of three runs")
    good, bad, wrong = (ended()[name] for name in rows)
    assert ("succeeded", None) == (good.state, good.error)
    result = project.AsyncResult(str(good.id)).get(timeout=LONG)
    assert (0, "dumps $(id); 'proj'\n") == (result["exit_code"], result["output"])
    assert "failed" == bad.state
    assert "exit code 3" in bad.error
    assert bad.error.endswith("the output ends:\ndumps proj")
    assert "failed" == wrong.state
    assert "task 'dump': parameter 'database' = '--help'" in wrong.error


def test_however_a_worker_ends_a_task_no_process_of_its_command_is_left_behind(
    project, processes, sqlite, tmp_path
):
    runs = Runs(sqlite)
    worker = processes.worker()

    def begin(name, **options):
        """A run whose command holds on; returns its id, and those of its processes."""
        run_id = runs.store(routine_name="hold", task="hold")
        options |= {"task_id": str(run_id), "headers": header()}
        project.send_task("hold", kwargs={"file": str(tmp_path / name)}, **options)
        return run_id, pids(tmp_path / name)

    def ends(run_id, held):
        """How the run has ended, once its processes have; SIGKILL leaves them to their guard."""
        wait_for(lambda: runs.read(run_id).finished_at, LONG, what="the end of a run")
        wait_for(lambda: not any(map(is_running, held)), what="the end of its processes")
        return runs.read(run_id)

    assert "SoftTimeLimitExceeded" in ends(*begin("soft limit", soft_time_limit=1)).error
    assert "TimeLimitExceeded" in ends(*begin("hard limit", time_limit=1)).error
    for number in ("SIGTERM", "SIGKILL"):
        run_id, held = begin(number)
        project.control.revoke(str(run_id), terminate=True, signal=number)
        assert "revoked" == ends(run_id, held).reason
    _, held = begin("killed worker")
    worker.kill()
    wait_for(lambda: not any(map(is_running, held)), what="the end of its processes")
    runs.close()
