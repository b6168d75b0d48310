"""Checks bodies of webhooks against schemas/webhook.json.

    schema.py FILE

FILE is a JSON array of bodies. Prints a JSON array with a list of faults for each body; the list of a valid body is
empty.
"""

import json
import pathlib
import sys

import jsonschema

SCHEMA = pathlib.Path(__file__).resolve().parents[2] / "schemas/webhook.json"


def main():
    schema = json.loads(SCHEMA.read_text())
    kind = jsonschema.validators.validator_for(schema)
    kind.check_schema(schema)
    formats = kind.FORMAT_CHECKER
    # Without an extra package, instants would not be checked at all.
    assert not formats.conforms("yesterday", "date-time"), "the package rfc3339-validator is missing"
    validator = kind(schema, format_checker=formats)
    bodies = json.loads(pathlib.Path(sys.argv[1]).read_text())
    faults = [[f"{fault.json_path}: {fault.message}" for fault in validator.iter_errors(body)] for body in bodies]
    print(json.dumps(faults))


if __name__ == "__main__":
    main()
