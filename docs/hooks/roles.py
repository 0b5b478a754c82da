"""Docstrings write :class:`Name` for what they refer to: a link in the reference, or plain code."""

import re

from griffe import AliasResolutionError, Extension, GriffeLoader, Module, NameResolutionError, Object

_ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):`([^`]+)`")


class Roles(Extension):
    """Turns the roles of all docstrings of a package into links."""

    def on_package(self, *, pkg: Module, loader: GriffeLoader, **kwargs: object) -> None:
        """See above; when the whole package is known, so that names can be found in it."""
        public = dict(_public_names(pkg))
        for each in _objects(pkg):
            if each.docstring is not None:
                each.docstring.value = _ROLE.sub(
                    lambda role, scope=each: _link(role[1], scope, public), each.docstring.value
                )


def _objects(parent: Object):
    """An object and all that is defined in it."""
    yield parent
    for member in parent.members.values():
        if not member.is_alias:
            yield from _objects(member)


def _public_names(package: Module):
    """What any module of a package exports, by its name, with the path at which it is defined."""
    for each in _objects(package):
        if each.is_module:
            for name in each.exports or ():
                try:
                    yield str(name), each[str(name)].canonical_path
                except (AliasResolutionError, KeyError):
                    continue


def _link(name: str, scope: Object, public: dict[str, str]) -> str:
    """A link to what a docstring in a scope names; plain code where the reference does not have it."""
    try:
        path = _find(name, scope, public).canonical_path
    except (AliasResolutionError, KeyError, NameResolutionError):
        return f"`{name}`"
    return f'<autoref optional identifier="{path}"><code>{name}</code></autoref>'


def _find(name: str, scope: Object, public: dict[str, str]) -> Object:
    """What a name stands for: a member of the class, a name of the module, or a public one."""
    if name.startswith("infobatch."):
        return scope.modules_collection[name]
    first, *rest = name.removeprefix("~").split(".")
    around = scope if scope.is_class else scope.parent
    if around is not None and around.is_class and first in around.all_members:
        found = around.all_members[first]
    else:
        try:
            path = scope.resolve(first)
        except NameResolutionError:
            path = public[first]
        found = scope.modules_collection[path]
    for part in rest:
        found = found.all_members[part]
    return found
