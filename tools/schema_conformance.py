#!/usr/bin/env python3
"""Whatever a model wants to say, what a JSON schema allows it to say is valid: schemas of our own x random logits x seeds, checked by PyPI `jsonschema`.

    python3 -m pip install jsonschema
    make && python3 tools/schema_conformance.py [--quick] [model.gguf]

Every schema is one of a few hand-written ones or drawn from a grammar of schemas with a fixed seed. Logits are random, so that anything that the
constraint lets through is said sooner or later; the last answers come from the model itself. An answer that is cut off at 2,000 tokens counts as failed.
"""

import argparse
import array
import json
import os
import random
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bindings/python"))
import inference  # noqa: E402

MAX_TOKENS = 2000
N_DRAWN = 320

BY_HAND = [
    {"type": "null"}, {"type": "boolean"}, {"const": {"a": [1, None, "x"]}}, {"enum": [1, "1", None, [1], {"a": 1}]},
    {"type": "integer", "minimum": -3, "maximum": 12}, {"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 3},
    {"type": "integer", "multipleOf": 7, "minimum": 0, "maximum": 1000}, {"type": "number", "minimum": 0.5, "maximum": 0.75},
    {"type": "number", "exclusiveMinimum": -1, "exclusiveMaximum": 1}, {"type": "number", "multipleOf": 0.25, "minimum": 0, "maximum": 10},
    {"type": "string", "minLength": 2, "maxLength": 5}, {"type": "string", "pattern": "^[A-Z]{3}-[0-9]{4}$"}, {"type": "string", "pattern": "^(a|bc)*$", "maxLength": 9},
    {"type": "string", "format": "date"}, {"type": "string", "format": "time"}, {"type": "string", "format": "date-time"}, {"type": "string", "format": "uuid"},
    {"type": "string", "format": "ipv4"}, {"type": "string", "format": "ipv6"}, {"type": ["string", "null"], "maxLength": 4}, {"type": ["integer", "boolean"]},
    {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 4}, {"type": "array", "prefixItems": [{"const": 1}, {"type": "null"}], "items": False, "minItems": 2},
    {"type": "array", "prefixItems": [{"type": "boolean"}], "items": {"enum": ["x", "y"]}, "minItems": 1, "maxItems": 3},
    {"type": "object", "properties": {"a": {"type": "boolean"}, "b": {"type": "null"}}, "required": ["b"], "additionalProperties": False},
    {"type": "object", "properties": {"é": {"const": "日本"}, "quote\"d": {"const": "back\\slash"}}, "required": ["é", "quote\"d"], "additionalProperties": False},
    {"type": "object", "additionalProperties": {"type": "boolean"}, "properties": {"known": {"type": "null"}}, "required": ["known"], "maxProperties": 1},
    {"type": "object", "patternProperties": {"^x[0-9]$": {"type": "boolean"}}, "additionalProperties": False, "properties": {"y": {"const": 1}}, "required": ["y"]},
    {"anyOf": [{"type": "boolean"}, {"type": "string", "maxLength": 3}, {"type": "array", "items": {"type": "null"}, "maxItems": 2}]},
    {"oneOf": [{"type": "boolean"}, {"type": "integer", "minimum": 0, "maximum": 9}]},
    {"oneOf": [{"type": "object", "properties": {"k": {"const": "a"}}, "required": ["k"], "additionalProperties": False},
               {"type": "object", "properties": {"k": {"const": "b"}, "n": {"type": "boolean"}}, "required": ["k", "n"], "additionalProperties": False}]},
    {"allOf": [{"type": "object", "properties": {"a": {"type": "boolean"}, "b": {}}, "required": ["a"], "additionalProperties": False}, {"properties": {"b": {"type": "null"}}, "required": ["b"]}]},
    {"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 5}]},
    {"$defs": {"leaf": {"enum": ["l", "r"]}}, "type": "array", "items": {"$ref": "#/$defs/leaf"}, "maxItems": 3},
    {"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "object", "properties": {"v": {"type": "boolean"}, "kids": {"type": "array", "maxItems": 1, "items": {"$ref": "#/$defs/tree"}}},
                                                "required": ["v"], "additionalProperties": False}}},
    {"type": "object", "properties": {"deep": {"type": "object", "properties": {"deeper": {"type": "object", "properties": {"deepest": {"enum": [True]}}, "required": ["deepest"],
     "additionalProperties": False}}, "required": ["deeper"], "additionalProperties": False}}, "required": ["deep"], "additionalProperties": False},
]  # fmt: skip


