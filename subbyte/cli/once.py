"""What every command line obeys: a value given twice is an error, and old names of options still work."""

from __future__ import annotations

from typing import Any

from typer import BadParameter
from typer.core import TyperCommand, TyperOption

#: Names of options that earlier versions had, and theirs of today; --help shows these only.
OLD = {"--pictures": "--images"}


class Once(TyperCommand):
    """A command whose options take one value each, unless they are lists, and are given at most once."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        names = {name for parameter in self.params for name in parameter.opts}
        args = [_today(word) if _today(word).partition("=")[0] in names else word for word in args]
        _, _, given = self.make_parser(ctx).parse_args(list(args))  # in the order of the command line
        for option in given:
            if not isinstance(option, TyperOption) or option.multiple or option.is_flag:
                continue
            if given.count(option) > 1:
                raise BadParameter("is given twice; it takes one value", ctx, option)
        return super().parse_args(ctx, args)


def _today(word: str) -> str:
    name, equals, value = word.partition("=")
    return OLD.get(name, name) + equals + value
