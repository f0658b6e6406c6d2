"""From tables of a TOML file to records, with every mistake named by where it stands. No file is read here."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypeVar, get_args, get_origin

import attrs
from cattrs import (
    ClassValidationError,
    Converter,
    ForbiddenExtraKeysError,
    IterableValidationError,
)
from cattrs.cols import homogenous_tuple_structure_factory, list_structure_factory
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, mapping_structure_factory, override

from echosvc.settings.model import Strings

__all__ = ["Key", "Mistake", "Mistakes", "structure", "unstructure"]

T = TypeVar("T")

Key: TypeAlias = tuple[str | int, ...]
"""The way to a value: names of keys, and positions in lists."""


@attrs.frozen
class Mistake:
    """Something in a table that cannot be used.

    Attributes:
        key: Where.
        problem: What is wrong, and what would be right.
    """

    key: Key
    problem: str


class Mistakes(Exception):  # errors are named for what happened
    """What was found.

    Args:
        found: The mistakes, at least one.
    """

    def __init__(self, found: list[Mistake]) -> None:
        super().__init__(f"{len(found)} mistakes")
        self.found = found


def structure(table: Mapping[str, Any], kind: type[T], key: Key = ()) -> T:
    """Make a record from a table. Keys are the names of its attributes, with hyphens for underscores.

    Args:
        table: As TOML has it.
        kind: An attrs class with plain types.
        key: Where the table stands.

    Raises:
        Mistakes: All that is wrong with it: unknown and missing keys, wrong types, refused values.
    """
    try:
        return _converter.structure(table, kind)
    except NameError as problem:  # in an annotation, which is for the protocol's author to correct
        raise Mistakes([Mistake(key, f"{kind.__name__} cannot be made from a table: {problem}")]) from None
    except (ClassValidationError, TypeError) as problem:
        raise Mistakes(list(_mistakes(problem, key, kind))) from None


def unstructure(record: Any) -> Any:
    """Make the table from which `structure` would make a record. TOML has no None: such a key is left out."""
    return _without_none(_converter.unstructure(record))


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_none(inside) for key, inside in value.items() if inside is not None}
    if isinstance(value, list | tuple):
        return [_without_none(each) for each in value]
    return value


def _key(attribute: Any) -> str:
    """Name the key of an attribute: as its constructor does (``_private`` is ``private``), with hyphens."""
    name: str = attribute.alias
    return name.replace("_", "-")


def _mistakes(problem: BaseException, key: Key, kind: Any) -> Iterator[Mistake]:
    """Walk the tree of errors that cattrs raises down to its leaves."""
    match problem:
        case ClassValidationError():
            noted, others = problem.group_exceptions()
            keys = {each.name: _key(each) for each in attrs.fields(problem.cl)}
            for cause, note in noted:
                yield from _mistakes(cause, (*key, keys[note.name]), note.type)
            for cause in others:
                yield from _mistakes(cause, key, problem.cl)
        case IterableValidationError():
            indexed, others = problem.group_exceptions()
            for cause, place in indexed:
                yield from _mistakes(cause, (*key, place.index), place.type)
            for cause in others:
                yield from _mistakes(cause, key, kind)
        case ForbiddenExtraKeysError():
            for unknown in sorted(problem.extra_fields):
                known = [_key(each) for each in attrs.fields(problem.cl) if each.init]
                near = difflib.get_close_matches(unknown, known, 1)
                hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known) or 'none here'}"
                yield Mistake((*key, unknown), f"unknown key {unknown}; {hint}")
        case KeyError(args=(name,)) if key[-1:] == (name,):
            yield Mistake(key[:-1], f"{name} is missing")
        case _:
            yield _refused(_text(problem), key, kind)


def _text(problem: BaseException) -> str:
    match problem:
        case (
            ValueError(args=(str(text), attrs.Attribute(), *_))
            | TypeError(args=(str(text), attrs.Attribute(), *_))
        ):
            return text  # attrs' own validators; all that they were given follows it
        case ValueError() | TypeError():
            return str(problem)
    return f"{type(problem).__name__}: {problem}"


def _refused(text: str, key: Key, kind: Any) -> Mistake:
    """Name the key that is complained of. A class's own check may say which that is, by the attribute's name."""
    text = " ".join(text.split())
    if key and text.startswith("must be"):
        return Mistake(key, f"{_name(key)} {text}")
    if not attrs.has(kind):
        name = _name(key)
        if found := _mention(name, text):
            return Mistake(key, text[: found.start()] + name + text[found.end() :])
        return Mistake(key, f"{name}: {text}")
    names = {_key(each): found for each in attrs.fields(kind) if (found := _mention(each.name, text))}
    if not names:
        return Mistake(key, text)
    name, found = min(names.items(), key=lambda item: item[1].start())
    return Mistake((*key, name), text[: found.start()] + name + text[found.end() :])


def _name(key: Key) -> str:
    *before, last = key
    return f"{_name(tuple(before))}[{last}]" if isinstance(last, int) else last


def _mention(name: str, text: str) -> re.Match[str] | None:
    """Find where a text speaks of something, in Python's spelling or in the file's."""
    either = re.sub("[-_]", "[-_]", re.escape(name).replace(r"\-", "-"))
    return re.search(rf"(?<![\w-]){either}(?![\w-])", text)


_NAMES = {str: "a string", bool: "true or false", int: "a whole number", float: "a number"}


def _strictly(value: Any, kind: Any) -> Any:
    """Take a value only if it is of the type: `int("8080")` and `bool("no")` are what a user did not write."""
    if isinstance(value, bool) != (kind is bool) or not isinstance(
        value, (int, float) if kind is float else kind
    ):
        raise TypeError(f"must be {_NAMES[kind]}, not {value!r:.40}")
    return kind(value)


def _strings(value: Any, _: Any) -> Any:
    values = (value,) if isinstance(value, str) else value
    if not isinstance(values, list | tuple) or not all(isinstance(each, str) for each in values):
        raise TypeError(f"must be a string or a list of strings, not {value!r:.40}")
    return tuple(values)


def _is_list(kind: Any) -> bool:
    origin: Any = get_origin(kind) or kind
    return origin in (list, Sequence) or (origin is tuple and get_args(kind)[-1:] in ((), (...,)))


def _is_mapping(kind: Any) -> bool:
    origin: Any = get_origin(kind) or kind
    return origin in (dict, Mapping)


def _list(kind: Any) -> Any:
    """Take lists only: a string has items, too, and so has a table."""
    is_list = (get_origin(kind) or kind) is list
    make: Any = (list_structure_factory if is_list else homogenous_tuple_structure_factory)(kind, _converter)

    def take(value: Any, _: Any) -> Any:
        if not isinstance(value, list):
            raise TypeError(f"must be a list, not {value!r:.40}")
        return make(value, kind)

    return take


def _is_literal(kind: Any) -> bool:
    origin: Any = get_origin(kind)
    return origin is Literal


def _literal(value: Any, kind: Any) -> Any:
    choices = get_args(kind)
    if (type(value), value) not in [(type(each), each) for each in choices]:
        raise TypeError(f"must be {' or '.join(map(repr, choices))}, not {value!r:.40}")
    return value


def _mapping(kind: Any) -> Any:
    make: Any = mapping_structure_factory(kind, _converter, dict)
    return lambda value, _: make(_table(value), kind)


def _record(kind: Any) -> Any:
    fields = attrs.fields(attrs.resolve_types(kind))
    attributes: Any = {each.name: override(rename=_key(each), struct_hook=_checked(each)) for each in fields}
    make: Any = make_dict_structure_fn(kind, _converter, _cattrs_forbid_extra_keys=True, **attributes)
    return lambda value, _: make(_table(value), kind)


def _unrecord(kind: Any) -> Any:
    renamed: Any = {each.name: override(rename=_key(each)) for each in attrs.fields(kind)}
    return make_dict_unstructure_fn(kind, _converter, **renamed)


def _table(value: Any) -> Any:
    if not isinstance(value, dict):
        raise TypeError(f"must be a table, not {value!r:.40}")
    return value


def _checked(attribute: Any) -> Callable[[Any, Any], Any]:
    """Let an attribute's own check speak as soon as its value is known: the class's constructor stops at the first."""
    check = None if attribute.converter else attribute.validator  # which is for what the converter makes
    named = attribute.evolve(name=_key(attribute))

    def take(value: Any, _: Any) -> Any:
        value = _converter.structure(value, attribute.type)
        if check is not None:
            with contextlib.suppress(AttributeError):  # it looks at other attributes: it has to wait for them
                check(None, named, value)
        return value

    return take


_converter = Converter()
for _kind in _NAMES:
    _converter.register_structure_hook(_kind, _strictly)
_converter.register_structure_hook(Strings, _strings)
_converter.register_structure_hook_func(_is_literal, _literal)
_converter.register_structure_hook_factory(_is_list, _list)
_converter.register_structure_hook_factory(_is_mapping, _mapping)
_converter.register_structure_hook_factory(attrs.has, _record)
_converter.register_unstructure_hook_factory(attrs.has, _unrecord)
