"""YAML text into a job specification; every complaint has its line and column."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from posixpath import normpath
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, ValidationError

from periflow_sdk.api.jobfile import DataSection, JobSpec
from periflow_sdk.errors import JobFileError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails
    from ruamel.yaml.nodes import MappingNode, Node

_Path = tuple[str | int, ...]

_TEXT_TABLES: tuple[_Path, ...] = (("env",), ("job_setting", "docker", "env_var"))
# What people type for a key: the keys it may stand for, the likeliest first.
_SLIPS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("environment", "enviroment", "environ", "envs"), ("env", "env_var")),
    **dict.fromkeys(("cmd", "commands"), ("command",)),
    **dict.fromkeys(("gpu", "gpus", "num_gpus"), ("num_devices",)),
    **dict.fromkeys(("dataset", "datasets"), ("data",)),
    **dict.fromkeys(("machine", "instance"), ("vm",)),
    **dict.fromkeys(("workdir", "work_dir"), ("workspace",)),
    **dict.fromkeys(("save_top_k", "top_k"), ("count", "keep_best")),
    **dict.fromkeys(("save_total_limit", "max_to_keep"), ("keep_last",)),
    **dict.fromkeys(("keep_period", "every_n_steps"), ("keep_every",)),
    "monitor": ("metric",),
}
_WANTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a section of keys and values",
    "model_type": "a section of keys and values",
    "model_attributes_type": "a section of keys and values",
}


def read_spec(text: str, name: str, overrides: Mapping[str, Any]) -> JobSpec:
    """Parse and check a job file.

    Args:
        text: The YAML.
        name: What complaints call the file.
        overrides: Top-level keys that take the place of the file's.

    Raises:
        JobFileError: with ``line`` and ``column`` in its data.
    """
    document = _Document(text, name)
    values = {**document.values, **overrides}
    document.refuse_what_is_planned()
    document.refuse_missing_mount_paths()
    if isinstance(values.get("data"), dict):
        values["data"] = [values["data"]]
    try:
        spec = JobSpec.model_validate(values, strict=True)
    except ValidationError as error:
        raise document.first_complaint(error) from None
    document.refuse_taken_name(spec)
    document.refuse_shared_mount_paths(spec)
    return spec


def name_complaint(name: str) -> str | None:
    """Why a job may not have this name, as the end of a sentence; None if it may."""
    if name == "latest":
        return "may not be 'latest': that always means the newest job"
    if name.isdecimal():
        return f"may not be only digits, as {name!r} is: digits are the number of a job"
    return None


class _Document:
    """The YAML as values and as a tree of nodes with their places."""

    def __init__(self, text: str, name: str) -> None:
        from ruamel.yaml import YAML
        from ruamel.yaml.error import MarkedYAMLError, YAMLError

        self._name = name
        yaml = YAML(typ="safe", pure=True)
        try:
            root = yaml.compose(text)
            _check_duplicates(root, set())
            values = yaml.load(text)
        except _DuplicateKeyError as error:
            raise self._error_at(error.node, error.args[0]) from None
        except (RecursionError, UnicodeEncodeError) as error:
            raise self._error(1, 1, f"this cannot be read: {error}") from None
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
            problem = error.problem or error.context or "it is broken"
            raise self._error(line, column, f"this is not YAML: {problem}") from None
        except YAMLError as error:
            raise self._error(1, 1, f"this is not YAML: {error}") from None
        if not isinstance(values, dict):
            what = "it is empty" if values is None else "it is not a section of keys and values"
            raise self._error(
                1, 1, f"this is not a job file: {what}", "pf job template create --script train.py"
            )
        self._root = root
        for table in _TEXT_TABLES:
            self._make_text(_dig(values, table), table)
        try:
            self.values = _without_empty_sections(values)
        except RecursionError:
            raise self._error(1, 1, "a section contains itself") from None

    def refuse_what_is_planned(self) -> None:
        """Raise for what will mean something in a later release."""
        if _dig(self.values, ("job_setting", "type")) == "predefined":
            raise self._error_at(
                self._value(("job_setting", "type")),
                "job_setting.type: predefined jobs are not available; "
                "use custom, with an image and a command",
            )

    def refuse_missing_mount_paths(self) -> None:
        """Raise for a dataset that is to be copied, and to nowhere."""
        data = self.values.get("data")
        numbered = range(len(data)) if isinstance(data, list) else ()
        for path in (("data",), *(("data", number) for number in numbered)):
            section = _dig(self.values, path)
            if not isinstance(section, dict) or "name" not in section:
                continue
            if not section.keys() <= DataSection.model_fields.keys():
                continue  # the unknown key may be meant for it
            if section.get("mount_path") is None and section.get("mode", "copy") == "copy":
                raise self._error_at(
                    self._value((*path, "name")),
                    "data.mount_path is missing; only with mode: stream there is none",
                )

    def refuse_taken_name(self, spec: JobSpec) -> None:
        """Raise for a name that already means another job."""
        if spec.name is not None and (complaint := name_complaint(spec.name)):
            raise self._error_at(self._value(("name",)), f"name {complaint}")

    def refuse_shared_mount_paths(self, spec: JobSpec) -> None:
        """Raise for a dataset that is to be mounted where another or the checkpoint is."""
        start = spec.checkpoint.input
        taken = {normpath(start.mount_path)} if start is not None else set()
        many = isinstance(self.values.get("data"), list)
        for number, section in enumerate(spec.data):
            if section.mount_path is None:
                continue
            path = normpath(section.mount_path)
            if path in taken:
                key = ("data", number, "mount_path") if many else ("data", "mount_path")
                what = f"two things are to be mounted at {path}: give each a path of its own"
                raise self._error_at(self._value(key), what)
            taken.add(path)

    def first_complaint(self, error: ValidationError) -> JobFileError:
        """The complaint that stands first in the file; unknown keys before what they hide."""
        details = list(self._relevant(error))
        unknown = [each for each in details if each["type"] == "extra_forbidden"]
        found = [self._complaint(each) for each in unknown or details]
        return min(found, key=lambda each: (each.data["line"], each.data["column"]))

    def _relevant(self, error: ValidationError) -> Iterator[ErrorDetails]:
        """Of the two forms of ``command`` only the one that was meant."""
        command = _dig(self.values, ("job_setting", "docker", "command"))
        for each in error.errors():
            if "DockerCommand" in each["loc"] and not isinstance(command, dict):
                continue
            if each["loc"][-2:] == ("command", "str") and isinstance(command, dict):
                continue
            yield each

    def _complaint(self, error: ErrorDetails) -> JobFileError:
        path = self._path(error["loc"])
        where = _dotted(path)
        if error["type"] == "extra_forbidden":
            return self._unknown_key(path)
        if error["type"] == "missing":
            section = _dotted(path[:-1])
            inside = f" in {section}" if section else ""
            code = "vm_missing" if path in (("vm",), ("num_devices",)) else None
            node = self._key(path[:-1]) or self._value(path[:-1])
            complaint = self._error_at(node, f"{path[-1]!r} is missing{inside}")
            complaint.code = code or complaint.code
            complaint.data["key"] = where
            return complaint
        node = self._value(path)
        if path == ("data",):
            wanted = "a section or a list of sections"
        elif path[-1:] == ("command",):
            wanted = "text, or a section with setup and run"
        else:
            wanted = _WANTED.get(error["type"], "")
        if wanted:
            return self._error_at(node, f"{where} must be {wanted}, not {_shown(error['input'])}")
        if error["type"] == "value_error":
            return self._error_at(node, f"{where} {error['ctx']['error']}")
        if error["type"] == "string_pattern_mismatch":
            message = f"must be an absolute path, not {_shown(error['input'])}"
        else:
            message = error["msg"][0].lower() + error["msg"][1:]
            message = f"{message}, not {_shown(error['input'])}".removeprefix("input ")
        return self._error_at(node, f"{where} {message}")

    def _unknown_key(self, path: _Path) -> JobFileError:
        key = str(path[-1])
        section = _dotted(path[:-1])
        inside = f" in {section}" if section else ""
        known = _keys(path[:-1])
        meant = [each for each in _SLIPS.get(key, ()) if each in known]
        if near := meant or get_close_matches(key, known, n=1, cutoff=0.6):
            advice = f"; did you mean {near[0]!r}?"
        elif homes := [home for home, keys in _sections() if key in keys]:
            advice = f"; it belongs {_inside(homes[0])}"
        elif key in _SLIPS:
            right = _SLIPS[key][0]
            homes = [home for home, keys in _sections() if right in keys]
            advice = f"; did you mean {right!r}, which belongs {_inside(homes[0])}?"
        else:
            advice = f"; known are {', '.join(known)}"
        node = self._key(path) or self._value(path[:-1])
        return self._error_at(node, f"unknown key {key!r}{inside}{advice}")

    def _path(self, location: tuple[int | str, ...]) -> _Path:
        """Pydantic's location as a path of the file: without union tags, one section as itself."""
        path = tuple(part for part in location if part != "DockerCommand")
        if path[-2:] == ("command", "str"):
            path = path[:-1]
        if path[:2] == ("data", 0) and isinstance(self.values.get("data"), dict):
            path = ("data", *path[2:])
        return path

    def _make_text(self, values: Any, table: _Path) -> None:
        """Numbers and booleans of an environment as they are written."""
        if not isinstance(values, dict):
            return
        for key, value in list(values.items()):
            if value is None:
                values[key] = ""
            elif not isinstance(value, (str, dict, list)):
                node = self._value((*table, key))
                values[key] = str(node.value)

    def _key(self, path: _Path) -> Node | None:
        """The node of a key itself."""
        if not path:
            return None
        section: Any = self._value(path[:-1])
        pairs = section.value if _is_mapping(section) else []
        return next((key for key, _ in pairs if key.value == path[-1]), None)

    def _value(self, path: _Path) -> Node:
        """The node at a path, or the innermost one that is there."""
        node: Any = self._root
        for part in path:
            if _is_mapping(node):
                below = next((value for key, value in node.value if key.value == str(part)), None)
            elif isinstance(node.value, list) and isinstance(part, int):
                below = node.value[part] if part < len(node.value) else None
            else:
                below = None
            if below is None:
                break
            node = below
        found: Node = node
        return found

    def _error_at(self, node: Node, message: str) -> JobFileError:
        mark = node.start_mark
        return self._error(mark.line + 1, mark.column + 1, message)

    def _error(self, line: int, column: int, message: str, hint: str | None = None) -> JobFileError:
        return JobFileError(
            f"{self._name}:{line}:{column}: {message}",
            hint=hint,
            data={"file": self._name, "line": line, "column": column},
        )


