"""Shape and types of a config, from the JSON schema; the words of what is wrong; defaults."""

import copy
import math
import re

import jsonschema

from attriflow.config.reading import ConfigError
from attriflow.hyperparameters import LARGEST, TEXT_FOR_A_NUMBER, shown
from attriflow.words import close_to, did_you_mean


def check_shape(config: dict, schema: dict):
    """Raise ConfigError with all that is not as the schema says."""
    found = sorted(_Validator(schema).iter_errors(config), key=lambda error: list(map(str, error.absolute_path)))
    typed = {tuple(error.absolute_path) for error in found if error.validator == "type" and not _of_a_name(error)}
    lines = []
    for error in found:
        # what is of another type fits no other word of the schema either
        if error.validator == "type" or _of_a_name(error) or tuple(error.absolute_path) not in typed:
            lines += [line for line in _lines(error, schema) if line not in lines]
    if lines:
        raise ConfigError(lines)


def _whole(_, value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < LARGEST


def _number(_, value) -> bool:
    return _whole(_, value) or (isinstance(value, float) and math.isfinite(value))


def _pattern(_, pattern: str, value, __):
    if isinstance(value, str) and not re.fullmatch(pattern, value):  # `$` alone lets a line break by
        yield jsonschema.ValidationError("")


# 2.0 is no count here, infinity is no number, and "trak\n" is no name
_Validator = jsonschema.validators.extend(
    jsonschema.Draft202012Validator,
    {"pattern": _pattern},
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine_many({"integer": _whole, "number": _number}),
)


def _of_a_name(error: jsonschema.ValidationError) -> bool:
    """Whether an error is about a key and not about a value."""
    return "propertyNames" in error.absolute_schema_path


def _lines(error: jsonschema.ValidationError, schema: dict):
    """An error of the schema in words: a line for each key that is unknown or missing, and one for a wrong value."""
    where, value = list(error.absolute_path), error.instance
    if _of_a_name(error):
        yield f"{path(*where, value)}: a name must be {_NAME}"
    elif error.validator in ("additionalProperties", "required"):
        known = error.schema["properties"]
        unknown = [key for key in value if key not in known]
        if error.validator == "additionalProperties":
            yield from (
                f"{path(*where, key)}: unknown; known: {sorted(known)}{did_you_mean(key, known)}" for key in unknown
            )
            return
        meant = {name: key for key in unknown for name in close_to(key, known)}
        for key in error.validator_value:
            if key not in value and (key not in meant or error.schema.get("additionalProperties") is not False):
                asked = f" Did you mean it by '{meant[key]}'?" if key in meant else ""
                yield f"{path(*where, key)}: missing; {resolve(known[key], schema)['description']}{asked}"
    else:
        yield f"{path(*where)}: {_demand(error)}, not {shown(value)}{_hint(value, error)}"


_NAME = "at most 100 lower-case letters, digits and underscores, the first a letter"


_TYPES = {
    "number": "a number",
    "integer": "a whole number",
    "string": "text",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "null",
}


def _demand(error: jsonschema.ValidationError) -> str:
    """What a value must be."""
    wanted = error.validator_value
    match error.validator:
        case "type":
            return f"must be {' or '.join(_TYPES[each] for each in _types(wanted))}"
        case "minimum":
            return f"must be at least {wanted}"
        case "exclusiveMinimum":
            return f"must be above {wanted}"
        case "exclusiveMaximum":
            return f"must be below {wanted}"
        case "enum":
            return f"must be one of {wanted}"
        case "pattern" | "maxLength":
            return f"must be {_NAME}"
        case "minItems" | "minProperties" | "minLength":
            return f"must not be empty ({error.schema['description']})"
        case "uniqueItems":
            return "must have every value once"
    raise NotImplementedError(f"the schema's word '{error.validator}' has no sentence here")


def _types(wanted: str | list[str]) -> list[str]:
    return [wanted] if isinstance(wanted, str) else wanted


def _hint(value, error: jsonschema.ValidationError) -> str:
    if error.validator == "enum":
        return did_you_mean(value, error.validator_value)
    if error.validator != "type" or not {"number", "integer"}.intersection(_types(error.validator_value)):
        return ""
    if isinstance(value, str):
        return TEXT_FOR_A_NUMBER
    return " (it is 2^63 or more)" if _is_large(value) else ""


def _is_large(value) -> bool:
    return isinstance(value, int) and abs(value) >= LARGEST


def path(*keys) -> str:
    """A key's place as one reads it: methods.trak.damping[2], methods['a name that is none']."""
    text = "".join(step(key) for key in keys)
    return text.removeprefix(".") if text.startswith(".") else f"config{text}"


def of_key(where: str, entry: dict, error: str) -> str:
    """What a kind says of its hyperparameters, `key: ...`, with the path of the key."""
    return f"{where}{'.' if error.partition(':')[0] in entry else ': '}{error}"


def said(error: Exception) -> str:
    """What an error says, on one line; with its type where nobody wrote it to be read."""
    text = " ".join(str(error).split())
    return text if isinstance(error, ValueError) else f"{type(error).__name__}: {text}"


def step(key) -> str:
    """A key as a part of a path."""
    if isinstance(key, str) and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key) and len(key) <= 100:
        return f".{key}"
    return f"[{shown(key)}]"


def filled(value, schema: dict, root: dict):
    """A value with the defaults of its schema, a part of `root`, for what it leaves out."""
    schema = resolve(schema, root)
    if isinstance(value, dict):
        for key, inner in schema.get("properties", {}).items():
            resolved = resolve(inner, root)
            if key not in value and "default" in resolved:
                value[key] = copy.deepcopy(resolved["default"])
            if key in value:
                value[key] = filled(value[key], inner, root)
        each = schema.get("additionalProperties")
        if isinstance(each, dict):
            for key in value.keys() - schema.get("properties", {}).keys():
                value[key] = filled(value[key], each, root)
    return value


def resolve(schema: dict, root: dict) -> dict:
    """A schema, or what it refers to in the whole one."""
    if "$ref" not in schema:
        return schema
    target = root
    for key in schema["$ref"].removeprefix("#/").split("/"):
        target = target[key]
    return target | {key: value for key, value in schema.items() if key != "$ref"}
