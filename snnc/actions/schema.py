"""JSON Schemas of what users write, made from the dataclasses that read it: for editors, which complete and check."""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ConfigDict, TypeAdapter, with_config
from pydantic.json_schema import GenerateJsonSchema

from snnc.data.preprocessing import PROTOCOLS
from snnc.errors import UsageError
from snnc.formats.format import formats
from snnc.hardware.target import target_names
from snnc.measure.figures import limits
from snnc.measure.gates import limits_form
from snnc.passes import passes
from snnc.project import Project
from snnc.recipe import Recipe, shipped
from snnc.registry import suggest
from snnc.report.data import schema as of_reports
from snnc.tasks import tasks

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_TEXT = {"type": "string"}


def schema_of(document: str) -> dict[str, Any]:
    """Return the schema of a kind of document; raises UsageError where there is none of it."""
    if document not in SCHEMAS:
        raise UsageError(f"no schema of {document!r}", place="snnc schema", hint=suggest(document, list(SCHEMAS)))
    return SCHEMAS[document]()


def _config() -> dict[str, Any]:
    found = _described(Project)
    gates = _described(limits_form())
    for name, known in limits().items():
        gates["properties"][name]["description"] = known[0].help
    preprocessing = found["$defs"]["Preprocessing"]["properties"]
    about = "What is not said besides is as this paper has it."
    preprocessing["protocol"] = {"enum": list(PROTOCOLS), "description": about}
    found["properties"] |= {
        "recipe": _any_of({"enum": shipped()}, {**_TEXT, "pattern": r"\.ya?ml$"}),
        "target": {"enum": target_names()},
        "gates": gates,
        "set": _any_of({"type": "array", "items": {**_TEXT, "pattern": "="}}, {"type": "object"}),
        "task": _any_of(_TEXT, {**_by_name(tasks, found), "minProperties": 1, "maxProperties": 1}),
        "export": _by_name(formats, found),
    }
    return _document(found, "snnc.yaml", "What would be typed again at every command of a project.")


def _recipe() -> dict[str, Any]:
    found = _described(Recipe)
    one = {**_by_name(passes, found), "minProperties": 1, "maxProperties": 1}
    listed = _any_of({"enum": list(passes)}, one)
    found["properties"]["passes"] = {"type": "array", "minItems": 1, "items": listed}
    return _document({**found, "required": ["passes"]}, "A recipe of snnc", Recipe.__doc__ or "")


SCHEMAS: Mapping[str, Callable[[], dict[str, Any]]] = {
    "config": _config,
    "recipe": _recipe,
    "report": of_reports,
}


def _by_name(registry: Mapping[str, type[Any]], into: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a mapping from names to options; what these have in common goes to the definitions."""
    members = {}
    for name, kind in registry.items():
        own = _described(kind)
        into.setdefault("$defs", {}).update(own.pop("$defs", {}))
        members[name] = _any_of(own, {"type": "null"})
    return {"type": "object", "properties": members, "additionalProperties": False}


def _any_of(*schemas: Mapping[str, Any]) -> dict[str, Any]:
    return {"anyOf": list(schemas)}


def _document(found: dict[str, Any], title: str, about: str) -> dict[str, Any]:
    return {"$schema": _DIALECT, **found, "title": title, "description": " ".join(about.split())}


def _described(kind: type[Any]) -> dict[str, Any]:
    """Return the JSON Schema of a dataclass as users write it: hyphens in names, and nothing besides.

    What is only read by code of its own may be anything there.
    """
    config = ConfigDict(use_attribute_docstrings=True, arbitrary_types_allowed=True)
    return TypeAdapter(with_config(config)(kind)).json_schema(schema_generator=_Written)


class _Written(GenerateJsonSchema):
    """Schemas of dataclasses as users write them."""

    def dataclass_schema(self, schema: Any) -> dict[str, Any]:
        found = super().dataclass_schema(schema)
        properties = {name.replace("_", "-"): each for name, each in found["properties"].items()}
        return {**found, "properties": properties, "additionalProperties": False}

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> dict[str, Any]:
        return {}
