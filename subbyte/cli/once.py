"""A value that is given twice is an error: which of the two was meant, nobody can know."""

from __future__ import annotations

from typing import Any

from typer import BadParameter
from typer.core import TyperCommand, TyperOption


class Once(TyperCommand):
    """A command whose options take one value each, unless they are lists, and are given at most once."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        _, _, given = self.make_parser(ctx).parse_args(list(args))  # in the order of the command line
        for option in given:
            if not isinstance(option, TyperOption) or option.multiple or option.is_flag:
                continue
            if given.count(option) > 1:
                raise BadParameter("is given twice; it takes one value", ctx, option)
        return super().parse_args(ctx, args)
