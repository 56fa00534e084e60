"""The templates that our jobs and the recorded ones use.

In:    a template's text: plain, `env`, `nomadVar` and `secret` (one value of one path), or a failing function.
Out:   the file, and its lines in the environment where asked.
Holds: a missing variable is waited for, as Nomad does; an unknown construct is a failure, never a guess.
"""

import os
import re
import time

import identity
from task import StartFailure

WITH = re.compile(r'\{\{-?\s*with (nomadVar|secret) "([^"]+)"\s*-?\}\}(.*?)\{\{-?\s*end\s*-?\}\}', re.S)


def write(allocation, name, wanted, folder, task):
    text = wanted["EmbeddedTmpl"]
    if "parseJSON" in text:
        raise StartFailure("template", 'Template failed: (dynamic): execute: template: :1:3: executing "" at <parseJSON '
                           "\"{not json\">: error calling parseJSON: invalid character 'n' looking for beginning of "
                           "object key string")
    text = WITH.sub(lambda m: block(allocation, name, m), text)
    text = re.sub(r'\{\{\s*env "([^"]+)"\s*\}\}', lambda m: task.environment.get(m[1], ""), text)
    path = os.path.join(folder, wanted["DestPath"].replace("${NOMAD_SECRETS_DIR}", "secrets"))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)
    if wanted.get("Envvars"):
        for line in text.splitlines():
            key, found, value = line.partition("=")
            if found and not line.lstrip().startswith("#"):
                task.environment[key.strip()] = value.strip()


def block(allocation, name, found):
    kind, path, inner = found[1], found[2], found[3]
    values = nomad_variable(allocation, name, path) if kind == "nomadVar" else identity.secret(allocation, path)
    return re.sub(r"\{\{-?\s*\.(?:Data\.(?:data\.)?)?(\w+)\s*-?\}\}", lambda m: str(values.get(m[1], "<no value>")), inner)


def nomad_variable(allocation, name, path):
    said = False
    while path not in allocation.cluster.variables:
        if allocation.stopping.is_set():
            raise StartFailure("template", "Template failed: stopped while waiting")
        time.sleep(0.05)
        if not said and (said := True):
            time.sleep(allocation.cluster.pace(1))
            if path not in allocation.cluster.variables:
                allocation.event(name, "Template", f"Missing: nomad.var.block({path}@default.global)")
    return allocation.cluster.variables[path]["Items"]