def drawn(rng: random.Random, depth: int = 0) -> dict:
    """One schema: the deeper, the simpler."""
    simple = ["string", "integer", "number", "boolean", "null", "enum", "const", "pattern", "types"]
    kind = rng.choice(simple + (["array", "tuple", "object", "object", "object", "anyOf", "allOf", "ref"] * 2 if depth < 3 else []))
    below = lambda: drawn(rng, depth + 1)  # noqa: E731
    scalar = lambda: rng.choice([None, True, False, 0, -7, 1.5, "", "a b", 'q"uote', "é", "\n"])  # noqa: E731
    match kind:
        case "string":
            return {"type": "string", "minLength": rng.randint(0, 3), "maxLength": rng.randint(3, 9)}
        case "integer":
            low = rng.randint(-1000, 1000)
            bounds = rng.choice([{"minimum": low, "maximum": low + rng.randint(0, 5000)}, {"exclusiveMinimum": low, "maximum": low + rng.randint(1, 90)}])
            return {"type": "integer", **bounds}
        case "number":
            low = round(rng.uniform(-100, 100), rng.randint(0, 4))
            return {"type": "number", "minimum": low, "maximum": round(low + rng.uniform(0.01, 500), 4)}
        case "boolean" | "null":
            return {"type": kind}
        case "enum":
            return {"enum": list({json.dumps(value): value for value in (scalar() for _ in range(rng.randint(1, 5)))}.values())}
        case "const":
            return {"const": rng.choice([scalar(), [scalar(), scalar()], {"k": scalar()}])}
        case "pattern":
            return {"type": "string", "pattern": rng.choice(["^[a-c]{1,4}$", "^\\d{2}:\\d{2}$", "^(yes|no|maybe)$", "^#[0-9a-f]{6}$", "^[A-Z][a-z]{0,5}( [A-Z][a-z]{0,5})?$", "^.{1,3}x$"])}
        case "types":
            return {"type": rng.sample(["boolean", "null"], rng.randint(1, 2))}
        case "array":
            low = rng.randint(0, 2)
            return {"type": "array", "items": below(), "minItems": low, "maxItems": low + rng.randint(0, 2)}
        case "tuple":
            parts = [below() for _ in range(rng.randint(1, 3))]
            return {"type": "array", "prefixItems": parts, "items": False, "minItems": rng.randint(0, len(parts))}
        case "object":
            keys = rng.sample(["id", "name", "töwn", "a b", "x-y", "n", "tags", "\"q\"", "0"], rng.randint(0, 4))
            required = [key for key in keys if rng.random() < 0.6]
            return {"type": "object", "properties": {key: below() for key in keys}, "required": required, "additionalProperties": False}
        case "anyOf":
            return {"anyOf": [below() for _ in range(rng.randint(1, 3))]}
        case "allOf":
            low = rng.randint(0, 50)
            return {"allOf": [{"type": "integer", "minimum": low}, {"maximum": low + rng.randint(0, 50)}]}
        case "ref":
            return {"$ref": f"#/$defs/{rng.choice(['flag', 'list'])}"}


def schemas(n: int) -> list[dict]:
    rng = random.Random(20)
    definitions = {"flag": {"type": "boolean"}, "list": {"type": "array", "items": {"enum": [1, 2, 3]}, "maxItems": 2}}
    return BY_HAND + [drawn(rng) | {"$defs": definitions} for _ in range(n)]


def answer(model: inference.Model, chain: inference.Sampler, logits: list, rng: random.Random) -> bytes | None:
    """What random logits say; None if that has no end."""
    out = b""
    for _ in range(MAX_TOKENS):
        token = chain.pick(rng.choice(logits))
        if model.is_eog(token):
            return out
        out += model.token_bytes(token)
    return None


def said(model: inference.Model, schema: dict, seed: int) -> bytes | None:
    """What the model itself says."""
    options = {"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}
    options_json = json.dumps(options).encode()
    chain = model.sampler(seed=seed, temperature=3.0)
    generation = model.session().generate("It is", max_tokens=MAX_TOKENS, sampler=chain, options_json=options_json, options_len=len(options_json))
    events = list(generation)
    return "".join(event.text for event in events).encode() if events[-1].finish == "eos" else None


def check(validator, text: bytes | None, what: str) -> bool:
    try:
        validator.validate(json.loads(text if text is not None else b"(no end)"))
        return True
    except Exception as error:  # noqa: BLE001: whatever is wrong with an answer is told
        print(f"  {what}: {str(error).splitlines()[0]}\n    {text!r}\n    {json.dumps(validator.schema)[:400]}")
        return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default=ROOT / "models/demo.gguf")
    parser.add_argument("--quick", action="store_true", help="two seeds and every tenth schema, for `make test`")
    asked = parser.parse_args()
    try:
        import jsonschema
    except ImportError:
        print("  PyPI jsonschema is not installed: skipped the conformance of schemas")
        return 0
    inference.use(os.environ.get("INF_LIBRARY", ROOT / "build/libinference.so.0"))
    model = inference.load(asked.model)
    all_schemas = schemas(N_DRAWN)[:: 10 if asked.quick else 1]
    n_seeds, rng = 2 if asked.quick else 20, random.Random(1)
    n_vocab = model.info().n_vocab
    gauss = [array.array("f", (rng.gauss(0, 3) for _ in range(n_vocab))) for _ in range(50)]
    logits = [(inference.c_float * n_vocab).from_buffer(row) for row in gauss]
    n_answers = n_wrong = n_refused = 0
    for i, schema in enumerate(all_schemas):
        validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
        try:
            chain = model.sampler(temperature=1.0)
            chain.set_constraint("json_schema", schema)
        except inference.Error as error:
            n_refused += 1
            print(f"  schema {i}: refused: {error}\n    {json.dumps(schema)[:300]}")
            continue
        for seed in range(n_seeds):
            inference.call("sampler_set_seed", chain.raw, seed)
            chain.reset()
            n_wrong += not check(validator, answer(model, chain, logits, rng), f"schema {i}, seed {seed}")
            n_answers += 1
        if i % 10 == 0:
            n_wrong += not check(validator, said(model, schema, i), f"schema {i}, by the model")
            n_answers += 1
    print(f"  {len(all_schemas)} schemas, {n_refused} refused; {n_answers} answers, {n_wrong} of them invalid or without an end")
    return 1 if n_wrong or n_refused * 50 > len(all_schemas) else 0


if __name__ == "__main__":
    sys.exit(main())