class _DuplicateKeyError(Exception):
    def __init__(self, message: str, node: Node) -> None:
        super().__init__(message)
        self.node = node


def _check_duplicates(node: Any, visited: set[int]) -> None:
    # An anchor may stand in several places, and even inside itself.
    if node is None or not isinstance(node.value, list) or id(node) in visited:
        return
    visited.add(id(node))
    seen: dict[str, int] = {}
    for child in node.value:
        if not isinstance(child, tuple):
            _check_duplicates(child, visited)
            continue
        key, value = child
        if isinstance(key.value, str) and key.value in seen and key.value != "<<":
            line = seen[key.value]
            raise _DuplicateKeyError(f"key {key.value!r} stands already in line {line}", key)
        if isinstance(key.value, str):
            seen[key.value] = key.start_mark.line + 1
        _check_duplicates(value, visited)


def _without_empty_sections(values: dict[str, Any], path: _Path = ()) -> dict[str, Any]:
    """A known key with nothing behind it says nothing, as in the original."""
    kept = {}
    for key, value in values.items():
        if isinstance(value, dict):
            value = _without_empty_sections(value, (*path, key))
        if value is not None or key not in _keys(path):
            kept[key] = value
    return kept


def _is_mapping(node: MappingNode | Any) -> bool:
    return isinstance(node.value, list) and all(isinstance(each, tuple) for each in node.value)


def _dig(values: Any, path: _Path) -> Any:
    for part in path:
        if isinstance(values, dict):
            values = values.get(part)
        elif isinstance(values, list) and isinstance(part, int) and part < len(values):
            values = values[part]
        else:
            return None
    return values


def _dotted(path: _Path) -> str:
    return ".".join(str(part) for part in path)


def _inside(section: str) -> str:
    return f"in {section}" if section else "at the top level"


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "a section"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value)


def _keys(path: _Path) -> list[str]:
    """The keys that the section at a path may have."""
    model: Any = JobSpec
    for part in path:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part) if model else None
        model = _model_in(field.annotation) if field else None
    return list(model.model_fields) if model else []


def _sections(model: type[BaseModel] = JobSpec, path: str = "") -> Iterator[tuple[str, list[str]]]:
    """Every section of the file with its keys, the outer ones first."""
    yield path, list(model.model_fields)
    for name, field in model.model_fields.items():
        if inner := _model_in(field.annotation):
            yield from _sections(inner, f"{path}.{name}".lstrip("."))


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The section behind an annotation such as ``DataSection | None`` or ``list[DataSection]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for each in get_args(annotation) if (found := _model_in(each))), None)
